package balance

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// leastConn picks a member with the fewest in flight by weight. Members that
// are even take turns at random, by weight.
//
// Looking at every member on each pick is too dear in a large pool, and so is
// keeping all of them in order. Members stand in groups of about the square
// root of their number; each group has its best member noted, and notes it
// anew when the count of one of its members changes. A pick looks at the
// groups' notes alone, and a change at one group alone.
type leastConn struct {
	seats   seats
	aliases aliases
	random  func() uint64

	weights []float32
	costs   []atomic.Uint32 // by position, padded with dearest to whole groups
	groups  []atomic.Uint64 // notes
	shift   uint            // position >> shift: the group
}

// A cost is in flight / weight, as the bits of a float32: for what is not
// negative they have the order of the numbers.
const dearest = math.MaxUint32

// A note is a group's best: cost << 32 | how many have that cost, at most 255
// << 24 | position of the first within the group << 16 | version. The version
// makes each note differ from the one before: a compare-and-swap thus fails
// if there was any other since its Load.
type note uint64

func (n note) cost() uint32  { return uint32(n >> 32) }
func (n note) even() uint64  { return uint64(n >> 24 & 0xff) }
func (n note) position() int { return int(n >> 16 & 0xff) }

func newLeastConn(members []Member, random func() uint64) *leastConn {
	if len(members) == 0 {
		return &leastConn{}
	}
	// The largest power of two whose square is at most 2 x the members: 1,000
	// are 32 groups of 32.
	shift := uint(bits.Len(uint(len(members)*2))-1) / 2 // at most 8: see maxMembers
	groups := (len(members) + 1<<shift - 1) >> shift
	p := &leastConn{
		aliases: newAliases(members),
		random:  random,
		weights: make([]float32, len(members)),
		costs:   make([]atomic.Uint32, groups<<shift),
		groups:  make([]atomic.Uint64, groups),
		shift:   shift,
	}
	for i := range p.costs {
		p.costs[i].Store(dearest)
	}
	for i, m := range members {
		p.weights[i] = float32(m.weight())
	}
	// Seated first: a change from here on renews its notes itself, and one
	// before is in the count that is read below.
	p.seats.take(p, members)
	for i := range members {
		p.weigh(uint32(i))
	}
	for g := range p.groups {
		p.renew(uint32(g << shift))
	}
	return p
}

// moved implements keeper.
func (p *leastConn) moved(position uint32, _ int64, _ bool) {
	p.weigh(position)
	p.renew(position)
}

// weigh brings a member's cost up to its count. Who stores an old one looks
// again: whoever is last has seen the last count.
func (p *leastConn) weigh(position uint32) {
	l := p.seats.loads[position]
	for {
		n := l.InFlight()
		p.costs[position].Store(math.Float32bits(float32(max(n, 0)) / p.weights[position]))
		if l.InFlight() == n {
			return
		}
	}
}

// renew notes the best member of the group that position is in. Two attempts
// suffice: if both were overtaken, the one that overtook the second began
// after the first, and so has seen what the caller changed (as in Jayanti's
// f-arrays, 2002).
func (p *leastConn) renew(position uint32) {
	g := &p.groups[position>>p.shift]
	for range 2 {
		old := g.Load()
		if g.CompareAndSwap(old, uint64(p.best(position))|uint64(uint16(old)+1)) {
			return
		}
	}
}

// best is the note, without a version, on position's group. The first of even
// ones is the first after position, so that they take turns.
func (p *leastConn) best(position uint32) note {
	size := uint32(1) << p.shift
	first := position &^ (size - 1)
	after := position - first + 1
	costs := p.costs[first : first+size]
	lowest, at, even := uint32(dearest), uint32(0), uint64(0)
	for i := after; i < size; i++ {
		if c := costs[i].Load(); c < lowest {
			lowest, at, even = c, i, 1
		} else if c == lowest {
			even++
		}
	}
	for i := range after {
		if c := costs[i].Load(); c < lowest {
			lowest, at, even = c, i, 1
		} else if c == lowest {
			even++
		}
	}
	return note(uint64(lowest)<<32 | min(even, 0xff)<<24 | uint64(at)<<16)
}

// Pick implements [Picker].
func (p *leastConn) Pick(uint64, time.Duration) int {
	if len(p.weights) == 0 {
		return -1
	}
	// Draws by weight come first, for an even one among many.
	r := p.random()
	i := p.aliases.draw(uint32(r))
	if p.costs[i].Load() == 0 {
		return i // nobody has less than nothing
	}
	lowest, even := uint32(dearest), uint64(0)
	for g := range p.groups {
		if n := note(p.groups[g].Load()); n.cost() < lowest {
			lowest, even = n.cost(), n.even()
		} else if n.cost() == lowest {
			even += n.even()
		}
	}
	if p.costs[i].Load() == lowest {
		return i
	}
	if i = p.aliases.draw(uint32(r >> 32)); p.costs[i].Load() == lowest {
		return i
	}
	return p.among(lowest, even, mix(r), i)
}

// among is one of the members of this cost, of which there are as many as
// even, counted group by group; each group has a chance by its number. Where
// others have taken them all meanwhile it is instead.
func (p *leastConn) among(cost uint32, even, random uint64, instead int) int {
	skip, _ := bits.Mul64(random, even)
	last := instead
	for g := range p.groups {
		n := note(p.groups[g].Load())
		if n.cost() > cost { // also what became dearer meanwhile
			continue
		}
		last = g<<p.shift + n.position()
		if skip < n.even() {
			break
		}
		skip -= n.even()
	}
	return last
}
