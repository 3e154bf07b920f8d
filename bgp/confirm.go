package bgp

import (
	"context"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// receipt waits for the UPDATE that tells one step to the router.
type receipt struct {
	link   *link
	action action
	prefix netip.Prefix
	after  uint64 // how many such UPDATEs there were before
}

// apply carries out steps on the engine, and returns receipts for those that
// an established session will send at once. On an error the steps before it
// stand, and routes says so.
func (s *session) apply(steps []step) ([]receipt, error) {
	var receipts []receipt
	for _, st := range steps {
		prefix := st.route.Prefix
		s.mu.Lock()
		old := s.routes[prefix]
		if l := s.link; l != nil && s.state == stateEstablished && l.observer.negotiated(prefix) {
			count := l.observer.announced
			if st.action == withdraw {
				count = l.observer.withdrawn
			}
			receipts = append(receipts, receipt{l, st.action, prefix, count[prefix]})
		}
		s.mu.Unlock()

		var err error
		if st.action == withdraw {
			err = s.engine.withdraw(old)
		} else {
			err = s.engine.announce(st.route)
		}
		if err != nil {
			return receipts, err
		}
		s.mu.Lock()
		if st.action == withdraw {
			delete(s.routes, prefix)
		} else {
			s.routes[prefix] = st.route
		}
		s.mu.Unlock()
	}
	return receipts, nil
}

// planTo plans the way to desired from what the engine announces.
func (s *session) planTo(desired []Route) []step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return plan(s.routes, desired)
}

// confirm waits until the router's TCP has acknowledged all that the receipts
// stand for. A connection that ends meanwhile settles its receipts: the router
// forgets a lost session's routes, and the next session begins with all of
// the current ones. It returns false if ctx ended first.
func (s *session) confirm(ctx context.Context, receipts []receipt) bool {
	for {
		s.mu.Lock()
		var open *receipt
		for i := range receipts {
			if !s.settled(receipts[i]) {
				open = &receipts[i]
				break
			}
		}
		news := s.news
		s.mu.Unlock()
		if open == nil {
			break
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
	for _, r := range receipts {
		if !s.acknowledged(ctx, r.link) {
			return false
		}
	}
	return true
}

// settled: mu is held.
func (s *session) settled(r receipt) bool {
	if s.link != r.link {
		return true
	}
	if r.action == withdraw {
		return r.link.observer.withdrawn[r.prefix] > r.after
	}
	return r.link.observer.announced[r.prefix] > r.after
}

// acknowledged waits until the socket's send queue is empty. The kernel has no
// event for that, so it is asked every millisecond.
func (s *session) acknowledged(ctx context.Context, l *link) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if n, err := guard.Unacknowledged(l.router); err != nil || n == 0 {
			return true // an error means that the connection is closed: settled
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}
