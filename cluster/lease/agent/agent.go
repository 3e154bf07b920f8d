// Package agent carries the leases of package lease between the members, over
// sessions of the control port, and keeps their time.
//
// A node asks each other member over a session of its own. A session tells more
// than its messages: when its claimant's process ends, the kernel closes it, and
// the member takes back at once what it had granted over it.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/cluster/lease"
)

// Config is what an Agent needs.
type Config struct {
	Self string
	// Listener takes the other members' sessions; Run closes it. Peer says who is
	// at the other end of one.
	Listener net.Listener
	Peer     func(net.Conn) (string, error)
	// Dial opens a session to a member, which must be the one that is named.
	Dial   func(ctx context.Context, node, address string) (net.Conn, error)
	Logger *slog.Logger // nil: nothing is logged
	// Now reads a clock that goes on while the machine is suspended. nil: the
	// kernel's CLOCK_BOOTTIME.
	Now func() time.Duration
}

// Peer is a member and where its control port is.
type Peer struct{ Name, Address string }

// Bidder is a node that would hold a resource.
type Bidder struct {
	Node string
	Rank uint32
}

// Times of a session.
const (
	// beat is how often a node says to a member what it bids for, were it nothing.
	beat = 100 * time.Millisecond
	// silence is how long an end may say nothing before the session is dropped.
	silence = time.Second
	// bidLife is how long a bid counts that was not repeated.
	bidLife   = 4 * beat
	dialLimit = time.Second
	writeTime = 500 * time.Millisecond
	retryMost = 400 * time.Millisecond
	queued    = 256 // messages that wait for one member; above, new ones are lost
)

// Agent is this node's part. Its methods may be called from any goroutine.
type Agent struct {
	cfg    Config
	logger *slog.Logger
	wake   chan struct{} // of size 1

	mu       sync.Mutex
	machine  *lease.Machine
	peers    map[string]*peer
	want     map[string]lease.Want
	bids     map[string]map[string]bid // others', by resource and node
	ours     map[string]uint32         // ranks of our bids
	sessions lease.Session
	last     map[string]summary
	changed  chan struct{} // closed at the next change
	group    *group        // nil: it does not run
	retired  bool          // see HandOver
	late     Lateness
}

type bid struct {
	rank uint32
	at   time.Duration
}

// summary is what of a state its watchers wait for.
type summary struct {
	held    bool
	epoch   uint64
	holder  string
	bidders int
}

// group is the goroutines of Run.
type group struct {
	sync.WaitGroup
	ctx context.Context
}

// New makes an agent that does nothing yet. See Run.
func New(cfg Config) *Agent {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = bootTime
	}
	a := &Agent{
		cfg: cfg, logger: cfg.Logger, wake: make(chan struct{}, 1),
		peers: make(map[string]*peer), want: make(map[string]lease.Want),
		bids: make(map[string]map[string]bid), ours: make(map[string]uint32),
		last: make(map[string]summary), changed: make(chan struct{}),
	}
	a.machine = lease.New(lease.Setup{
		Self: cfg.Self, Life: rand.Uint64(),
		// Rising over restarts of the whole cluster, for those who read it.
		Epoch:  uint64(time.Now().Unix()),
		Chance: func(below time.Duration) time.Duration { return rand.N(max(below, 1)) },
	}, cfg.Now())
	return a
}

// SetMembers names those who have a voice. This node is one if it is among them.
func (a *Agent) SetMembers(members []Peer) {
	a.locked(func(now time.Duration) {
		names := make([]string, 0, len(members))
		for _, m := range members {
			names = append(names, m.Name)
		}
		a.machine.SetMembers(names, now)
		for name, p := range a.peers {
			if !slices.Contains(members, Peer{name, p.address}) {
				p.stop()
				delete(a.peers, name)
			}
		}
		for _, m := range members {
			if m.Name != a.cfg.Self && a.peers[m.Name] == nil {
				a.peers[m.Name] = newPeer(m)
				a.attend(a.peers[m.Name])
			}
		}
	})
}

// SetWant says what to do with a resource, and tells the others: a node that
// would hold it bids. When it returns, a lease that is wanted no more is not
// held any more.
func (a *Agent) SetWant(resource string, bids bool, w lease.Want) {
	a.locked(func(now time.Duration) {
		if bids && !a.retired {
			a.ours[resource] = w.Rank
		} else {
			delete(a.ours, resource)
		}
		if a.want[resource] != w {
			a.want[resource] = w
			a.machine.SetWant(resource, w, now)
		}
	})
}

// Forget gives a resource back, and drops what is known of it.
func (a *Agent) Forget(resource string) {
	a.locked(func(now time.Duration) {
		a.machine.Forget(resource, now)
		delete(a.want, resource)
		delete(a.ours, resource)
		delete(a.last, resource)
	})
}

