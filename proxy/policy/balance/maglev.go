package balance

import (
	"math"
	"math/bits"
)

// The lookup table of Maglev (Eisenbud et al., NSDI 2016, section 3.4): each
// server steps through the entries in an order of its own, and an entry
// belongs to the server whose step on it comes first.
//
// It is filled in another way than in the paper. There, a server whose step
// meets a taken entry steps on at once, which makes the shares even but
// couples all servers: when one of 1,000 leaves, 7.0 times the ideal share of
// the keys moves with the paper's 65,537 entries, and still 4.3 times with
// 655,373. Here the step is lost. Each server keeps to its own times (the k-th
// step of weight w at (k + a constant of its own)/w), so that only entries
// change hands that the leaver held: 1.07 times the ideal, measured, whether it
// is unhealthy or out of the configuration, and the same when a weight changes.
// The price is that shares scatter: among 1,000 equal servers by 2.2 %
// (standard deviation; the largest share is 7 % above the mean), among 100 by
// 0.7 %, which needs more entries than the paper has.
//
// The number of entries is the same for every pool, since a change of it would
// move all keys. A table takes 2 MiB, and 10 ms to fill.
const (
	tableBits = 20
	// The table is filled in blocks that fit a core's first cache.
	blockBits = 12

	// stepsPerEntry bounds the steps: e^-4, 1.8 % of the entries, remain
	// without a step on them. More steps would leave fewer to chance, and cost
	// more time.
	stepsPerEntry = 4
	// Times are whole numbers, in which the last step is at deadline. Whole
	// numbers are the same on all architectures, fused multiplication or not.
	deadlineBits = 40
	ownerBits    = 64 - deadlineBits
)

// Steps go to entries at random (Knuth's linear congruential generator, as in
// MMIX), not along a permutation: a heavy server that came to each entry just
// once would come to all of them early, and take more than its weight.
const (
	multiplier = 6364136223846793005
	increment  = 1442695040888963407
)

// maxMembers is how many members a table has names for.
const maxMembers = 1 << 16

// table maps the first tableBits of a key to a position.
type table []uint16

func (t table) owner(key uint64) int { return int(t[key>>(64-tableBits)]) }

// newTable fills a table. It depends on the IDs and weights alone, not on the
// members' order or what was before.
func newTable(members []Member) table {
	sum := uint64(0)
	for _, m := range members {
		sum += uint64(m.weight())
	}
	const block = 1 << blockBits
	intervals := make([]uint64, len(members)) // from one step to the next
	for i, m := range members {
		hi, lo := bits.Mul64(1<<deadlineBits, sum)
		intervals[i], _ = bits.Div64(hi, lo, stepsPerEntry*block*uint64(m.weight()))
	}
	t := make(table, 1<<tableBits)
	var first [block]uint64 // time << ownerBits | owner of the first step
	for b := range uint64(1 << (tableBits - blockBits)) {
		for i := range first {
			first[i] = math.MaxUint64
		}
		for i, m := range members {
			h := mix(m.ID ^ mix(b))
			interval := intervals[i]
			due, _ := bits.Mul64(mix(h), interval) // anywhere in the first interval
			for at := h; due < 1<<deadlineBits; due += interval {
				at = at*multiplier + increment
				entry := &first[at>>(64-blockBits)]
				*entry = min(*entry, due<<ownerBits|uint64(i))
			}
		}
		settle(t[b<<blockBits:][:block], &first, b)
	}
	return t
}

// settle writes the owners down. An entry without a step takes the owner of
// another one, found by its own number: it too moves only when that owner
// leaves.
func settle(t table, first *[1 << blockBits]uint64, b uint64) {
	for i := range t {
		f := first[i]
		for h := b<<blockBits | uint64(i); f == math.MaxUint64; {
			h = mix(h)
			f = first[h%uint64(len(first))]
		}
		t[i] = uint16(f & (1<<ownerBits - 1))
	}
}
