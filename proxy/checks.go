package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// runningCheck is the check of one server.
type runningCheck struct {
	spec   check.Spec
	tls    *tls.ClientConfig
	terms  *pool.Terms // of the pool, when it was made
	timing timing
	task   *check.Running
}

// timing is what of a pool's health configuration a running check depends on.
type timing struct{ interval, fast, down, timeout time.Duration }

// prober makes the probes of a pool's servers: one for all, or one for each,
// where what goes before the question is a server's own.
type prober struct {
	spec   check.Spec
	shared check.Probe // nil: one for each
	client *tls.Client // of checks with TLS of their own; nil: as the pool
	terms  *pool.Terms // of the pool
}

// newProber compiles the check of c, which has one, on the certificates that
// are held.
func newProber(c Pool, held *tls.Store, terms *pool.Terms) (*prober, error) {
	b := &prober{spec: *c.Check, terms: terms}
	probe, err := check.Compile(b.spec)
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", c.Name, err)
	}
	if c.CheckTLS != nil {
		if b.client, err = held.Client(*c.CheckTLS); err != nil {
			return nil, fmt.Errorf("pool %s: check: tls: %w", c.Name, err)
		}
	}
	if b.client == nil && !followsTerms(c) {
		b.shared = probe
	}
	return b, nil
}

// followsTerms reports whether the checks of a pool depend on how its servers
// are spoken to.
func followsTerms(c Pool) bool {
	return c.TLS != nil && c.CheckTLS == nil || c.SendProxy != ""
}

// probe returns what asks a server, with what goes before the question as
// requests have it: TLS, unless the check has its own, and a PROXY header, which
// says that the connection is nobody's.
func (b *prober) probe(server netip.AddrPort) (check.Probe, error) {
	if b.shared != nil {
		return b.shared, nil
	}
	spec := b.spec
	switch {
	case b.client != nil:
		spec.TLS = b.client.Config(server)
	case b.terms.TLS != nil:
		spec.TLS = b.terms.TLS.Config(server)
	}
	if spec.TLS != nil {
		spec.TLS.ClientSessionCache = nil // a check is to see whether a new client gets through
	}
	switch b.terms.SendProxy {
	case 1:
		spec.Greeting = string(proxyproto.AppendV1(nil, netip.AddrPort{}, netip.AddrPort{}))
	case 2:
		header, _ := proxyproto.AppendV2(nil, proxyproto.Header{Local: true}, proxyproto.Extra{}) // nothing in it can be too long
		spec.Greeting = string(header)
	}
	return check.Compile(spec)
}

// probers makes those of all pools that have a check, by name.
func (p *Proxy) probers(config Config, terms map[string]*pool.Terms) (map[string]*prober, error) {
	made := make(map[string]*prober, len(config.Pools))
	for _, c := range config.Pools {
		if c.Check == nil {
			continue
		}
		b, err := newProber(c, p.certificates, terms[c.Name])
		if err != nil {
			return nil, err
		}
		made[c.Name] = b
	}
	return made, nil
}

// applyChecks starts, restarts and stops the checks of all servers. A check
// whose terms did not change runs on. Those that start are spread over one
// another, whatever pools they belong to.
func (p *Proxy) applyChecks(config []Pool, served map[string]*servedPool, made map[string]*prober) {
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
			if !wanted[server] || running.timing != t || !running.spec.Equal(*c.Check) || !reflect.DeepEqual(running.tls, c.CheckTLS) ||
				followsTerms(c) && running.terms != s.pool.Terms() {
				running.task.Stop()
				delete(s.checks, server)
			}
		}
		if c.Check == nil {
			continue
		}
		for server, want := range wanted {
			if !want || s.checks[server] != nil {
				continue
			}
			probe, err := made[c.Name].probe(server.Address)
			if err != nil {
				// It compiled before: the server would count as unknown for ever.
				p.log.Error("check cannot be made", "pool", c.Name, "server", server.Name, "error", err)
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
				s.checks[server] = &runningCheck{*c.Check, c.CheckTLS, s.pool.Terms(), t, p.checks.Start(task)}
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
