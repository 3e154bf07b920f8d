package shed

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// rates is the token buckets of many clients, by the generic cell rate
// algorithm (GCRA, ITU-T I.371 annex A, as virtual scheduling): a bucket is one
// instant, the theoretical arrival time (TAT) until which it has been used. A
// request costs one interval, 1/rate; it conforms if the TAT that it leaves is
// at most burst intervals ahead of now. That instant says everything: a bucket
// whose TAT has passed is full, and the same as one that was never used, so
// that forgetting it loses nothing.
//
// The table is fixed in size. A key may be in one of two sets of eight entries, of
// which one cache line holds the TATs, the other the keys; only full buckets
// are overwritten. Two choices keep sets from overflowing long before the table
// is full (Azar, Broder, Karlin and Upfal, "Balanced Allocations", 1994).
//
// An entry changes by compare-and-swap of its TAT, which carries 8 bits of its
// key as a tag. Taking an entry over swaps the TAT first and then writes the
// key: a key that does not fit the tag is about to be replaced. What races
// remain touch a client by one token: two loops that see the same new client in
// the same nanoseconds, while an entry turns free between their looks, make two
// buckets for it, of which the second is forgotten once it is full; and a client
// whose entry is being made may be charged for another one of the same tag.
type rates struct {
	sets []rateSet
	pace atomic.Pointer[pace] // nil: no limit
}

// pace is a rate and a burst, in ns.
type pace struct {
	interval int64 // for each token; at least 1
	depth    int64 // of a whole bucket: burst x interval
}

const setSize = 8

type rateSet struct {
	tats [setSize]atomic.Uint64 // tag in the upper 8 bits, ns in the lower 56
	keys [setSize]atomic.Uint64
}

const (
	timeBits = 56 // more than two years
	timeMask = 1<<timeBits - 1
	tagMask  = 1<<(64-timeBits) - 1 // of a key
)

func newRates(clients int) *rates {
	return &rates{sets: make([]rateSet, setsFor(clients))}
}

// setsFor is the number of sets for so many clients. Half of the entries stay
// free then, and 3 in 10,000 clients find no entry when the table is as full as
// it was made for; with a fifth free it would be 170.
func setsFor(clients int) int { return (2*clients + setSize - 1) / setSize }

// choices are the two of n sets that a key may be in. The low bits of the key
// have no part in the first, so that they tell apart those who share it.
func choices(key uint64, n int) [2]uint64 {
	first, _ := bits.Mul64(key, uint64(n))
	second, _ := bits.Mul64(key*0x9e3779b97f4a7c15, uint64(n))
	return [2]uint64{first, second}
}

// tune sets the rate, in tokens a second, and the burst; a rate of 0: no limit.
func (r *rates) tune(rate float64, burst int) {
	if rate <= 0 {
		r.pace.Store(nil)
		return
	}
	interval := max(int64(math.Round(float64(time.Second)/rate)), 1)
	r.pace.Store(&pace{interval: interval, depth: interval * int64(max(burst, 1))})
}

// outcome is what became of a request for a token.
type outcome uint8

const (
	conforms outcome = iota
	exceeds
	noEntry // every entry that the key may have is in use by others
)

// slack is how far the times of two callers may be apart.
const slack = int64(time.Second)

// take asks for a token of key. With exceeds, wait is until there is one.
func (r *rates) take(key uint64, now time.Duration) (o outcome, wait time.Duration) {
	p := r.pace.Load()
	if p == nil {
		return conforms, 0
	}
	interval, depth := p.interval, p.depth
	for {
		e := r.find(key, now, depth)
		if e.set == nil {
			return noEntry, 0
		}
		used := max(ahead(e.tat, now), 0)
		if !e.mine {
			used = 0
		}
		if used+interval > depth {
			return exceeds, time.Duration(used + interval - depth)
		}
		tat := key<<timeBits | uint64(int64(now)+used+interval)&timeMask
		if !e.set.tats[e.at].CompareAndSwap(e.tat, tat) {
			continue // another loop was faster; look again
		}
		if !e.mine {
			e.set.keys[e.at].Store(key)
		}
		return conforms, 0
	}
}

// entry is where a key has its bucket, or may have it.
type entry struct {
	set  *rateSet // nil: nowhere
	at   int
	tat  uint64 // as it was seen
	mine bool   // it has it there
}

// find looks for the bucket of key, and for the first one that is free.
func (r *rates) find(key uint64, now time.Duration, depth int64) (e entry) {
	for _, choice := range choices(key, len(r.sets)) {
		set := &r.sets[choice]
		for i := range setSize {
			tat := set.tats[i].Load()
			// Further ahead than any bucket can be: from before the rate was
			// changed, or so old that the time has gone round.
			if used := ahead(tat, now); used <= 0 || used > depth+slack {
				if e.set == nil {
					e = entry{set: set, at: i, tat: tat}
				}
				continue
			}
			if tat>>timeBits != key&tagMask {
				continue
			}
			if k := set.keys[i].Load(); k == key || k&tagMask != key&tagMask {
				return entry{set: set, at: i, tat: tat, mine: true}
			}
		}
	}
	return e
}

// ahead is how far the time in tat is ahead of now, in ns; below 0: behind.
func ahead(tat uint64, now time.Duration) int64 {
	return int64((tat-uint64(now))<<(64-timeBits)) >> (64 - timeBits)
}
