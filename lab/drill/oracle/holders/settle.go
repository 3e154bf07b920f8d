package holders

import (
	"net/netip"
	"time"
)

// Quiet says when an address counts as settled: one alone claims it for so
// long, and never pauses for longer.
type Quiet struct {
	For   time.Duration
	Pause time.Duration // longer than the time between two questions
}

// DefaultQuiet fits questions that come every few milliseconds, and a machine
// that is busy.
var DefaultQuiet = Quiet{For: 300 * time.Millisecond, Pause: 100 * time.Millisecond}

// Settled gives the first time not before from at which one holder began to
// claim an address alone and go on doing so, as Quiet has it. claims are in
// order of time. ok is false if they show no such time.
func Settled(claims []Claim, address netip.Addr, from time.Time, q Quiet) (at time.Time, holder string, ok bool) {
	var last time.Time
	for _, c := range claims {
		if c.Address != address || c.At.Before(from) {
			continue
		}
		if c.Holder != holder || c.At.Sub(last) > q.Pause {
			at, holder = c.At, c.Holder
		}
		if last = c.At; last.Sub(at) >= q.For {
			return at, holder, true
		}
	}
	return time.Time{}, "", false
}

// Silence is the longest time from one claim of an address to the next, from
// one time to another, whose ends count as claims. claims are in order of time.
func Silence(claims []Claim, address netip.Addr, from, to time.Time) time.Duration {
	longest, last := time.Duration(0), from
	for _, c := range claims {
		if c.Address != address || c.At.Before(from) || c.At.After(to) {
			continue
		}
		longest, last = max(longest, c.At.Sub(last)), c.At
	}
	return max(longest, to.Sub(last))
}
