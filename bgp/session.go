package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// params are what a session is made of: a change of any of them needs a new
// session, a change of anything else must not.
type params struct {
	name     string
	router   netip.AddrPort
	source   netip.Addr
	signed   bool // by TCP-MD5: a connection cannot begin or cease to be
	asn      uint32
	localASN uint32
	routerID netip.Addr
	holdTime time.Duration
}

func paramsOf(s State, n Neighbor) params {
	return params{
		name: n.Name, router: n.endpoint(), source: n.Source, signed: n.Password != "",
		asn: n.ASN, localASN: n.LocalASN, routerID: s.RouterID, holdTime: n.HoldTime,
	}
}

const (
	// firstRetry is how soon a lost or refused session is tried again; each
	// failure doubles it up to the neighbor's ConnectRetry. RFC 4271's fixed
	// timer would cost up to a second on every return.
	firstRetry = 100 * time.Millisecond
	// stopTimeout bounds how long a session may take to say goodbye.
	stopTimeout = time.Second
)

// session keeps one neighbor's session up, and announces routes on it. Its
// goroutine is run; the engine is its own.
type session struct {
	params  params
	engine  *engine
	ports   *guard.Ports
	log     *slog.Logger
	changed func() // called after each change of what status tells

	inherited *inheritance // of the process before; nil once taken up; run's own after start

	cancel context.CancelFunc // set by start
	done   chan struct{}      // closed when run has returned

	entry entry

	mu        sync.Mutex
	transport transport
	interrupt context.CancelFunc     // ends an attempt to connect; nil between two
	routes    map[netip.Prefix]Route // what the engine announces, canonical
	state     string
	since     time.Time
	lastError string
	flaps     int
	stopping  bool
	link      *link         // the current connection, nil between two
	news      chan struct{} // closed, and made anew, whenever the fields above or link's observer change
}

func newSession(p params, t transport, e *engine, ports *guard.Ports, log *slog.Logger, changed func()) *session {
	return &session{
		params: p, transport: t, engine: e, ports: ports, log: log, changed: changed, done: make(chan struct{}),
		routes: map[netip.Prefix]Route{}, state: stateIdle, news: make(chan struct{}),
	}
}

// start begins to hold the session; stop ends it.
func (s *session) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
}

// stop ends the session with CEASE, administrative shutdown, and returns when
// its goroutines have ended.
func (s *session) stop() {
	s.mu.Lock()
	s.stopping = true
	l := s.link
	established := s.state == stateEstablished
	s.mu.Unlock()
	if l != nil && established {
		s.engine.shutdown(l.peer, "pharos: neighbor removed or node stopping")
		select {
		case <-s.done:
		case <-time.After(stopTimeout):
		}
	}
	if s.cancel != nil {
		s.cancel()
		<-s.done
	}
	s.closeDoor()
	s.engine.stop()
}

