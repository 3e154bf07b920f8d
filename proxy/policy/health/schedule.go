package health

import "time"

// Wait is the time from the start of one check to the start of the next, for
// a server whose machine is m: FastInterval while results against its state
// are being counted, DownInterval while it is unhealthy, else Interval; with a
// jitter of ±10 %, so that checks that began together drift apart. r is random
// in [0, 1). c has its defaults.
func (c Config) Wait(m *Machine, r float64) time.Duration {
	d := c.Interval
	switch {
	case m.Pending():
		d = c.FastInterval
	case m.State() == Unhealthy:
		d = c.DownInterval
	}
	return time.Duration(float64(d) * (0.9 + 0.2*r))
}

// First checks are spread: soon enough that a node is ready early, wide
// enough that they don't come as a burst.
const (
	firstAtLeast = 100 * time.Millisecond
	firstRate    = 5000 // checks a second
)

// First is when the i-th (from 0) of n checks that begin together starts,
// counted from now: within 100 ms, or, for many, at 5000 a second, but in any
// case within interval. Each has a slot of its own, and r, random in [0, 1),
// places it within the slot.
func First(i, n int, interval time.Duration, r float64) time.Duration {
	window := max(firstAtLeast, time.Duration(n)*time.Second/firstRate)
	return time.Duration(float64(min(window, interval)) * (float64(i) + r) / float64(max(n, 1)))
}