// State of a resource now, and how long a majority has said nothing.
func (a *Agent) State(resource string) (s lease.State, unanswered time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	s = a.machine.State(resource, now)
	return s, now - s.Answered
}

// WhileHeld calls f if the resource is held, and keeps it from being given back
// until f has returned. f must be quick and must not call the agent.
func (a *Agent) WhileHeld(resource string, f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.machine.State(resource, a.cfg.Now()).Held
	if held {
		f()
	}
	return held
}

// Bidders are the nodes that would hold a resource, this one included, the one
// that suits best first.
func (a *Agent) Bidders(resource string) []Bidder {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bidders(resource, a.cfg.Now())
}

// Changed is closed when any resource has another state or other bidders than
// at the time of the call.
func (a *Agent) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// HandOver ends this agent's part for the next process of the node: nothing is
// held when it returns, and nothing is granted or wanted any more. The others keep
// for a moment for the node what it had. What it returns is for Adopt.
func (a *Agent) HandOver() (handed []byte) {
	a.locked(func(now time.Duration) {
		handed = a.machine.HandOver(now)
		clear(a.ours)
		a.retired = true
	})
	return handed
}

// Adopt takes over from the node's process before, which has called HandOver.
func (a *Agent) Adopt(handed []byte) (err error) {
	a.locked(func(now time.Duration) { err = a.machine.Adopt(handed, now) })
	return err
}

// Run takes part until ctx ends. At its end everything has been given back.
func (a *Agent) Run(ctx context.Context) error {
	// Sessions outlast ctx by the time that the last releases take.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g := &group{ctx: inner}
	a.locked(func(time.Duration) {
		a.group = g
		for _, p := range a.peers {
			a.attend(p)
		}
	})
	g.Go(func() { a.keepTime(inner) })
	stop := context.AfterFunc(ctx, func() { _ = a.cfg.Listener.Close() })
	err := a.accept(ctx, inner)
	stop()
	a.locked(func(now time.Duration) {
		a.group = nil
		for resource := range a.want {
			a.machine.Forget(resource, now)
		}
		clear(a.want)
		clear(a.ours)
	})
	cancel()
	g.Wait()
	return err
}

// accept takes the others' sessions.
func (a *Agent) accept(ctx, inner context.Context) error {
	for {
		conn, err := a.cfg.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				<-ctx.Done() // the port is gone: what stands goes on
				return nil
			}
			return err
		}
		name, err := a.cfg.Peer(conn)
		if err != nil {
			a.logger.Warn("session for leases refused", "remote", conn.RemoteAddr().String(), "error", err)
			_ = conn.Close()
			continue
		}
		a.mu.Lock()
		if a.group != nil {
			a.group.Go(func() { a.serve(inner, conn, name) })
		}
		a.mu.Unlock()
	}
}

// Lateness is by how much later than planned what was due was done. Leases are lost
// where it comes near their terms: the machine is too busy for them.
type Lateness struct {
	Count    uint64
	Sum, Max time.Duration
}

// Lateness is that since the start.
func (a *Agent) Lateness() Lateness {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.late
}

// keepTime has the machine do what is due.
func (a *Agent) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var due time.Duration // 0: it was woken
	for {
		a.mu.Lock()
		now := a.cfg.Now()
		if due > 0 {
			late := max(now-due, 0)
			a.late = Lateness{a.late.Count + 1, a.late.Sum + late, max(a.late.Max, late)}
		}
		a.machine.Tick(now)
		a.settle(now, nil)
		next := min(a.machine.Next(now)-now, beat)
		a.mu.Unlock()
		// A machine whose step is to wait for another member may name the present.
		next = max(next, time.Millisecond)
		timer.Reset(next)
		select {
		case <-timer.C:
			due = now + next
		case <-a.wake:
			due = 0
		case <-ctx.Done():
			return
		}
	}
}

// locked runs f, sends what came of it, and tells the watchers.
func (a *Agent) locked(f func(now time.Duration)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	f(now)
	a.settle(now, nil)
	select {
	case a.wake <- struct{}{}: // something may be due sooner
	default:
	}
}

// settle sends what the machine has to say; answers go by reply.
func (a *Agent) settle(now time.Duration, reply func(lease.Message)) {
	for _, e := range a.machine.Take() {
		if e.Message.Kind == lease.Grant || e.Message.Kind == lease.Refuse {
			if reply != nil {
				reply(e.Message)
			}
			continue
		}
		if p := a.peers[e.To]; p != nil {
			p.send(e.Message)
		}
	}
	moved := false
	for resource := range a.want {
		s := a.machine.State(resource, now)
		is := summary{s.Held, s.Epoch, s.Holder, len(a.bidders(resource, now))}
		if a.last[resource] != is {
			a.last[resource], moved = is, true
		}
	}
	if moved {
		close(a.changed)
		a.changed = make(chan struct{})
	}
}
