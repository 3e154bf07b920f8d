package balance

import "sync/atomic"

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
	order []uint32 // one cycle; sum(weights)/gcd(weights) entries
	next  atomic.Uint64
}

// NewRoundRobin lays out the cycle for the members' weights, each above 0.
// The cycle is entered at start modulo its length: pass Position of a
// predecessor so that frequent changes do not favour the first members.
func NewRoundRobin(weights []int, start uint64) *RoundRobin {
	r := &RoundRobin{}
	r.next.Store(start)
	if len(weights) == 0 {
		return r
	}
	d, sum := 0, 0
	for _, w := range weights {
		d = gcd(d, w)
		sum += w
	}
	r.order = make([]uint32, 0, sum/d)
	h := make(deadlines, len(weights))
	for i, w := range weights {
		h[i] = turn{member: uint32(i), weight: uint64(w / d)}
	}
	// All members start at turn 0: a heap by weight, largest first.
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
	for range sum / d {
		r.order = append(r.order, h[0].member)
		h[0].turn++
		h.down(0)
	}
	return r
}

// Pick implements [Picker].
func (r *RoundRobin) Pick() int {
	n := uint64(len(r.order))
	if n == 0 {
		return -1
	}
	return int(r.order[(r.next.Add(1)-1)%n])
}

// Position is the number of picks so far, its start included.
func (r *RoundRobin) Position() uint64 { return r.next.Load() }

// turn is a member's next turn: due at (turn + 1/2)/weight.
type turn struct {
	member uint32
	turn   uint64
	weight uint64
}

// before orders by due time, then by member so that the layout is
// deterministic. Cross-multiplied: weights and turns are small integers.
func (a turn) before(b turn) bool {
	x, y := (2*a.turn+1)*b.weight, (2*b.turn+1)*a.weight
	if x != y {
		return x < y
	}
	return a.member < b.member
}

// deadlines is a binary heap, written out because container/heap costs an
// interface call per comparison, and a cycle may have 256,000 turns.
type deadlines []turn

func (h deadlines) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
