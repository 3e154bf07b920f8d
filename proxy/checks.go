package proxy

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
)

// runningCheck is the check of one server.
type runningCheck struct {
	spec   check.Spec
	terms  *pool.Terms // of the pool, when it was made
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
			if !wanted[server] || running.timing != t || !running.spec.Equal(*c.Check) || followsTerms(c) && running.terms != s.pool.Terms() {
				running.task.Stop()
				delete(s.checks, server)
			}
		}
		if c.Check == nil {
			continue
		}
		shared, err := check.Compile(*c.Check)
		if err != nil {
			// Validate let it pass: servers would count as unknown for ever.
			p.log.Error("check cannot be made", "pool", c.Name, "error", err)
			continue
		}
		for server, want := range wanted {
			if !want || s.checks[server] != nil {
				continue
			}
			probe := shared
			if followsTerms(c) {
				if probe, err = check.Compile(asTraffic(c, s.pool.Terms(), server)); err != nil {
					p.log.Error("check cannot be made", "pool", c.Name, "server", server.Name, "error", err)
					continue
				}
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
				s.checks[server] = &runningCheck{*c.Check, s.pool.Terms(), t, p.checks.Start(task)}
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

// followsTerms reports whether the checks of a pool depend on how its servers
// are spoken to.
func followsTerms(c Pool) bool {
	return c.Check != nil && (c.TLS != nil && c.Check.TLS == nil || c.SendProxy != "")
}

// asTraffic is the check of one server with what goes before HTTP as requests
// have it: TLS, unless the check has its own, and a PROXY header, which says
// that the connection is nobody's.
func asTraffic(c Pool, t *pool.Terms, server *pool.Server) check.Spec {
	spec := *c.Check
	if spec.TLS == nil && t.TLS != nil {
		spec.TLS = t.TLS.Config(server.Address)
	}
	switch t.SendProxy {
	case 1:
		spec.Greeting = string(proxyproto.AppendV1(nil, netip.AddrPort{}, netip.AddrPort{}))
	case 2:
		header, _ := proxyproto.AppendV2(nil, proxyproto.Header{Local: true}, proxyproto.Extra{}) // nothing in it can be too long
		spec.Greeting = string(header)
	}
	return spec
}
