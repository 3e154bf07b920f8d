package shed

import (
	"math"
	"time"
)

// control is the law by which a [Gradient] moves: plain arithmetic, one step
// for each window.
type control struct {
	limit    float64 // as if there were no probe
	doubling bool    // since the start, until latency first rises

	warm     bool    // a window has passed
	baseline float64 // ns; 0: nothing was measured yet
	recent   float64 // latency, averaged over some windows; ns

	probe     float64       // the limit during a probe; 0: none
	began     time.Duration // of the probe
	nextProbe time.Duration

	from, ends time.Duration // which requests the next window samples, and when it ends
}

const (
	leastWindow = 100 * time.Millisecond
	mostWindow  = 5 * time.Second

	// Shares of a step that are taken at once. Latency answers to a change of
	// the limit a window later: full steps would oscillate.
	growth = 0.2
	shrink = 0.5

	reached = 0.9 // of the limit in flight counts as having reached it

	// The baseline moves by these shares in a window. Windows are noisy: a fast
	// fall would make it the luckiest window of all.
	fall   = 0.05
	drift  = 0.01
	smooth = 0.3 // the same of the recent latency

	probeEvery = 15 * time.Second
	probeCost  = 20 // at least that many times its own length from one to the next
	leastProbe = 400 * time.Millisecond
	giveUp     = 5 * time.Second // on a probe, beyond several times the latency
	probeShare = 1.5             // a probe's limit is lower by the tolerance and this: below the knee
	probeRise  = 3               // of the baseline by one probe at most: it may have met a pause
	flat       = 0.9             // of the latency before, in a probe: there was no queue
)

func newControl(a Adaptive) control {
	return control{limit: float64(a.Min), doubling: true}
}

// present is the limit to enforce now.
func (c *control) present() int {
	if c.probe > 0 {
		return int(c.probe)
	}
	return int(c.limit)
}

// step takes a window: its mean latency in ns, and the most that were in flight.
func (c *control) step(a Adaptive, latency float64, most int, now time.Duration) {
	if c.probe > 0 {
		c.endProbe(latency, now)
		return
	}
	if !c.warm {
		// The first to end are the short ones among those that began: wait
		// until long ones have had the time to be among the samples.
		c.warm = true
		c.from = now + window(latency)
		c.ends = c.from + window(latency)
		return
	}
	full := float64(most) >= reached*c.limit
	switch {
	case c.baseline == 0:
		c.baseline, c.recent = latency, latency
		c.nextProbe = nextMultiple(now, probeEvery)
	case latency < c.baseline:
		c.baseline += fall * (latency - c.baseline)
	case !full && latency <= a.Tolerance*c.baseline:
		c.baseline += drift * (latency - c.baseline)
	}
	c.recent += smooth * (latency - c.recent)
	c.move(a, latency, most)
	c.from, c.ends = 0, now+window(latency)

	if now < c.nextProbe {
		return
	}
	if full || c.recent > a.Tolerance*c.baseline {
		c.beginProbe(a, latency, now)
		return
	}
	c.nextProbe = nextMultiple(now, probeEvery) // all is well, and nothing in doubt
}

// move is the gradient's step.
func (c *control) move(a Adaptive, latency float64, most int) {
	gradient := min(max(a.Tolerance*c.baseline/latency, 0.5), 1)
	target := c.limit*gradient + math.Sqrt(c.limit)
	if gradient < 1 {
		c.doubling = false
	}
	used := float64(most) >= c.limit/2
	switch {
	case target < c.limit:
		c.limit += shrink * (target - c.limit)
	case !used: // it would grow without having been tested
	case c.doubling:
		c.limit *= 2
	default:
		c.limit += growth * (target - c.limit)
	}
	c.limit = min(max(c.limit, float64(a.Min)), float64(a.Max))
}

// beginProbe lowers the limit to look below the queue. What ends before the
// queue has drained, or while other nodes have not begun yet, is not sampled.
func (c *control) beginProbe(a Adaptive, latency float64, now time.Duration) {
	c.probe = max(c.limit/(a.Tolerance*probeShare), float64(a.Min))
	c.began = now
	c.from = now + max(window(latency), leastProbe)
	c.ends = c.from + max(window(latency), leastProbe)
}

// endProbe takes the latency under the lowered limit. If that is as high as
// before, there was no queue to look below: the servers have become slower, and
// this is the new baseline. If it fell, but not to the baseline, a queue may be
// left that other nodes keep up: nothing was learned. Taking it for the baseline
// would let nodes that probe at different times raise each other's without end.
func (c *control) endProbe(latency float64, now time.Duration) {
	switch {
	case latency < c.baseline:
		c.baseline = latency
	case latency > flat*c.recent:
		c.baseline = min(latency, probeRise*c.baseline)
	}
	c.recent = latency
	c.resume(now)
	c.ends = now + window(latency)
}

// hopeless reports whether a probe has gone on for too long without samples.
func (c *control) hopeless(now time.Duration) bool {
	return c.probe > 0 && now > c.ends+5*(c.from-c.began)+giveUp
}

// abandon ends a probe that learned nothing.
func (c *control) abandon(now time.Duration) {
	c.resume(now)
	c.ends = now + leastWindow
}

func (c *control) resume(now time.Duration) {
	c.probe = 0
	c.from = 0
	c.nextProbe = nextMultiple(now+max(probeCost*(now-c.began)-probeEvery, 0), probeEvery)
}

// window is how long to sample: two latencies, so that the requests sampled
// were mostly sent under the present limit.
func window(latency float64) time.Duration {
	return min(max(time.Duration(2*latency), leastWindow), mostWindow)
}

func nextMultiple(now, of time.Duration) time.Duration { return now - now%of + of }
