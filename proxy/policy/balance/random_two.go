package balance

import "time"

// randomTwo draws two members at random, by weight, and takes the one with
// less in flight by weight (Mitzenmacher 2001); the first one if they are even,
// so that idle servers are picked exactly by weight.
type randomTwo struct {
	aliases aliases
	seats   []weighed
	random  func() uint64
}

// weighed is a load and what one in flight counts for on it.
type weighed struct {
	load *Load
	each float64 // mean weight of the pool / weight of the member
}

func weigh(members []Member) []weighed {
	sum := 0
	for _, m := range members {
		sum += m.weight()
	}
	mean := float64(sum) / float64(len(members))
	w := make([]weighed, len(members))
	for i, m := range members {
		w[i] = weighed{load: m.Load, each: mean / float64(m.weight())}
	}
	return w
}

func (w weighed) inFlight() float64 { return float64(w.load.InFlight()) * w.each }

func newRandomTwo(members []Member, random func() uint64) *randomTwo {
	return &randomTwo{aliases: newAliases(members), seats: weigh(members), random: random}
}

// Pick implements [Picker].
func (r *randomTwo) Pick(uint64, time.Duration) int {
	if len(r.seats) == 0 {
		return -1
	}
	i, j := r.aliases.two(r.random)
	if r.seats[j].inFlight() < r.seats[i].inFlight() {
		return j
	}
	return i
}
