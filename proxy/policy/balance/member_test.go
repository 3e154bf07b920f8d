package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// seeded is a source of random numbers that a failure can be repeated with.
func seeded(t *rapid.T) func() uint64 {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Uint64
}

func weights(most, members int) *rapid.Generator[[]int] {
	return rapid.SliceOfN(rapid.IntRange(1, most), 1, members)
}

// far reports whether got of n draws is further from n x share than chance
// takes it: six standard deviations.
func far(got, n int, share float64) bool {
	mean := float64(n) * share
	return math.Abs(float64(got)-mean) > 6*math.Sqrt(mean*(1-share))+1
}

func TestAnEmptyConfigurationIsRoundRobin(t *testing.T) {
	if p, ok := New(Config{}, pool(1), nil).(*RoundRobin); !ok {
		t.Errorf("the picker is a %T, want *RoundRobin", p)
	}
}

func TestPickersOfNobodyAndOfOne(t *testing.T) {
	for _, c := range algorithms {
		t.Run(string(c.Algorithm), func(t *testing.T) {
			p := New(c, nil, nil)
			if got := p.Pick(1, 0); got != -1 {
				t.Errorf("pick of nobody = %d, want -1", got)
			}
			m := pool(7)
			p = New(c, m, p)
			for range 5 {
				if got := p.Pick(1, 0); got != 0 {
					t.Errorf("pick of one = %d, want 0", got)
				}
				m[0].Load.Begin()
			}
			if got := New(c, nil, p).Pick(1, 0); got != -1 {
				t.Errorf("pick of nobody any more = %d, want -1", got)
			}
		})
	}
}

func TestPicksDoNotAllocate(t *testing.T) {
	for _, c := range algorithms {
		t.Run(string(c.Algorithm), func(t *testing.T) {
			p, m := busy(c)
			key := uint64(1)
			n := testing.AllocsPerRun(1000, func() {
				key = mix(key)
				l := m[p.Pick(key, time.Second)].Load
				l.Begin()
				l.Observe(time.Second, time.Millisecond)
				l.Fail(time.Second, time.Millisecond)
				l.End()
			})
			if n != 0 {
				t.Errorf("a pick and what follows allocate %v times, want 0", n)
			}
		})
	}
}

// The shares of an idle pool's picks are those of the weights, and nobody else
// is ever picked. (The hashes' shares are those of their tables, which have a
// test of their own.)
func TestSharesOfAnIdlePoolFollowTheWeights(t *testing.T) {
	for _, c := range algorithms {
		if c.Algorithm == SourceHash {
			continue
		}
		t.Run(string(c.Algorithm), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := weights(256, 12).Draw(t, "weights")
				random := seeded(t)
				p := NewRandom(c, pool(w...), nil, random)
				sum := 0
				for _, x := range w {
					sum += x
				}
				const picks = 5000
				counts := make([]int, len(w))
				for range picks {
					i := p.Pick(random(), 0)
					if i < 0 || i >= len(w) {
						t.Fatalf("picked %d of %d members", i, len(w))
					}
					counts[i]++
				}
				for i, n := range counts {
					if share := float64(w[i]) / float64(sum); far(n, picks, share) {
						t.Fatalf("member %d of weight %d got %d of %d picks, want about %.0f", i, w[i], n, picks, picks*share)
					}
				}
			})
		})
	}
}

// Algorithms may be changed at any time, and members come and go.
func TestPicksStayWithinTheMembersThroughAnyChange(t *testing.T) {
	everyone := pool(equal(40)...)
	rapid.Check(t, func(t *rapid.T) {
		random := seeded(t)
		var p Picker
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			n := rapid.IntRange(0, len(everyone)).Draw(t, "members")
			m := make([]Member, n)
			first := rapid.IntRange(0, len(everyone)).Draw(t, "first")
			for i := range m {
				m[i] = everyone[(first+i)%len(everyone)]
				m[i].Weight = rapid.IntRange(-1, 2560).Draw(t, "weight")
			}
			p = NewRandom(rapid.SampledFrom(algorithms).Draw(t, "algorithm"), m, p, random)
			for range 20 {
				i := p.Pick(random(), time.Duration(random()>>2))
				if n == 0 && i != -1 || n > 0 && (i < 0 || i >= n) {
					t.Fatalf("picked %d of %d members", i, n)
				}
				if n == 0 {
					continue
				}
				m[i].Load.Begin()
				m[i].Load.Observe(time.Duration(random()>>2), time.Duration(random()>>20))
				defer m[i].Load.End()
			}
		}
	})
	for i, m := range everyone {
		if n := m.Load.InFlight(); n != 0 {
			t.Errorf("member %d has %d in flight at the end, want 0", i, n)
		}
	}
}
