package shed

import (
	"math"
	"sync/atomic"
	"time"
)

// The window of a RetryBudget: as many buckets of a second each, the present
// one included.
const budgetBuckets = 10

// RetryBudget bounds the retries of a pool, so that they cannot multiply the
// load of servers that fail because of load: to a share of the pool's requests
// of the last 10 s, and a few a second that are always allowed, so that a quiet
// pool retries at all. It is the idea of Finagle's RetryBudget and of "Handling
// Overload" in the SRE book (chapter 21). Whenever a retry is allowed, it is one
// of the least of this second, or
//
//	retries beyond the least, this one included <= share x requests
//
// both of the last 10 s.
//
// Every method may be called by any goroutine, and takes no lock. All times
// must be of one monotonic scale, and not negative.
type RetryBudget struct {
	share atomic.Uint64 // bits of the float64; negative: no retries
	least atomic.Int64  // free retries a second

	requests, free, paid ring
}

// NewRetryBudget returns a budget with nothing in it yet, by RetryBudget and
// RetryMin of c, with its defaults filled in.
func NewRetryBudget(c Config) *RetryBudget {
	b := &RetryBudget{}
	b.Retune(c)
	return b
}

// Retune changes the bounds and keeps what was counted.
func (b *RetryBudget) Retune(c Config) {
	c = c.WithDefaults()
	b.share.Store(math.Float64bits(c.RetryBudget))
	b.least.Store(int64(c.RetryMin))
}

// Request counts a request, once, however often it is tried.
func (b *RetryBudget) Request(now time.Duration) { b.requests.add(now) }

// Retry asks whether one more attempt may be made now, and counts it if so.
func (b *RetryBudget) Retry(now time.Duration) bool {
	share := math.Float64frombits(b.share.Load())
	if share < 0 {
		return false
	}
	if int64(b.free.add(now)) <= b.least.Load() {
		return true
	}
	// Counted first and taken back if it was too much: two who ask at the same
	// moment may both be refused, but are never both allowed the last one.
	b.paid.add(now)
	if float64(b.paid.sum(now)) <= share*float64(b.requests.sum(now)) {
		return true
	}
	b.paid.takeBack(now)
	return false
}

// ring counts events by the second. Each bucket is one word: its second in the
// upper half, its count in the lower.
type ring [budgetBuckets]atomic.Uint64

// add counts one event, and returns how many this second has now.
func (r *ring) add(now time.Duration) uint32 {
	second := uint32(now / time.Second)
	b := &r[second%budgetBuckets]
	for {
		old := b.Load()
		// A caller whose time lags behind counts in the bucket's later second.
		if behind := int32(second - uint32(old>>32)); behind <= 0 {
			return uint32(b.Add(1))
		}
		if b.CompareAndSwap(old, uint64(second)<<32|1) {
			return 1
		}
	}
}

// takeBack undoes one add of this moment.
func (r *ring) takeBack(now time.Duration) {
	second := uint32(now / time.Second)
	b := &r[second%budgetBuckets]
	for {
		old := b.Load()
		if int32(second-uint32(old>>32)) > 0 || uint32(old) == 0 || b.CompareAndSwap(old, old-1) {
			return
		}
	}
}

// sum is the number of events in the window that ends with this second.
func (r *ring) sum(now time.Duration) uint64 {
	second := uint32(now / time.Second)
	var n uint64
	for i := range r {
		b := r[i].Load()
		if age := int32(second - uint32(b>>32)); age < budgetBuckets {
			n += uint64(uint32(b))
		}
	}
	return n
}
