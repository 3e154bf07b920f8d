package l4

import (
	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// This file is how a relay comes to its pool's slots, and gives them back.
//
// The pool's budget of what may be sent again is not asked: a connection goes
// to another server only while no server has seen a byte of it.

// enter has the connection admitted to p.
func (r *relay) enter(p *pool.Pool) {
	r.pool, r.phase = p, waiting
	if r.waiter.Wake == nil {
		r.waiter.Wake = r.wake
	}
	switch v := p.Gate().Admit(&r.waiter, r.crew.loop.Now()); v {
	case shed.Admitted:
		r.admit()
	case shed.Queued:
		r.queued = true
		r.crew.loop.Arm(&r.timer, p.QueueTimeout())
	default:
		r.cut(saturated(v))
	}
}

func saturated(v shed.Verdict) reason {
	switch v {
	case shed.QueueFull:
		return queueFull
	case shed.QueueTimeout, shed.Canceled:
		return queueTimeout
	}
	return poolFull
}

// wake is called on any goroutine when it is the connection's turn.
func (r *relay) wake() {
	p := r.pool
	if !r.crew.loop.Post(r.woken) && r.waiter.Claim() {
		p.Leave(clock.Now()) // the loop has ended
	}
}

func (r *relay) woken() {
	if r.waiter.Claim() {
		r.queued = false
		r.admit()
	}
}

// admit: the pool takes the connection.
func (r *relay) admit() {
	now := r.crew.loop.Now()
	r.admitted = true
	r.waited = now - r.start
	r.phase = connecting
	r.pick = choose(r.pool, r.source.Addr(), now)
	r.connect()
}

// overdue: it waited for as long as the queue keeps one.
func (r *relay) overdue() {
	v := r.pool.Gate().Cancel(&r.waiter, r.crew.loop.Now())
	r.queued = false
	if v == shed.Admitted {
		r.admit()
		return
	}
	r.cut(saturated(v))
}

// leave gives back what the relay holds of its pool and of its client's share.
func (r *relay) leave(kind pool.OutcomeKind) {
	now := r.crew.loop.Now()
	if r.queued {
		r.queued = false
		r.admitted = r.pool.Gate().Cancel(&r.waiter, now) == shed.Admitted
	}
	r.pick.end(kind, now)
	if r.admitted {
		r.admitted = false
		r.pool.Leave(now)
	}
	if r.placed {
		r.placed = false
		r.site.Clients.Release(r.place)
	}
}