func (s *session) run(ctx context.Context) {
	retry := firstRetry
	for {
		s.setState(stateConnect)
		if established := s.connectOnce(ctx); established {
			retry = firstRetry
		}
		if s.isStopping() || ctx.Err() != nil {
			s.setState(stateIdle)
			return
		}
		s.setState(stateActive)
		// Jitter as RFC 4271 10 has it: 75 to 100 %.
		pause := time.NewTimer(retry - time.Duration(rand.Int64N(int64(retry/4)+1)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			s.setState(stateIdle)
			return
		}
		retry = min(2*retry, s.terms().connectRetry)
	}
}

// connectOnce connects to the router and holds the connection until it ends. It
// says whether the session was established meanwhile.
func (s *session) connectOnce(ctx context.Context) bool {
	inherited := s.inherited
	s.inherited = nil
	var router *net.TCPConn
	var err error
	if inherited != nil {
		router = inherited.router
	} else {
		router, err = s.connect(ctx)
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.setError(err.Error())
		}
		return false
	}
	l, err := newLink(ctx, s, router)
	if err != nil {
		_ = router.Close()
		if ctx.Err() == nil {
			s.log.Error("cannot hand a connection to the BGP engine", "error", err)
			s.setError(err.Error())
		}
		return false
	}
	s.update(func() {
		s.link = l
		s.state = stateOpenSent
	})
	// The terms may have changed since it was made.
	if err := s.terms().Change(router); err != nil {
		l.end(fmt.Sprintf("cannot secure the connection: %v", err))
		l.close()
	}
	if inherited != nil {
		l.runInherited(ctx, inherited)
	} else {
		l.run(ctx)
	}
	s.mu.Lock()
	established, reason := l.observer.state == stateEstablished, l.observer.reason
	if reason == "" {
		reason = "the connection ended"
	}
	s.link = nil
	s.state = stateActive
	if established {
		s.since = time.Now()
	}
	if !s.stopping {
		s.lastError = reason
		if established {
			s.flaps++
		}
	}
	stopping := s.stopping
	s.tell()
	s.mu.Unlock()
	s.changed()
	if established && stopping {
		s.log.Info("BGP session ended", "reason", reason)
	} else if established {
		s.log.Warn("BGP session lost", "reason", reason)
	}
	return established
}

// observe runs f, which feeds the connection's observer, and carries over what
// came of it.
func (s *session) observe(l *link, f func(*observer)) {
	s.mu.Lock()
	updates := l.observer.updates
	f(l.observer)
	was := s.state
	up := false
	if s.link == l && was != l.observer.state {
		s.state = l.observer.state
		if up = s.state == stateEstablished; up {
			s.since = time.Now()
			s.lastError = s.missingFamilies(l.observer)
		}
	}
	moved := was != s.state || updates != l.observer.updates
	lacking := s.lastError
	s.tell()
	s.mu.Unlock()
	if up {
		s.log.Info("BGP session established")
		if lacking != "" {
			s.log.Warn("router does not take all routes", "reason", lacking)
		}
	}
	if moved {
		s.changed()
	}
}

// missingFamilies says which routes a router cannot be told because it did not
// negotiate their address family (RFC 4760 8). mu is held.
func (s *session) missingFamilies(o *observer) string {
	for p := range s.routes {
		if !o.negotiated(p) {
			family := "IPv6"
			if p.Addr().Is4() {
				family = "IPv4"
			}
			return fmt.Sprintf("the router did not negotiate %s unicast, so %s is not announced: activate that address family on the router", family, p)
		}
	}
	return ""
}

// cut ends the connection there is, if there is one: the router is lost.
func (s *session) cut(reason string) {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l != nil && !l.detaching.Load() {
		l.end(reason)
		l.close()
	}
}

func (s *session) setState(state string) {
	s.update(func() { s.state = state })
}

func (s *session) setError(text string) {
	s.mu.Lock()
	news := s.lastError != text
	s.mu.Unlock()
	if news {
		s.log.Warn("BGP session cannot start", "reason", text)
	}
	s.update(func() { s.lastError = text })
}

func (s *session) update(f func()) {
	s.mu.Lock()
	f()
	s.tell()
	s.mu.Unlock()
	s.changed()
}

// tell wakes whoever waits in confirm. mu is held.
func (s *session) tell() {
	close(s.news)
	s.news = make(chan struct{})
}

func (s *session) isEstablished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateEstablished
}

func (s *session) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *session) status() SessionStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SessionStatus{
		Neighbor: s.params.name, Established: s.state == stateEstablished, State: s.state,
		Since: s.since, LastError: s.lastError, Flaps: s.flaps,
	}
	if st.Established && s.link != nil {
		st.Announced = slices.SortedFunc(maps.Keys(s.link.observer.told), comparePrefix)
		for p := range s.routes {
			if !s.link.observer.negotiated(p) {
				st.Unspoken = append(st.Unspoken, p)
			}
		}
		slices.SortFunc(st.Unspoken, comparePrefix)
	}
	return st
}
