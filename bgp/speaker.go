package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/bgp/guard"
)

// Config is what a Speaker needs.
type Config struct {
	// Logger takes session events; nil: none are logged.
	Logger *slog.Logger
	// ConfirmTimeout bounds how long Reconcile, WithdrawAll and the end of Run
	// wait for routers to acknowledge an UPDATE. 0: 1s.
	ConfirmTimeout time.Duration
}

// ErrNotRunning is what a method returns that needs a running Speaker, after
// Run has ended.
var ErrNotRunning = errors.New("the BGP speaker has stopped")

// UnconfirmedError names the neighbors that did not acknowledge an UPDATE in
// time. The new state stands all the same: the UPDATE is queued, and if the
// router does not take it, the session ends by its hold time, and its routes
// with it.
type UnconfirmedError struct {
	Neighbors []string
	Timeout   time.Duration
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("no acknowledgement of the last BGP update within %s from %s", e.Timeout, strings.Join(e.Neighbors, ", "))
}

// Speaker holds the sessions and announces the routes of the State that it
// was last given. All methods are safe for concurrent use.
type Speaker struct {
	log            *slog.Logger
	confirmTimeout time.Duration
	events         chan struct{}
	bfd            *bfd.Engine

	// applying admits one change at a time; it is held for as long as one takes.
	applying sync.Mutex
	phase    phase
	pending  State         // what Reconcile was given before Run
	adopted  []Established // what Adopt was, and no neighbor has taken yet

	ports guard.Ports // where passive neighbors connect

	mu       sync.Mutex
	sessions []*session // in the order of State.Neighbors

	watchMu sync.Mutex
	wanted  []bfd.Peer // those with BFD in the State
	parting []bfd.Peer // those that had it, and whose routers watch us still
	watched []bfd.Peer // what BFD was given last
}

type phase int

const (
	fresh phase = iota
	running
	stopped
)

