package health

import "time"

// Passive takes a server out by the failures of requests, as nginx's
// max_fails and fail_timeout do (ngx_http_upstream_round_robin.c): each
// failure counts, until a success comes more than the fail timeout after the
// last failure. At max fails the server takes no requests for the fail
// timeout, counted from the last failure; then one request tries it, and no
// further one for another fail timeout. A success brings it back, a failure
// keeps it out.
//
// So failures add up when each comes within the fail timeout of the one
// before, whatever succeeded in between: that is what nginx does, while its
// manual speaks of failures within one fail timeout.
//
// Times are on any monotonic scale. The zero value is a server without
// failures. It is not safe for concurrent use.
type Passive struct {
	fails int
	last  time.Duration // of the last failure
	tried time.Duration // when a request was last let through to an out server
	out   bool
}

// Fail counts the failure of a request, and reports whether it takes the
// server out. max below 1 counts nothing.
func (p *Passive) Fail(max int, now time.Duration) (out bool) {
	if max < 1 {
		return false
	}
	p.fails++
	p.last = now
	if p.out || p.fails < max {
		return false
	}
	p.out = true
	return true
}

// Succeed takes the success of a request, and reports whether it brings the
// server back.
func (p *Passive) Succeed(failTimeout, now time.Duration) (back bool) {
	if p.fails == 0 || now <= p.Heeds(failTimeout) {
		return false
	}
	back = p.out
	*p = Passive{}
	return back
}

// Heeds is the time until which a success changes nothing, if there are
// failures.
func (p *Passive) Heeds(failTimeout time.Duration) time.Duration { return p.last + failTimeout }

// Try notes that a request is let through to a server that is out.
func (p *Passive) Try(now time.Duration) { p.tried = now }

// Next is the time after which an out server may be tried by one request.
func (p *Passive) Next(failTimeout time.Duration) time.Duration {
	return max(p.last, p.tried) + failTimeout
}

// Out reports whether the server is out.
func (p *Passive) Out() bool { return p.out }

// Fails is the number of failures that count now.
func (p *Passive) Fails() int { return p.fails }

// Untry takes back a Try whose request ended without saying anything of the
// server: another one may be let through at once.
func (p *Passive) Untry() { p.tried = 0 }
