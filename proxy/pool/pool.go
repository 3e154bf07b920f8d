// Package pool is the run-time side of a pool of servers: it ties the pure
// decisions of proxy/policy to servers that live, count and change, and gives
// the engines one lock-free call to make: who gets this request, and who next
// if that one refuses.
package pool

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// Spec is what is configured of a pool.
type Spec struct {
	Checked    bool // the servers are checked actively; else they count as healthy
	Fall, Rise int  // with Checked only
	FailOpen   bool // nobody usable: try everyone rather than no one
	Servers    []ServerSpec
}

// ServerSpec is what is configured of a server. Names are unique in a pool.
type ServerSpec struct {
	Name    string
	Address netip.AddrPort
	Weight  int
	Backup  bool
}

// Member is a server and what the present configuration says of it.
type Member struct {
	*Server
	Weight int
	Backup bool
}

// Pool is a named pool. It keeps its identity across configuration changes:
// who holds a *Pool sees the present servers.
type Pool struct {
	name    string
	log     *slog.Logger
	changed func() // told after every change of anyone's health

	view atomic.Pointer[view] // never nil

	mu   sync.Mutex // serialises the makers of views
	spec Spec
}

// view is one immutable generation of the pool.
type view struct {
	members []Member
	checked bool
	choice  balance.Choice
	picker  *balance.RoundRobin
}

// New returns an empty pool. changed (not nil) is called, without locks held,
// after any server's health changed or its first check came in; it must not
// block.
func New(name string, log *slog.Logger, changed func()) *Pool {
	p := &Pool{name: name, log: log.With("pool", name), changed: changed}
	p.view.Store(&view{picker: balance.NewRoundRobin(nil, 0)})
	return p
}

// Name is the pool's name.
func (p *Pool) Name() string { return p.name }

// Update makes spec the pool's configuration. Servers of the same name and
// address keep their health and counters.
func (p *Pool) Update(spec Spec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	type identity struct {
		name    string
		address netip.AddrPort
	}
	old := p.view.Load()
	known := make(map[identity]*Server, len(old.members))
	for _, m := range old.members {
		known[identity{m.Name, m.Address}] = m.Server
	}
	members := make([]Member, 0, len(spec.Servers))
	for _, s := range spec.Servers {
		server := known[identity{s.Name, s.Address}]
		if server == nil {
			server = &Server{Name: s.Name, Address: s.Address}
			server.machine = health.New(spec.Fall, spec.Rise)
		}
		server.mu.Lock()
		switch {
		case !spec.Checked:
			// Results of checks that no longer run must not outlive them.
			server.machine, server.lastReason, server.lastCheck = health.New(1, 1), "", time.Time{}
		default:
			server.machine.Retune(spec.Fall, spec.Rise)
		}
		server.mu.Unlock()
		members = append(members, Member{Server: server, Weight: s.Weight, Backup: s.Backup})
	}
	p.spec = spec
	p.rebuild(members)
}

// rebuild chooses anew who takes work. The caller holds p.mu.
func (p *Pool) rebuild(members []Member) {
	old := p.view.Load()
	candidates := make([]balance.Candidate, len(members))
	for i, m := range members {
		candidates[i] = balance.Candidate{
			Weight: m.Weight, Backup: m.Backup,
			Usable: !p.spec.Checked || m.Health().State == health.Healthy,
		}
	}
	choice := balance.Choose(candidates, p.spec.FailOpen)
	weights := make([]int, len(choice.Active))
	for i, a := range choice.Active {
		weights[i] = members[a].Weight
	}
	p.view.Store(&view{
		members: members,
		checked: p.spec.Checked,
		choice:  choice,
		picker:  balance.NewRoundRobin(weights, old.picker.Position()),
	})
	if old.choice.Tier == choice.Tier || old.choice.Tier == "" && choice.Tier == balance.Primary {
		return
	}
	switch choice.Tier {
	case balance.Primary:
		p.log.Info("pool is served by its primary servers again", "servers", len(choice.Active))
	case balance.Backup:
		p.log.Warn("no primary server is usable: backup takes over", "server", members[choice.Active[0]].Name)
	case balance.FailOpen:
		// Before the first results this is how a pool begins, not an incident.
		if p.allChecked(members) {
			p.log.Error("no server is healthy: failing open to all of them", "servers", len(choice.Active))
		}
	case balance.None:
		p.log.Error("no server may take work: requests are refused", "servers", len(members))
	}
}

func (p *Pool) allChecked(members []Member) bool {
	for _, m := range members {
		if !m.Health().Checked {
			return false
		}
	}
	return true
}

// Observe takes the result of an active check of s, made at a given time.
func (p *Pool) Observe(s *Server, ok bool, reason string, at time.Time) {
	p.mu.Lock()
	members := p.view.Load().members
	if !p.spec.Checked || !contains(members, s) {
		p.mu.Unlock()
		return // a check that was overtaken by a configuration change
	}
	before, after, first := s.observe(ok, reason, at)
	if before != after {
		p.log.Info("server changed state", "server", s.Name, "address", s.Address, "from", before.String(), "to", after.String(), "reason", reason)
		p.rebuild(members)
	}
	p.mu.Unlock()
	if first || before != after {
		p.changed()
	}
}

func contains(members []Member, s *Server) bool {
	for _, m := range members {
		if m.Server == s {
			return true
		}
	}
	return false
}

// Members returns the present servers in the order of configuration. The
// slice is shared: don't write to it.
func (p *Pool) Members() []Member { return p.view.Load().members }

// Checked reports whether the servers are checked actively.
func (p *Pool) Checked() bool { return p.view.Load().checked }

// Tier says which servers take new work.
func (p *Pool) Tier() balance.Tier { return p.view.Load().choice.Tier }
