package balance

import (
	"slices"
	"sync/atomic"
	"time"
)

// RoundRobin is smooth weighted round robin: in every cycle each member is
// picked exactly as often as its weight says, and its turns are spread over
// the cycle instead of coming in a burst, as in nginx.
//
// nginx looks at every server on every pick. Here the whole cycle is laid out
// once, when the members change, so that a pick costs one atomic increment
// whatever the size of the pool. The layout is earliest-deadline-first: the
// k-th turn of a member of weight w falls due at (k+1/2)/w of the cycle. The
// shares are exactly nginx's; the order within a cycle may differ from its.
type RoundRobin struct {
	order []uint32 // one cycle; sum(weights)/gcd(weights) entries, at most about maxCycle
	next  atomic.Uint64
}

// maxCycle bounds a cycle's turns. 1,000 members of weights up to 256 are
// within it; beyond, as with weights scaled up for a slow start, turns are
// rounded: a member's share is off by 1 in 262,144 of the work at most.
const maxCycle = 1 << 18

// NewRoundRobin lays out the cycle for the members' weights, each above 0.
// The cycle is entered at start modulo its length: pass Position of a
// predecessor so that frequent changes do not favour the first members.
func NewRoundRobin(weights []int, start uint64) *RoundRobin {
	r := &RoundRobin{order: lay(turns(weights))}
	r.next.Store(start)
	return r
}

// turns is how many turns each member has in a cycle, and their sum.
func turns(weights []int) (each []uint64, sum uint64) {
	d := 0
	for _, w := range weights {
		d = gcd(d, w)
		sum += uint64(w)
	}
	if sum == 0 {
		return nil, 0
	}
	each = make([]uint64, len(weights))
	all := sum
	sum = 0
	for i, w := range weights {
		if each[i] = uint64(w / d); all/uint64(d) > maxCycle {
			each[i] = max(1, (uint64(w)*maxCycle+all/2)/all)
		}
		sum += each[i]
	}
	return each, sum
}

// lay sorts the turns by their due times. Those are spread evenly over the
// cycle, so a bucket for each place of it holds about one: the sort takes a
// time in proportion to the turns.
func lay(each []uint64, sum uint64) []uint32 {
	// due is a turn's time, in places << 24.
	due := func(turn, of uint64) uint64 { return (2*turn + 1) * sum << 23 / of }
	ends := make([]uint32, sum)
	for _, n := range each {
		for k := range n {
			ends[due(k, n)>>24]++
		}
	}
	for i, at := 0, uint32(0); i < len(ends); i++ {
		at, ends[i] = at+ends[i], at // the beginning, which filling moves to the end
	}
	placed := make([]uint64, sum) // the rest of the due time << 32 | member
	for i, n := range each {
		for k := range n {
			d := due(k, n)
			end := &ends[d>>24]
			placed[*end] = d&(1<<24-1)<<32 | uint64(i)
			*end++
		}
	}
	order := make([]uint32, sum)
	at := uint32(0)
	for _, end := range ends {
		bucket := placed[at:end]
		if len(bucket) > 1 {
			slices.Sort(bucket) // evenly due: in the order of members
		}
		for _, p := range bucket {
			order[at] = uint32(p)
			at++
		}
	}
	return order
}

// Pick implements [Picker].
func (r *RoundRobin) Pick(uint64, time.Duration) int {
	n := uint64(len(r.order))
	if n == 0 {
		return -1
	}
	return int(r.order[(r.next.Add(1)-1)%n])
}

// Position is the number of picks so far, its start included.
func (r *RoundRobin) Position() uint64 { return r.next.Load() }

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
