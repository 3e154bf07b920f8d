package pool

import (
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/shed"
)

// limits is what a pool takes at one time. It lives as long as the pool.
type limits struct {
	gate     *shed.Gate
	budget   *shed.RetryBudget
	gradient atomic.Pointer[shed.Gradient] // nil: the limit is not adaptive
}

func newLimits() limits {
	c := shed.Config{}.WithDefaults()
	return limits{gate: shed.NewGate(0, 0, c.QueueTimeout), budget: shed.NewRetryBudget(c)}
}

// configure takes a configuration, with its defaults. The caller holds p.mu.
func (l *limits) configure(c shed.Config) {
	l.gate.SetQueue(c.Queue, c.QueueTimeout)
	l.budget.Retune(c)
	switch g := l.gradient.Load(); {
	case c.Adaptive == nil:
		l.gradient.Store(nil)
	case g == nil:
		l.gradient.Store(shed.NewGradient(*c.Adaptive))
	default:
		g.Retune(*c.Adaptive)
	}
}

// Gate admits to the pool: whoever was admitted gives the slot back by
// [Pool.Leave].
func (p *Pool) Gate() *shed.Gate { return p.limits.gate }

// Leave gives a slot of the gate back, and wakes whose turn it is.
func (p *Pool) Leave(now time.Duration) {
	if w := p.limits.gate.Release(now); w != nil {
		w.Wake()
	}
}

// QueueTimeout is how long a request may wait for the gate.
func (p *Pool) QueueTimeout() time.Duration { return p.view.Load().limits.QueueTimeout }

// Requested notes a request, of which the pool's budget allows a share to be
// sent again; MaySendAgain takes one of these.
func (p *Pool) Requested(now time.Duration) { p.limits.budget.Request(now) }

// MaySendAgain reports whether a request that a server has seen may be sent
// to another one.
func (p *Pool) MaySendAgain(now time.Duration) bool { return p.limits.budget.Retry(now) }

// Answered notes how long a server took to begin its answer, for an adaptive
// limit. Not for answers and failures that come fast because something is
// wrong.
func (p *Pool) Answered(latency, now time.Duration) {
	g := p.limits.gradient.Load()
	if g == nil {
		return
	}
	if _, closed := g.Sample(latency, p.limits.gate.InFlight(), now); closed {
		p.poke()
	}
}

// relimit sets the gate's limit by all that bounds it, and wakes who may
// enter. The caller holds p.mu.
func (p *Pool) relimit(v *view, now time.Duration) {
	adaptive := 0
	if g := p.limits.gradient.Load(); g != nil {
		adaptive = g.Limit()
	}
	limit := shed.Least(v.limits.MaxInFlight, adaptive, v.capacity())
	for _, w := range p.limits.gate.SetLimit(limit, now, nil) {
		w.Wake()
	}
}

// capacity is what the servers that take work may have in flight together; 0:
// one of them has no limit. What hangs on servers that take none counts on
// top, or it would keep the others' work out.
func (v *view) capacity() int {
	sum := int64(0)
	for _, a := range v.choice.Active {
		limit := v.members[a].limit.Load()
		if limit == 0 {
			return 0
		}
		sum += limit
	}
	for i := range v.members {
		if m := &v.members[i]; m.aside.Load() {
			sum += m.InFlight.Load()
		}
	}
	return int(sum)
}
