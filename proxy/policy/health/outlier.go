package health

import "time"

// Sign is what a request says of the server that it went to.
type Sign uint8

// The signs.
const (
	Good      Sign = iota // an answer below 500, or a connection that was served
	BadAnswer             // an answer of 500 to 599
	Failure               // a failed connect, a reset, garbage, a time-out
)

// Ejector counts rows of bad signs of one server, and remembers its
// ejections. Either row is ended by a good sign only: a server that answers
// 500 and resets by turns is no better than one that does one of them.
//
// Times are on any monotonic scale. The zero value is a server without
// ejections. It is not safe for concurrent use.
type Ejector struct {
	answers, failures int // in a row

	out   bool
	times int           // ejections that lengthen the next one
	until time.Duration // of the present ejection, or when the last one ended
}

// Observe takes a sign. While the server is out it takes none: what is still
// in flight then began before.
func (e *Ejector) Observe(s Sign) {
	switch {
	case e.out:
	case s == Good:
		e.answers, e.failures = 0, 0
	case s == BadAnswer:
		e.answers++
	case s == Failure:
		e.failures++
	}
}

// Rows are the answers of 500 to 599 and the failures in a row.
func (e *Ejector) Rows() (answers, failures int) { return e.answers, e.failures }

// Due reports whether a row is long enough for an ejection. Whether it is
// done depends on the pool: see [MayEject]. o has its defaults.
func (e *Ejector) Due(o *Outlier) bool {
	return o.Consecutive5xx > 0 && e.answers >= o.Consecutive5xx ||
		o.ConsecutiveErrors > 0 && e.failures >= o.ConsecutiveErrors
}

// Eject takes the server out, and returns until when: for BaseEjection times
// the number of ejections, at most MaxEjection. Every BaseEjection in service
// since the last one takes back one ejection. o has its defaults.
func (e *Ejector) Eject(o *Outlier, now time.Duration) (until time.Duration) {
	if calm := now - e.until; e.times > 0 && calm > 0 {
		e.times = max(0, e.times-int(min(calm/o.BaseEjection, time.Duration(e.times))))
	}
	// No more than what reaches the maximum, or a server that misbehaved for
	// long would take as long to be forgiven.
	e.times = min(e.times+1, int((o.MaxEjection+o.BaseEjection-1)/o.BaseEjection))
	e.answers, e.failures, e.out = 0, 0, true
	e.until = now + min(time.Duration(e.times)*o.BaseEjection, o.MaxEjection)
	return e.until
}

// Return ends an ejection whose time is over, and reports whether it did.
func (e *Ejector) Return(now time.Duration) (back bool) {
	if !e.out || now < e.until {
		return false
	}
	e.out = false
	return true
}

// Out reports whether the server is ejected.
func (e *Ejector) Out() bool { return e.out }

// Until is when the present ejection ends, or when the last one ended.
func (e *Ejector) Until() time.Duration { return e.until }

// MayEject reports whether one more server of a pool of so many, of which some
// are ejected, may be ejected, so that at most share of them are.
func MayEject(servers, ejected int, share float64) bool {
	const rounding = 1e-9 // 0.29 * 100 is 28.999999999999996
	return float64(ejected+1) <= share*float64(servers)+rounding
}
