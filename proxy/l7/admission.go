package l7

import (
	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// This file is how an exchange comes to its pool's slots, and gives them back.

// start has the request, whose head was written, admitted to target.
func (x *exchange) start(target *pool.Pool) {
	now := x.w.loop.Now()
	x.pool = target
	target.Requested(now)
	waiter := &x.waiter
	if x.isCopy {
		waiter = nil // a copy does not wait
	} else if waiter.Wake == nil {
		waiter.Wake = x.wake
	}
	switch v := target.Gate().Admit(waiter, now); v {
	case shed.Admitted:
		x.enter()
	case shed.Queued:
		x.queued = true
		x.w.loop.Arm(&x.timer, target.QueueTimeout())
	default:
		x.saturated(v)
	}
}

// saturated turns the request away for the pool's sake.
func (x *exchange) saturated(v shed.Verdict) {
	why := poolFull
	switch v {
	case shed.QueueFull:
		why = queueFull
	case shed.QueueTimeout, shed.Canceled:
		why = queueTimeout
	case shed.ServersFull:
		why = serversFull
	}
	x.shed(503, why, x.pool.Gate().RetryAfter(x.w.loop.Now()))
}

// wake is called on any goroutine when it is the request's turn.
func (x *exchange) wake() {
	target := x.pool
	if !x.w.loop.Post(x.woken) && x.waiter.Claim() {
		target.Leave(clock.Now()) // the loop has ended
	}
}

func (x *exchange) woken() {
	if x.waiter.Claim() {
		x.queued = false
		x.enter()
		x.goOn()
	}
}

// enter: the pool takes the request.
func (x *exchange) enter() {
	now := x.w.loop.Now()
	x.admitted = true
	x.moved = now
	x.waited = now - x.began
	x.selection = x.pool.SelectFrom(x.home(), x.key, now)
	x.terms = x.pool.Terms()
	x.watch(x.site.HTTP.Exchange)
	x.tryNext()
}

// nextServer takes a slot of the next server that has one.
func (x *exchange) nextServer() *pool.Server {
	x.leaveServer()
	for {
		server := x.selection.Next()
		if server == nil || x.pool.Begin(server) {
			return server
		}
		x.full = true
		x.bond.passed(server)
	}
}

// leaveServer gives the server's slot back, and tells how it went.
func (x *exchange) leaveServer() {
	if x.server == nil {
		return
	}
	now := x.w.loop.Now()
	o := pool.Outcome{Kind: x.outcome, Now: now}
	switch {
	case x.outcome == pool.OK:
		o.Status, o.Latency = x.status, x.first-x.sent
	case x.sent > 0:
		o.Latency = now - x.sent
	}
	x.pool.End(x.server, o)
	x.server = nil
}
