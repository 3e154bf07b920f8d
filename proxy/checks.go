package proxy

import (
	"math/rand/v2"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// runningCheck is the check of one server.
type runningCheck struct {
	spec   check.Spec
	timing timing
	task   *check.Running
}

// timing is what of a pool's health configuration a running check depends on.
type timing struct{ interval, fast, down, timeout time.Duration }

// applyChecks starts, restarts and stops the checks of all servers. A check
// whose terms did not change runs on. Those that start are spread over one
// another, whatever pools they belong to.
func (p *Proxy) applyChecks(config []Pool, served map[string]*servedPool) {
	var starts []func(i, n int)
	for _, c := range config {
		s := served[c.Name]
		h := c.Health.WithDefaults()
		t := timing{h.Interval, h.FastInterval, h.DownInterval, h.Timeout}
		wanted := make(map[*pool.Server]bool)
		for _, m := range s.pool.Members() {
			wanted[m.Server] = c.Check != nil && m.State != health.Maintenance
		}
		for server, running := range s.checks {
			if !wanted[server] || running.timing != t || !running.spec.Equal(*c.Check) {
				running.task.Stop()
				delete(s.checks, server)
			}
		}
		if c.Check == nil {
			continue
		}
		probe, err := check.Compile(*c.Check)
		if err != nil {
			// Validate let it pass: servers would count as unknown for ever.
			p.log.Error("check cannot be made", "pool", c.Name, "error", err)
			continue
		}
		for server, want := range wanted {
			if !want || s.checks[server] != nil {
				continue
			}
			starts = append(starts, func(i, n int) {
				task := check.Task{
					Server: server.Address, Probe: probe, Timeout: t.timeout,
					First: health.First(i, n, t.interval, rand.Float64()),
					Report: func(r check.Result) (next check.Next) {
						next.Wait, next.Down = s.pool.Observe(server, r.OK, r.Reason, r.At)
						return next
					},
				}
				s.checks[server] = &runningCheck{*c.Check, t, p.checks.Start(task)}
			})
		}
	}
	for i, start := range starts {
		start(i, len(starts))
	}
}

// stopPools ends all checks, and what draws consequences of them. It returns
// when the checks have ended. The caller holds the turn.
func (p *Proxy) stopPools() {
	p.mu.Lock()
	for _, s := range p.state.pools {
		s.retire()
	}
	p.mu.Unlock()
	p.checks.Wait()
}
