package proxy

import (
	"context"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// firstCheckWithin spreads the first checks after a start or change: soon
// enough that a node is ready at once, wide enough not to burst.
const firstCheckWithin = 100 * time.Millisecond

// runningCheck is the check of one server.
type runningCheck struct {
	config Check
	cancel context.CancelFunc
}

// applyChecks starts, restarts and stops the checks of a pool's servers. A
// check whose terms did not change runs on. nil stops all.
func (p *Proxy) applyChecks(s *servedPool, config *Check) {
	wanted := make(map[*pool.Server]bool)
	if config != nil {
		for _, m := range s.pool.Members() {
			wanted[m.Server] = true
		}
	}
	for server, running := range s.checks {
		if !wanted[server] || !sameCheck(running.config, *config) {
			running.cancel()
			delete(s.checks, server)
		}
	}
	for server := range wanted {
		if s.checks[server] == nil {
			s.checks[server] = p.startCheck(s.pool, server, *config)
		}
	}
}

func (p *Proxy) startCheck(in *pool.Pool, server *pool.Server, config Check) *runningCheck {
	ctx, cancel := context.WithCancel(context.Background())
	terms := config.withDefaults()
	probe := check.TCP()
	if terms.HTTPPath != "" {
		probe = check.HTTP(terms.HTTPPath, terms.ExpectStatus)
	}
	schedule := check.Schedule{Interval: terms.Interval, Timeout: terms.Timeout, Spread: min(firstCheckWithin, terms.Interval)}
	p.group.Go(func() {
		check.Run(ctx, server.Address, schedule, probe, func(r check.Result) {
			in.Observe(server, r.OK, r.Reason, r.At)
		})
	})
	return &runningCheck{config: config, cancel: cancel}
}

// stopChecks ends all checks. The caller holds the turn.
func (p *Proxy) stopChecks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.state.pools {
		p.applyChecks(s, nil)
	}
}
