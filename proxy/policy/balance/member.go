package balance

import (
	"math/rand/v2"
)

// Member is a server that takes new work: one of [Choice.Active].
type Member struct {
	// ID is the server's [Identity]. Only hashes need it.
	ID uint64
	// Weight is relative to the other members'; below 1 it counts as 1. It is
	// that of the configuration, or scaled up by a common factor so that a slow
	// start has steps to rise in; up to 2^20.
	Weight int
	// Load is the server's own record, never nil, and never that of another
	// member.
	Load *Load
}

func (m Member) weight() int { return max(m.Weight, 1) }

// New returns the picker of a pool's active members, at most 65,536. c is
// valid. previous is the picker that this one replaces, or nil: it goes on
// picking until the last caller has let go of it, but from now on counts are
// told to the new one.
//
// What is in flight stays right: Begin and End may be called at the same time.
// But only one New of a pool may run at a time, and each on the outcome of the
// one before, since members are told who follows their load.
func New(c Config, members []Member, previous Picker) Picker {
	return NewRandom(c, members, previous, rand.Uint64)
}

// NewRandom is New with a source of random numbers, for tests. random is
// called concurrently.
func NewRandom(c Config, members []Member, previous Picker, random func() uint64) Picker {
	c = c.WithDefaults()
	members = members[:min(len(members), maxMembers)]
	var p Picker
	switch c.Algorithm {
	case LeastConn:
		p = newLeastConn(members, random)
	case SourceHash, URIHash, HeaderHash, CookieHash:
		old, _ := previous.(*hashed)
		p = newHashed(c.HashBound, members, old)
	case RandomTwo:
		p = newRandomTwo(members, random)
	case Latency:
		p = newLatency(members, c.LatencyDecay, random)
	default:
		p = follow(members, previous)
	}
	if c.Algorithm != Latency {
		for _, m := range members {
			m.Load.rate.Store(0)
		}
	}
	switch old := previous.(type) {
	case *leastConn:
		old.seats.leave()
	case *hashed:
		old.seats.leave()
	}
	return p
}

// follow is a round robin that goes on where the previous one was.
func follow(members []Member, previous Picker) *RoundRobin {
	weights := make([]int, len(members))
	for i, m := range members {
		weights[i] = m.weight()
	}
	start := uint64(0)
	if r, ok := previous.(*RoundRobin); ok {
		start = r.Position()
	}
	return NewRoundRobin(weights, start)
}

var (
	_ Picker = (*RoundRobin)(nil)
	_ Picker = (*leastConn)(nil)
	_ Picker = (*hashed)(nil)
	_ Picker = (*randomTwo)(nil)
	_ Picker = (*latency)(nil)
	_ keeper = (*leastConn)(nil)
	_ keeper = (*hashed)(nil)
)