// New returns a Speaker that does nothing until Run.
func New(c Config) *Speaker {
	s := &Speaker{log: c.Logger, confirmTimeout: c.ConfirmTimeout, events: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.confirmTimeout <= 0 {
		s.confirmTimeout = time.Second
	}
	s.bfd = bfd.New(bfd.Options{Logger: s.log, Failed: s.lost, Changed: s.watchChanged})
	return s
}

// Run holds the sessions until ctx ends. Then it withdraws all routes, ends
// the sessions with CEASE, administrative shutdown (RFC 4486), and returns nil
// when nothing of it runs any more. It runs once.
func (s *Speaker) Run(ctx context.Context) error {
	s.applying.Lock()
	if s.phase != fresh {
		s.applying.Unlock()
		return errors.New("a BGP speaker runs only once")
	}
	s.phase = running
	// BFD first: it may go on with sessions that a router watches right now.
	err := s.want(s.pending)
	watch := s.watch(ctx)
	if err == nil {
		err = s.reconcile(ctx, s.pending)
	}
	s.pending = State{}
	s.dropAdopted()
	s.applying.Unlock()
	var unconfirmed *UnconfirmedError
	if err == nil || errors.As(err, &unconfirmed) {
		<-ctx.Done()
		err = nil
	}

	s.applying.Lock()
	defer s.applying.Unlock()
	s.phase = stopped
	// ctx is over, but saying goodbye is what remains to be done.
	last := context.WithoutCancel(ctx)
	if werr := s.withdrawAll(last, s.list()); werr != nil {
		s.log.Warn("not every router confirmed the last withdrawal", "error", werr)
	}
	stopAll(s.list())
	// BFD ends last, and on purpose: a router that heard of it first might take
	// it for a failure, and would have no withdrawal to go by.
	return errors.Join(err, watch())
}

// Reconcile makes state what the speaker does. An invalid state changes
// nothing and gives an *InvalidStateError; so does an engine that cannot be
// started. A neighbor whose own session parameters are as before keeps its
// session, whatever else changes. Before Run, the state is only kept for it.
//
// On nil, every router with an established session has the new state: the TCP
// of each has acknowledged the UPDATEs. What its routing table makes of them,
// and when, is for the caller to observe. An *UnconfirmedError says that the
// state stands, but some router was slow to acknowledge.
func (s *Speaker) Reconcile(ctx context.Context, state State) error {
	if err := state.Validate(); err != nil {
		return err
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	switch s.phase {
	case fresh:
		s.pending = state.clone()
		return nil
	case stopped:
		return ErrNotRunning
	case running:
	}
	return s.reconcile(ctx, state)
}

// WithdrawAll withdraws every route from every neighbor and keeps the sessions.
// It returns as Reconcile does; the next Reconcile announces anew.
func (s *Speaker) WithdrawAll(ctx context.Context) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	switch s.phase {
	case fresh:
		for i := range s.pending.Neighbors {
			s.pending.Neighbors[i].Routes = nil
		}
		return nil
	case stopped:
		return nil // Run has withdrawn everything
	case running:
	}
	return s.withdrawAll(ctx, s.list())
}

// Status tells of each neighbor, in the order of the State. Announced is what
// the router was really sent on the session that is up, not what is desired.
func (s *Speaker) Status() []SessionStatus {
	sessions := s.list()
	all := make([]SessionStatus, len(sessions))
	for i, session := range sessions {
		all[i] = session.status()
		if st, ok := s.bfd.Status(all[i].Neighbor); ok {
			all[i].BFD = &st
		}
	}
	return all
}

// Events has a value whenever Status may have changed since the last one was
// taken. It is for one reader, and never closed.
func (s *Speaker) Events() <-chan struct{} { return s.events }

func (s *Speaker) notify() {
	select {
	case s.events <- struct{}{}:
	default: // the reader has not looked since: one value is enough
	}
}

// changed is told by sessions.
func (s *Speaker) changed() {
	if err := s.rewatch(); err != nil {
		s.log.Error("BFD could not follow the BGP sessions", "error", err)
	}
	s.notify()
}

func (s *Speaker) list() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// reconcile needs a valid state; applying is held.
func (s *Speaker) reconcile(ctx context.Context, state State) error {
	current := map[string]*session{}
	engines := []*engine{}
	for _, session := range s.list() {
		current[session.params.name] = session
		engines = append(engines, session.engine)
	}

	// What can fail comes first, while nothing has changed.
	var next, created []*session
	kept := map[*session]Neighbor{}
	for _, n := range state.Neighbors {
		p := paramsOf(state, n)
		if old := current[n.Name]; old != nil && old.params == p {
			next = append(next, old)
			kept[old] = n
			continue
		}
		session, err := s.create(p, n, engines)
		if err != nil {
			stopAll(created)
			return err
		}
		engines = append(engines, session.engine)
		created = append(created, session)
		next = append(next, session)
	}

	var errs []error
	tickets := map[*session][]receipt{}
	for _, session := range next {
		n, ok := kept[session]
		if !ok {
			continue
		}
		session.tune(transportOf(n))
		receipts, err := session.apply(session.planTo(n.Routes))
		if err != nil {
			errs = append(errs, err)
		}
		tickets[session] = receipts
	}

	var removed []*session
	for _, session := range s.list() {
		if _, ok := kept[session]; !ok {
			removed = append(removed, session)
		}
	}
	s.mu.Lock()
	s.sessions = next
	s.mu.Unlock()
	if len(removed) > 0 {
		if err := s.withdrawAll(ctx, removed); err != nil {
			s.log.Warn("removed neighbor did not confirm the withdrawal", "error", err)
		}
		stopAll(removed) // before its successor, which may have the same router, starts
	}
	// A neighbor that goes has its BGP session ended before its BFD session.
	if err := s.want(state); err != nil {
		errs = append(errs, err)
	}
	for _, session := range created {
		session.start()
	}
	s.notify()
	return errors.Join(append(errs, s.confirm(ctx, tickets))...)
}

// create makes a session that announces routes once it is started.
func (s *Speaker) create(p params, n Neighbor, engines []*engine) (*session, error) {
	log := s.log.With("neighbor", p.name, "router", p.router.String())
	e, err := newEngine(p, engines, log)
	if err != nil {
		return nil, err
	}
	session := newSession(p, transportOf(n), e, &s.ports, log, s.changed)
	if _, err := session.apply(session.planTo(n.Routes)); err != nil {
		session.stop()
		return nil, err
	}
	if session.inherited, err = s.takeAdopted(p); err != nil {
		log.Warn("BGP session of before the upgrade ends", "error", err)
	}
	return session, nil
}

// withdrawAll: applying is held.
func (s *Speaker) withdrawAll(ctx context.Context, sessions []*session) error {
	var errs []error
	tickets := map[*session][]receipt{}
	for _, session := range sessions {
		receipts, err := session.apply(session.planTo(nil))
		if err != nil {
			errs = append(errs, err)
		}
		tickets[session] = receipts
	}
	s.notify()
	return errors.Join(append(errs, s.confirm(ctx, tickets))...)
}

// confirm waits for all receipts together.
func (s *Speaker) confirm(ctx context.Context, tickets map[*session][]receipt) error {
	ctx, cancel := context.WithTimeout(ctx, s.confirmTimeout)
	defer cancel()
	var late []string
	for session, receipts := range tickets {
		if !session.confirm(ctx, receipts) {
			late = append(late, session.params.name)
		}
	}
	slices.Sort(late)
	if len(late) > 0 {
		return &UnconfirmedError{Neighbors: late, Timeout: s.confirmTimeout}
	}
	return nil
}

func stopAll(sessions []*session) {
	var all sync.WaitGroup
	for _, session := range sessions {
		all.Go(session.stop)
	}
	all.Wait()
}

// clone keeps a State from its giver's later changes.
func (s State) clone() State {
	neighbors := make([]Neighbor, len(s.Neighbors))
	for i, n := range s.Neighbors {
		routes := make([]Route, len(n.Routes))
		for j, r := range n.Routes {
			routes[j] = r.canonical()
		}
		n.Routes = routes
		if n.BFD != nil {
			watched := *n.BFD
			n.BFD = &watched
		}
		neighbors[i] = n
	}
	s.Neighbors = neighbors
	return s
}
