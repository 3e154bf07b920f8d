package shed

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Gradient finds how many requests the servers of a pool can have in flight
// before they only queue, from how latency answers to it.
//
// It is Netflix's Gradient2 (concurrency-limits), with Envoy's measuring of the
// baseline (adaptive concurrency filter, "minRTT"): after each window of samples
//
//	gradient = tolerance x baseline / latency, within 1/2 and 1
//	limit    = limit x gradient + sqrt(limit)
//
// so the limit grows by its square root while latency stays within the
// tolerance, and shrinks by how far it is beyond; it grows only while it is
// used. The baseline is the latency without a queue of our own making. It
// follows a fall. A rise is harder: latency under a limit that is reached is
// mostly our queue, and taken for the baseline it would raise the limit, and
// thereby the queue, without end, as Gradient2's average does under lasting
// overload. So the baseline drifts up only while the limit is not reached and
// latency is within the tolerance; otherwise the limit is lowered for a moment
// every 15 s, to look below the queue (as Envoy does, and BBR's ProbeRTT). If
// latency is the same there, it is the servers that have become slower, and the
// baseline is what was seen: that is how it recovers from a minimum that does
// not come back.
//
// Latencies are averaged by their logarithm: a few long polls or uploads among
// many short requests move that little.
//
// Where several nodes share the servers, each sees the others' queue too, and
// cannot tell it from slower servers by itself. So their probes begin together,
// at whole multiples of 15 s: all times are to be of a scale that is the same on
// all nodes to about 0.4 s, the Unix time at the start and monotonic since. In a
// simulated overload of ten minutes by three nodes, limits stay at the knee then;
// with clocks 11 s apart, latency rises after some minutes, to several times the
// best one after ten. [Adaptive.Max] bounds it.
//
// Every method may be called by any goroutine. A sample costs one atomic
// addition and a few loads; whoever closes a window does its arithmetic, and
// nobody waits for that.
type Gradient struct {
	config atomic.Pointer[Adaptive]
	limit  atomic.Int64

	// The present window: samples in the upper 24 bits, the sum of their
	// logarithms in the lower 40.
	window atomic.Uint64
	most   atomic.Int64 // in flight, in the window
	ends   atomic.Int64 // when it may be closed
	from   atomic.Int64 // requests that ended earlier are not sampled

	closing atomic.Bool // guards control
	control control
}

const (
	sumBits      = 40
	leastSamples = 50 // of a window, as in Envoy
)

// NewGradient returns a Gradient that begins at the minimum: latency has to be
// measured before there is a queue. It doubles from window to window until it
// meets resistance.
func NewGradient(a Adaptive) *Gradient {
	a = a.withDefaults()
	g := &Gradient{control: newControl(a)}
	g.config.Store(&a)
	g.limit.Store(int64(a.Min))
	return g
}

// Retune changes the bounds, and keeps what was learned. The limit is within
// them after the next window.
func (g *Gradient) Retune(a Adaptive) {
	a = a.withDefaults()
	g.config.Store(&a)
}

// Limit is the present limit.
func (g *Gradient) Limit() int { return int(g.limit.Load()) }

// Sample takes the latency of one request that ended now: from when it was sent
// to the server until the response's head came, or until the caller gave up on
// it. Responses that took no work, such as refused connections and quick errors,
// are not to be sampled: an overloaded server that fails at once would look
// fast. inFlight is the pool's, the request included.
//
// closed: a window was closed, and the caller sets the gate to the limit. That
// is so even if the limit is the same, so that a gate which was set by two
// callers in the wrong order is mended by the next.
func (g *Gradient) Sample(latency time.Duration, inFlight int, now time.Duration) (limit int, closed bool) {
	if int64(now) >= g.from.Load() {
		g.window.Add(1<<sumBits | logarithm(latency))
		for n := int64(inFlight); ; {
			most := g.most.Load()
			if n <= most || g.most.CompareAndSwap(most, n) {
				break
			}
		}
	}
	if int64(now) < g.ends.Load() || !g.closing.CompareAndSwap(false, true) {
		return g.Limit(), false
	}
	defer g.closing.Store(false)
	return g.close(now)
}

// close ends the present window, unless it has too few samples still. The
// caller has closing.
func (g *Gradient) close(now time.Duration) (limit int, closed bool) {
	if int64(now) < g.ends.Load() {
		return g.Limit(), false // somebody has just closed it
	}
	samples := int(g.window.Load() >> sumBits)
	if samples < leastSamples && !g.control.hopeless(now) {
		return g.Limit(), false
	}
	w := g.window.Swap(0)
	most := int(g.most.Swap(0))
	c := &g.control
	if samples = int(w >> sumBits); samples < leastSamples {
		c.abandon(now)
	} else {
		latency := antilogarithm(float64(w&(1<<sumBits-1)) / float64(samples))
		c.step(*g.config.Load(), latency, most, now)
	}
	g.from.Store(int64(c.from))
	g.ends.Store(int64(c.ends))
	g.limit.Store(int64(c.present()))
	return g.Limit(), true
}

// logarithm is 256 times the logarithm of d to base 2, taken as linear between
// two powers. With a sum of these in 40 bits, a window may have 2^26 samples.
func logarithm(d time.Duration) uint64 {
	n := uint64(max(d, 1))
	power := bits.Len64(n) - 1
	return uint64(power)<<8 | n<<(63-power)<<1>>56
}

// antilogarithm is the inverse, in nanoseconds.
func antilogarithm(l float64) float64 {
	power, rest := math.Modf(l / 256)
	return math.Ldexp(1+rest, int(power))
}
