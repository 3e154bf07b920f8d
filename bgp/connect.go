package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// transport is how a session comes by its connection. A change of it touches
// no session that is up: the connection follows the new terms.
type transport struct {
	guard.Terms
	passive      bool
	connectRetry time.Duration
}

func transportOf(n Neighbor) transport {
	return transport{
		Terms:   guard.Terms{Router: n.Address, Password: n.Password, TTLSecurity: n.TTLSecurity, Multihop: n.Multihop},
		passive: n.Passive, connectRetry: n.ConnectRetry,
	}
}

// patience is how long an attempt to connect may take. A lost SYN is sent again
// by the kernel after a second at the earliest: a new attempt is as quick, and
// resolves neighbors anew.
func (t transport) patience() time.Duration { return max(t.connectRetry, time.Second) }

// entry is where a passive neighbor's connections come in. It is open also
// while a session is up: a router that was restarted may be back before its old
// session is found dead, and would wait minutes if it were refused.
type entry struct {
	mu    sync.Mutex
	door  *guard.Door // nil: none
	terms guard.Terms // of the door
}

// terms is the transport as it is now.
func (s *session) terms() transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transport
}

// tune gives the session another transport.
func (s *session) tune(t transport) {
	s.mu.Lock()
	if s.transport == t {
		s.mu.Unlock()
		return
	}
	s.transport = t
	l, interrupt := s.link, s.interrupt
	s.mu.Unlock()
	if interrupt != nil {
		interrupt()
	}
	if _, err := s.openDoor(); err != nil {
		s.log.Warn("cannot wait for the router", "error", err) // run tries again
	}
	if l != nil {
		if err := t.Change(l.router); err != nil {
			s.log.Warn("connection does not follow the new terms", "error", err)
		}
	}
}

// connect makes a connection to the router, or waits for the router's.
func (s *session) connect(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	t := s.transport
	s.interrupt = cancel
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.interrupt = nil
		s.mu.Unlock()
	}()
	door, err := s.openDoor()
	switch {
	case err != nil:
		return nil, err
	case door != nil:
		return s.wait(ctx, door, t.patience())
	}
	conn, err := t.Dial(ctx, s.params.router.Port(), s.params.source, t.patience())
	if ctx.Err() != nil {
		if err == nil {
			_ = conn.Close()
		}
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	return conn, nil
}

// wait takes the next connection of a passive neighbor.
func (s *session) wait(ctx context.Context, door *guard.Door, patience time.Duration) (*net.TCPConn, error) {
	s.setState(stateActive)
	overdue := time.NewTimer(patience)
	defer overdue.Stop()
	for {
		select {
		case conn := <-door.Came():
			return conn, nil
		case <-overdue.C:
			s.setError("the router has not connected, and this neighbor is passive, so it has to: " + door.Suspicion())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// openDoor returns the door of a passive neighbor, opened as the transport has
// it; nil if the session dials or ends.
func (s *session) openDoor() (*guard.Door, error) {
	s.entry.mu.Lock()
	defer s.entry.mu.Unlock()
	t := s.terms()
	wanted := t.passive && !s.isStopping()
	if s.entry.door != nil {
		if wanted && s.entry.terms == t.Terms {
			return s.entry.door, nil
		}
		s.entry.door.Close()
		s.entry.door = nil
	}
	if !wanted {
		return nil, nil
	}
	local := s.params.source
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if t.Router.Is6() {
			local = netip.IPv6Unspecified()
		}
	}
	door, err := s.ports.Listen(netip.AddrPortFrom(local, s.params.router.Port()), t.Terms)
	if err != nil {
		return nil, err
	}
	s.entry.door, s.entry.terms = door, t.Terms
	return door, nil
}

// closeDoor is for a session that has ended.
func (s *session) closeDoor() {
	s.entry.mu.Lock()
	defer s.entry.mu.Unlock()
	if s.entry.door != nil {
		s.entry.door.Close()
		s.entry.door = nil
	}
}
