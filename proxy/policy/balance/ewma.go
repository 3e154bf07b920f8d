package balance

import (
	"math"
	"time"
)

// Latency is measured as a peak EWMA, as in Twitter's Finagle: a sample above
// the average becomes the average at once; samples below it pull it down with
// a time constant, by the time that has passed, not by their number. What
// looks at the average between samples sees it decay, so that a server that
// was slow once is tried again.

// ewma is such an average and the time of its last sample: float32
// nanoseconds << 32 | ticks. 0 is no sample.
type ewma uint64

// A tick is 2^18 ns, about a quarter of a millisecond. Ticks wrap after 13
// days: what was idle for longer may look decayed less than it is.
const tickBits = 18

func ticks(now time.Duration) uint32 { return uint32(now >> tickBits) }

// perTick is the decay rate of a time constant.
func perTick(constant time.Duration) float64 {
	return float64(time.Duration(1)<<tickBits) / float64(constant)
}

func (e ewma) value() float64 { return float64(math.Float32frombits(uint32(e >> 32))) }

// kept is the share of the average that is left at tick.
func (e ewma) kept(tick uint32, rate float64) float64 {
	passed := int32(tick - uint32(e))
	if passed <= 0 { // the same tick, or another goroutine's slightly older time
		return 1
	}
	return math.Exp(-float64(passed) * rate)
}

// at is the average in nanoseconds as it looks at tick; 0 is unknown: no
// sample, or none that still counts.
func (e ewma) at(tick uint32, rate float64) float64 {
	if e == 0 {
		return 0
	}
	if v := e.value() * e.kept(tick, rate); v >= 1 {
		return v
	}
	return 0
}

// with is the average after a sample of x nanoseconds, at least 1.
func (e ewma) with(x float64, tick uint32, rate float64) ewma {
	if v := e.value(); x < v {
		kept := e.kept(tick, rate)
		x = max(v*kept+x*(1-kept), 1)
	}
	if int32(tick-uint32(e)) < 0 && e != 0 {
		tick = uint32(e)
	}
	return ewma(math.Float32bits(float32(x)))<<32 | ewma(tick)
}

// Observe takes one answer's latency, at the time now on a monotonic scale,
// the same one that Pick is given. For a request it is best the time from its
// last byte sent to the first byte of the response, which a slow client does
// not lengthen; for a connection, the time to connect. A time-out is a latency
// as well. It costs next to nothing unless the algorithm is Latency.
func (l *Load) Observe(now, latency time.Duration) {
	rate := math.Float64frombits(l.rate.Load())
	if rate == 0 {
		return
	}
	x, tick := max(float64(latency), 1), ticks(now)
	for {
		old := l.latency.Load()
		e := ewma(old).with(x, tick, rate)
		if uint64(e) == old || l.latency.CompareAndSwap(old, uint64(e)) {
			return
		}
	}
}

// failureCeiling bounds what quick failures make of a latency.
const failureCeiling = time.Second

// Fail takes a failure (a refused or broken connection, an answer of 5xx)
// that came after the time took. So that a server that fails quickly does not
// look quick, a failure counts as twice the present latency, up to a second;
// it counts as took if that is longer. A server of unknown latency stays
// unknown.
func (l *Load) Fail(now, took time.Duration) {
	present := l.Latency(now)
	if present == 0 {
		return
	}
	l.Observe(now, max(took, present, min(2*present, failureCeiling)))
}

// Latency is the present peak EWMA. 0 is unknown: not measured, or no sample
// that still counts.
func (l *Load) Latency(now time.Duration) time.Duration {
	rate := math.Float64frombits(l.rate.Load())
	return time.Duration(ewma(l.latency.Load()).at(ticks(now), rate))
}
