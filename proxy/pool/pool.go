// Package pool is the run-time side of a pool of servers: it ties the pure
// decisions of proxy/policy to servers that live, count and change, and gives
// the engines lock-free calls: who gets this request and who next if that one
// refuses ([Pool.Select]), may it have one more ([Pool.Begin]), and how it
// went ([Pool.End]).
//
// Whatever is observed, checks and outcomes alike, is noted on the server and
// nothing more; [Pool.Run] draws the consequences for the pool, so that no
// event loop and no check waits for a large pool to be laid out anew, and so
// that many changes at one time cost one layout.
package pool

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
)

// Spec is what is configured of a pool.
type Spec struct {
	Checked  bool // the servers are checked actively; else they count as healthy
	Health   health.Config
	FailOpen bool // nobody usable: try everyone rather than no one
	Balance  balance.Config
	Limits   shed.Config
	Servers  []ServerSpec
}

// ServerSpec is what is configured of a server. Names are unique in a pool.
type ServerSpec struct {
	ID          string // of the configuration, a UUID; may be empty
	Name        string
	Address     netip.AddrPort
	Weight      int
	Backup      bool
	State       health.Admin
	Created     time.Time
	MaxInFlight int // 0: no limit
}

// Pool is a named pool. It keeps its identity across configuration changes:
// who holds a *Pool sees the present servers.
type Pool struct {
	name    string
	log     *slog.Logger
	changed func() // told after every change of anyone's health

	view atomic.Pointer[view] // never nil
	wake chan struct{}        // there is something to draw consequences of
	news atomic.Bool          // tell changed, whether or not the view changes

	limits limits
	terms  atomic.Pointer[Terms] // nil: the default

	// Sessions may be read and added to by anyone at any time.
	Sessions Sessions
	jar      atomic.Pointer[sticky.Jar] // nil: sessions are not kept on servers

	mu     sync.Mutex // serialises the makers of views
	spec   Spec
	ramped time.Duration // when factors of ramps were last set
	said   balance.Tier  // that was logged last
}

// New returns an empty pool. changed (not nil) is called, without locks held,
// after any server's health changed or its first check came in; it must not
// block.
func New(name string, log *slog.Logger, changed func()) *Pool {
	p := &Pool{name: name, log: log.With("pool", name), changed: changed, wake: make(chan struct{}, 1), limits: newLimits()}
	p.view.Store(&view{})
	return p
}

// Name is the pool's name.
func (p *Pool) Name() string { return p.name }

// Now is the scale of [Outcome.Now], and of all times of a pool.
func Now() time.Duration { return clock.Now() }

// Run draws the consequences of what is observed, and of the passing of time,
// until ctx ends. Without it the pool stays as the last Update made it.
func (p *Pool) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		now := Now()
		next := p.step(now)
		// A pool of thousands whose servers change in turn must not take more
		// than a tenth of a core: rest nine times as long as this took.
		if rest := 9 * (Now() - now); rest > time.Millisecond {
			select {
			case <-ctx.Done():
				return
			case <-time.After(rest):
			}
		}
		if next == never {
			timer.Stop()
		} else {
			timer.Reset(max(next-now, 0))
		}
	}
}

// poke has Run look, soon.
func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Update makes spec the pool's configuration. Servers of the same ID, name
// and address keep their health and counters.
func (p *Pool) Update(spec Spec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	spec.Health, spec.Balance, spec.Limits = spec.Health.WithDefaults(), spec.Balance.WithDefaults(), spec.Limits.WithDefaults()
	p.limits.configure(spec.Limits)
	if len(spec.Servers) == 1 {
		spec.Health.MaxFails = 0 // as nginx: the only server is never given up
	}
	type identity struct {
		id, name string
		address  netip.AddrPort
	}
	old := p.view.Load()
	known := make(map[identity]*Server, len(old.members))
	for _, m := range old.members {
		known[identity{m.ID, m.Name, m.Address}] = m.Server
	}
	members := make([]Member, 0, len(spec.Servers))
	for _, s := range spec.Servers {
		id := identity{s.ID, s.Name, s.Address}
		server := known[id]
		delete(known, id)
		if server == nil {
			server = newServer(s)
			server.machine = health.New(spec.Health.Fall, spec.Health.Rise)
			// A pool's first servers don't ramp, or a node would start slow;
			// one that joins servers that are warm does.
			server.cold = len(old.members) > 0
		}
		server.configure(&spec, s.State)
		limit := s.MaxInFlight
		if limit == 0 {
			limit = spec.Limits.ServerMaxInFlight
		}
		members = append(members, Member{
			Server: server, Weight: s.Weight, Backup: s.Backup, State: s.State, Created: s.Created, MaxInFlight: limit,
		})
	}
	for _, gone := range known {
		gone.retire()
	}
	p.spec = spec
	now := Now()
	standings, _ := p.assess(members, now)
	p.build(members, standings, now)
	p.poke()
}

// Observe takes the result of an active check of s, and says when the next
// one is due: wait, counted from the start of this one. down says that the
// server is out by its checks.
func (p *Pool) Observe(s *Server, ok bool, reason string, at time.Time) (wait time.Duration, down bool) {
	c := &p.view.Load().health
	s.mu.Lock()
	if !s.checked {
		s.mu.Unlock()
		return c.Interval, false // overtaken by a configuration change
	}
	before, first := s.machine.State(), !s.machine.Checked()
	changed := s.machine.Observe(ok)
	after := s.machine.State()
	s.lastCheck, s.lastReason = at, reason
	wait = c.Wait(&s.machine, rand.Float64())
	s.mu.Unlock()
	if changed {
		p.log.Info("server changed state", "server", s.Name, "address", s.Address, "from", before.String(), "to", after.String(), "reason", reason)
	}
	if changed || first {
		p.news.Store(true)
		p.poke()
	}
	return wait, after == health.Unhealthy
}

// Members returns the present servers in the order of configuration. The
// slice is shared: don't write to it.
func (p *Pool) Members() []Member { return p.view.Load().members }

// Checked reports whether the servers are checked actively.
func (p *Pool) Checked() bool { return p.view.Load().checked }

// Tier says which servers take new work.
func (p *Pool) Tier() balance.Tier { return p.view.Load().choice.Tier }
