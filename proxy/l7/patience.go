package l7

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// patience is how long nothing may move now, and whether it is the server who
// is waited for.
//
// A call of gRPC that has begun is like a tunnel: either side may be silent for
// long, and the deadline is the client's.
func (x *exchange) patience() (limit time.Duration, server bool) {
	h := &x.site.HTTP
	switch {
	case x.tunnel, x.grpc && x.headDone:
		return h.Tunnel, true
	case x.up == nil || !x.up.open():
		return h.Exchange, true // connecting is timed by itself
	}
	server = x.requestDone || x.up.pending() > 0
	if !x.headDone && (server || x.grpc) {
		return x.terms.Response, true
	}
	return h.Exchange, server
}

// watch looks again after d, and while the head is awaited at least as often as
// either of what is timed then or afterwards: the timer is not moved whenever a
// byte does, nor when somebody else is waited for.
func (x *exchange) watch(d time.Duration) {
	if !x.headDone {
		d = min(d, x.terms.Response, x.site.HTTP.Exchange)
	}
	x.w.loop.Arm(&x.timer, d)
}

// expired looks how long nothing moved.
func (x *exchange) expired() {
	if !x.active {
		return
	}
	if x.queued {
		v := x.pool.Gate().Cancel(&x.waiter, x.w.loop.Now())
		x.queued = false
		if v == shed.Admitted {
			x.enter()
			x.goOn()
		} else {
			x.saturated(v)
		}
		return
	}
	limit, server := x.patience()
	switch quiet := x.w.loop.Now() - x.moved; {
	case quiet < limit:
		x.watch(limit - quiet)
	case !server:
		x.fail(408, requestTimeout)
	default:
		x.outcome = pool.TimedOut
		x.fail(504, serverTimeout)
	}
}
