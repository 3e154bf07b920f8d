package pool

import (
	"fmt"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// settled reports whether every server that is checked was checked at least
// once. Before, nobody is usable because nothing is known: that is how a pool
// begins, not an incident.
func (v *view) settled() bool {
	if !v.checked {
		return true
	}
	for _, m := range v.members {
		if m.State != health.Maintenance && !m.Health().Checked {
			return false
		}
	}
	return true
}

// Warning is what operators should know of who takes the pool's work; empty
// while primary servers do.
func (p *Pool) Warning() string {
	v := p.view.Load()
	switch v.choice.Tier {
	case balance.Backup:
		return fmt.Sprintf("no primary server is usable: backup %s takes the work", v.members[v.choice.Active[0]].Name)
	case balance.FailOpen:
		if v.settled() {
			return fmt.Sprintf("no server is healthy: failing open to all %d", len(v.choice.Active))
		}
	case balance.None:
		return "no server may take work: requests are refused"
	}
	return ""
}

// say logs the tier, once for each time that it is taken. The caller holds
// p.mu.
func (p *Pool) say(v *view) {
	tier := v.choice.Tier
	if tier == p.said || tier == balance.FailOpen && !v.settled() {
		return
	}
	first := p.said == ""
	p.said = tier
	switch tier {
	case balance.Primary:
		if !first {
			p.log.Info("pool is served by its primary servers again", "servers", len(v.choice.Active))
		}
	case balance.Backup:
		p.log.Warn("no primary server is usable: backup takes over", "server", v.members[v.choice.Active[0]].Name)
	case balance.FailOpen:
		p.log.Error("no server is healthy: failing open to all of them", "servers", len(v.choice.Active))
	case balance.None:
		p.log.Error("no server may take work: requests are refused", "servers", len(v.members))
	}
}
