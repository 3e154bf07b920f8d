package balance

import (
	"math"
	"time"
)

// latency draws two members at random, by weight, and takes the one with the
// lower cost: peak EWMA x (in flight by weight + 1). The weight is in the draw
// already; in the cost it only says how much one in flight counts, or else a
// heavy member would take all of an idle pool's work.
//
// A member of unknown latency counts as quick as the one that it is compared
// with: it gets its share, and is neither starved nor flooded.
type latency struct {
	aliases aliases
	seats   []weighed
	rate    float64
	random  func() uint64
}

func newLatency(members []Member, decay time.Duration, random func() uint64) *latency {
	l := &latency{aliases: newAliases(members), seats: weigh(members), rate: perTick(decay), random: random}
	for _, m := range members {
		m.Load.rate.Store(math.Float64bits(l.rate))
	}
	return l
}

// Pick implements [Picker].
func (l *latency) Pick(_ uint64, now time.Duration) int {
	if len(l.seats) == 0 {
		return -1
	}
	i, j := l.aliases.two(l.random)
	tick := ticks(now)
	a, b := l.seats[i], l.seats[j]
	x := ewma(a.load.latency.Load()).at(tick, l.rate)
	y := ewma(b.load.latency.Load()).at(tick, l.rate)
	if x == 0 || y == 0 {
		x, y = 1, 1
	}
	if y*(b.inFlight()+1) < x*(a.inFlight()+1) {
		return j
	}
	return i
}
