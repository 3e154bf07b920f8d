package route

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// MaxWeight is the largest weight of a side of a Split.
const MaxWeight = 256

// Split divides requests over sides by weight, for canaries. It is immutable,
// and safe for concurrent use.
//
// The sides lie one after another on a line, each as long as its weight, and a
// number picks the side at its place. So a side that grows at the expense of
// its neighbour keeps all it has: with two sides, going from 5 of 100 to 10
// moves only those clients over that have to move.
type Split struct {
	ends []uint64 // where each side ends; the last is the sum of the weights
}

// NewSplit makes a split of sides with these weights, 0 to MaxWeight. A side
// of weight 0 gets nothing. Faults are *policy.Fault, joined.
func NewSplit(weights []int) (*Split, error) {
	var f policy.Faults
	s := &Split{ends: make([]uint64, len(weights))}
	end := uint64(0)
	for i, w := range weights {
		if w < 0 || w > MaxWeight {
			f.Add(fmt.Sprintf("weights[%d]", i), "%d is not within 0 to %d", w, MaxWeight)
			continue
		}
		end += uint64(w)
		s.ends[i] = end
	}
	if len(f) > 0 {
		return nil, errors.Join(f...)
	}
	return s, nil
}

// Pick returns the index of the side at a place: any number of which all 64
// bits are random, or [Key] for a client that should stay where it is. Without
// a side of a weight above 0 it returns None.
func (s *Split) Pick(place uint64) int {
	if len(s.ends) == 0 {
		return None
	}
	// The high word of the product scales the place to the line without a
	// division, and without the bias of a remainder.
	at, _ := bits.Mul64(place, s.ends[len(s.ends)-1])
	for i, end := range s.ends {
		if at < end {
			return i
		}
	}
	return None
}

// Key is the place of a client in a Split. It is the same on every node and in
// every version. The split's name goes into it, so that it is not the same
// clients that are in every canary.
func Key(split string, client []byte) uint64 {
	// FNV-1a, whose high bits are poor for short inputs, and MurmurHash3's
	// finalizer, which spreads each bit over all.
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := range len(split) {
		h = (h ^ uint64(split[i])) * prime
	}
	h = (h ^ 0xff) * prime // ends the name: 0xff is in no UTF-8
	for _, c := range client {
		h = (h ^ uint64(c)) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
