package balance

import (
	"slices"
	"sync/atomic"
	"time"
)

// hashed sends a key to its own server by Maglev, unless that one has more
// than its bound in flight: consistent hashing with bounded loads (Mirrokni,
// Thorup, Zadimoghaddam, 2016). The next one is that of the key's next hash
// rather than the neighbor in the table, so that what a hot server passes on
// is spread over all others.
type hashed struct {
	seats seats
	table table
	homes []home
	// What the table was made of.
	ids     []uint64
	weights []int

	inFlight atomic.Int64 // of all members
	_        [56]byte     // to a cache line
}

// home is a server of a hash, and what it may have in flight.
type home struct {
	load *Load
	// bound is HashBound x the member's share of all weights. It may take one
	// more while it has less than bound x (in flight of all + 1); that is the
	// paper's capacity, rounded up.
	bound float64
}

// newHashed builds on members. The table of previous is taken over if it was
// made of the same, since nothing else is worth the time.
func newHashed(bound float64, members []Member, previous *hashed) *hashed {
	p := &hashed{
		homes:   make([]home, len(members)),
		ids:     make([]uint64, len(members)),
		weights: make([]int, len(members)),
	}
	sum := 0
	for i, m := range members {
		p.ids[i], p.weights[i] = m.ID, m.weight()
		sum += m.weight()
	}
	for i, m := range members {
		p.homes[i] = home{load: m.Load, bound: bound * float64(m.weight()) / float64(sum)}
	}
	switch {
	case len(members) == 0:
	case previous != nil && slices.Equal(previous.ids, p.ids) && slices.Equal(previous.weights, p.weights):
		p.table = previous.table
	default:
		p.table = newTable(members)
	}
	p.inFlight.Add(p.seats.take(p, members))
	return p
}

// moved implements keeper.
func (p *hashed) moved(_ uint32, by int64, counted bool) {
	if counted {
		p.inFlight.Add(by)
	}
}

// maxRehash is how many hashes of a key are tried before the members are gone
// through one by one. At the default bound at most four in five are full, and
// in practice few.
const maxRehash = 8

// Pick implements [Picker].
func (p *hashed) Pick(key uint64, _ time.Duration) int {
	if len(p.homes) == 0 {
		return -1
	}
	for h, tries := key, 0; tries < maxRehash; h, tries = mix(h), tries+1 {
		if i := p.table.owner(h); p.room(i) {
			return i
		}
	}
	// Somebody has room: the bounds add up to more than what is in flight.
	// From a place of the key's own, so that nobody's neighbor takes all.
	first := p.table.owner(mix(^key))
	for i := first; i < len(p.homes); i++ {
		if p.room(i) {
			return i
		}
	}
	for i := range first {
		if p.room(i) {
			return i
		}
	}
	return first // counts moved while they were read
}

func (p *hashed) room(i int) bool {
	h := &p.homes[i]
	n := h.load.InFlight()
	return n <= 0 || float64(n) < h.bound*float64(p.inFlight.Load()+1)
}
