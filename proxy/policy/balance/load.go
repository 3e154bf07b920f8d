package balance

import "sync/atomic"

// Load is what is known of a server's load at this moment. It belongs to the
// server, not to a Picker: it lives as long as the server, and each new Picker
// finds in it what is in flight. Its zero value is an idle server without
// samples. All methods may be called by anyone at any time; none locks or
// allocates.
type Load struct {
	// count is what is in flight << generationBits | the generation of the
	// seat that counted it, in one word, so that a new picker takes over a
	// count at one instant: each change after it is told to the new picker, and
	// none before.
	count atomic.Int64
	seat  atomic.Pointer[seat] // nil: no picker follows this load

	latency atomic.Uint64 // an ewma
	rate    atomic.Uint64 // of its decay per tick, float64 bits; 0: not measured

	_ [32]byte // to a cache line
}

const generationBits = 16

// Begin counts one more in flight: call it as soon as the server is chosen,
// so that the next choice knows. Each Begin needs one End.
func (l *Load) Begin() { l.move(1) }

// End takes back one Begin, whatever came of it.
func (l *Load) End() { l.move(-1) }

func (l *Load) move(by int64) {
	count := l.count.Add(by << generationBits)
	if s := l.seat.Load(); s != nil {
		s.keeper.moved(s.position, by, s.generation == uint16(count))
	}
}

// InFlight is the number of Begins without their Ends.
func (l *Load) InFlight() int64 { return l.count.Load() >> generationBits }

// keeper is a picker that keeps accounts of its members' loads.
type keeper interface {
	// moved tells that the count of the member at position has changed. counted
	// says whether the picker has taken over its count before the change; else
	// the change is in what it takes over, or the picker was replaced.
	moved(position uint32, by int64, counted bool)
}

// seat is a load's place in a keeper.
type seat struct {
	keeper     keeper
	position   uint32
	generation uint16
}

// seats are the places of a keeper's members.
type seats struct {
	loads []*Load
	seat  []seat
}

// take seats the members: k is told of every change from now on. It returns
// the sum of their counts, each taken at one instant, from which on changes
// are counted. Only one caller at a time may seat a load.
func (s *seats) take(k keeper, members []Member) (inFlight int64) {
	s.loads = make([]*Load, len(members))
	s.seat = make([]seat, len(members))
	for i, m := range members {
		l, at := m.Load, &s.seat[i]
		generation := uint16(l.count.Load()) + 1
		*at = seat{keeper: k, position: uint32(i), generation: generation}
		s.loads[i] = l
		// The seat goes first: a change of the new generation finds it.
		l.seat.Store(at)
		for {
			old := l.count.Load()
			if l.count.CompareAndSwap(old, old>>generationBits<<generationBits|int64(generation)) {
				inFlight += old >> generationBits
				break
			}
		}
	}
	return inFlight
}

// leave unseats whoever was not seated elsewhere since: a load must not hold
// on to a picker that is gone, which may be megabytes.
func (s *seats) leave() {
	for i, l := range s.loads {
		l.seat.CompareAndSwap(&s.seat[i], nil)
	}
}
