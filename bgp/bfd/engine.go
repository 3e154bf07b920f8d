package bfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what an Engine needs. All may be left out.
type Options struct {
	Logger *slog.Logger
	// Failed is told of each session that was Up and is lost, unless the
	// neighbor has taken it down on purpose. Changed is told whenever Status may
	// have changed. Both are called by the goroutine that Run was called on.
	Failed  func(peer string, s Status)
	Changed func()

	listen, to uint16 // ports, for tests; 0: 3784
}

// Engine holds sessions with peers. A thread of its own sends and receives for
// all of them (loop_linux.go); it waits for nobody.
type Engine struct {
	options  Options
	lateness lateness
	news     chan struct{}                         // has a value when some session's status has changed
	sessions atomic.Pointer[map[string]*published] // replaced by the loop

	mu      sync.Mutex
	phase   phase
	pending []Peer     // what Set was given before Run
	adopted []Handover // what Adopt was given
	loop    *loop      // while running
}

type phase int

const (
	fresh phase = iota
	running
	detached // only sending goes on
	stopped
)

// published is what one session shows to other threads.
type published struct {
	status   atomic.Pointer[Status]
	failures atomic.Int64
	lost     atomic.Pointer[Status] // as it was right after the last failure
	seen     int64                  // of failures: Run's goroutine's own
	was      State                  // as it was logged: the same
}

// Handover is a session on its way from one process to the next.
type Handover struct {
	Peer       string
	SourcePort uint16
	Session    Snapshot
	Since      time.Time
	Failures   int
}

// New returns an Engine that does nothing until Run.
func New(o Options) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.listen, o.to = cmp.Or(o.listen, controlPort), cmp.Or(o.to, controlPort)
	e := &Engine{options: o, news: make(chan struct{}, 1)}
	e.sessions.Store(&map[string]*published{})
	return e
}

// Run holds the sessions until ctx ends, then tells all peers that they are
// down on purpose, and returns a detection time later: until then it has told
// so more than once. After Detach it stops without a word. It runs once.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.phase != fresh {
		e.mu.Unlock()
		return errors.New("a BFD engine runs only once")
	}
	l, err := newLoop(e)
	if err != nil {
		e.phase = stopped
		e.mu.Unlock()
		return err
	}
	e.phase, e.loop = running, l
	peers, adopted := e.pending, e.adopted
	e.pending, e.adopted = nil, nil
	go l.run()
	l.do(func() { l.set(peers, adopted) })
	e.mu.Unlock()
	for {
		select {
		case <-e.news:
			e.report()
			continue
		case <-ctx.Done():
		}
		break
	}
	e.mu.Lock()
	quiet := e.phase == detached
	e.phase = stopped
	e.mu.Unlock()
	if !quiet {
		l.do(func() { l.set(nil, nil) })
	}
	l.do(func() { l.ending = true })
	<-l.done
	l.close()
	e.report()
	return nil
}

// Set makes peers those that sessions are held with. Sessions of peers that are
// gone are taken down on purpose; timers of others change while they are up. A
// peer whose Config is not valid, or whose name or address another one has,
// gives an error, and nothing has changed. Before Run, peers are kept for it.
func (e *Engine) Set(peers []Peer) error {
	if err := validate(peers); err != nil {
		return err
	}
	peers = append([]Peer(nil), peers...)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.phase {
	case fresh:
		e.pending = peers
	case running:
		e.loop.do(func() { e.loop.set(peers, nil) })
	case detached, stopped:
	}
	return nil
}

func validate(peers []Peer) error {
	var errs []error
	names, addresses := map[string]bool{}, map[string]bool{}
	for _, p := range peers {
		if err := p.Config.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("BFD with %s: %w", p.Name, err))
		}
		if !p.Address.IsValid() || names[p.Name] || addresses[p.Address.String()] {
			errs = append(errs, fmt.Errorf("BFD with %s at %s: it has no address, or another one has that name or address", p.Name, p.Address))
		}
		names[p.Name], addresses[p.Address.String()] = true, true
	}
	return errors.Join(errs...)
}

// Adopt gives the engine sessions of the process before it, to be called
// before Run. Run goes on with those of peers that Set was given.
func (e *Engine) Adopt(sessions []Handover) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == fresh {
		e.adopted = append(e.adopted, sessions...)
	}
}

// Detach returns the sessions with these peers for Adopt of the engine in
// another process. What was agreed last is still sent to them until Run's
// context ends, so that they do not miss us meanwhile, and nothing is received
// any more. Sessions with others end without a word.
func (e *Engine) Detach(peers []string) []Handover {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != running {
		return nil
	}
	e.phase = detached
	var out []Handover
	e.loop.do(func() { out = e.loop.detach(peers) })
	return out
}

// Status tells of the session with one peer.
func (e *Engine) Status(peer string) (Status, bool) {
	p := (*e.sessions.Load())[peer]
	if p == nil {
		return Status{}, false
	}
	return *p.status.Load(), true
}

// Sender tells how punctual the thread is that sends.
func (e *Engine) Sender() Sender { return e.lateness.read() }

// report tells others what has changed: the loop must not wait for them.
func (e *Engine) report() {
	type failure struct {
		peer   string
		status Status
	}
	var failures []failure
	for name, p := range *e.sessions.Load() {
		s := *p.status.Load()
		if n := p.failures.Load(); n > p.seen {
			p.seen, p.was = n, Down
			lost := *p.lost.Load() // it may be up again
			failures = append(failures, failure{name, lost})
			e.options.Logger.Warn("BFD session lost", "neighbor", name, "reason", lost.Reason)
		} else if p.was == Up && s.State != Up {
			e.options.Logger.Info("BFD session ended", "neighbor", name, "reason", s.Reason)
		}
		if s.State == Up && p.was != Up {
			e.options.Logger.Info("BFD session up", "neighbor", name, "transmit", s.Transmit, "detection", s.Detection)
		}
		p.was = s.State
	}
	if e.options.Failed != nil {
		for _, f := range failures {
			e.options.Failed(f.peer, f.status)
		}
	}
	if e.options.Changed != nil {
		e.options.Changed()
	}
}
