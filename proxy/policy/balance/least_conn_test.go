package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Whatever begins and ends, the pick has the fewest in flight by weight.
func TestLeastConnPicksAMemberWithTheFewestByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := weights(256, 80).Draw(t, "weights")
		m := pool(w...)
		p := NewRandom(Config{Algorithm: LeastConn}, m, nil, seeded(t))
		steps := rapid.SliceOfN(rapid.IntRange(-len(w), len(w)-1), 1, 200).Draw(t, "steps")
		for n, s := range steps {
			if s < 0 && m[-s-1].Load.InFlight() > 0 {
				m[-s-1].Load.End()
			} else if s >= 0 && n%2 == 0 {
				m[s].Load.Begin()
			} else {
				m[p.Pick(0, 0)].Load.Begin()
			}
			got := p.Pick(0, 0)
			for i := range m {
				if m[i].Load.InFlight()*int64(w[got]) < m[got].Load.InFlight()*int64(w[i]) {
					t.Fatalf("picked %d with %d in flight of weight %d; %d has %d of %d",
						got, m[got].Load.InFlight(), w[got], i, m[i].Load.InFlight(), w[i])
				}
			}
		}
	})
}

// In flight follows the weights as closely as whole requests can.
func TestLeastConnSharesWhatIsInFlightByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := weights(256, 50).Draw(t, "weights")
		m := pool(w...)
		p := NewRandom(Config{Algorithm: LeastConn}, m, nil, seeded(t))
		for range rapid.IntRange(1, 2000).Draw(t, "requests") {
			m[p.Pick(0, 0)].Load.Begin()
		}
		for i := range m {
			for j := range m {
				if (m[i].Load.InFlight()-1)*int64(w[j]) > m[j].Load.InFlight()*int64(w[i]) {
					t.Fatalf("%d of weight %d took its last of %d while %d of weight %d had %d",
						i, w[i], m[i].Load.InFlight(), j, w[j], m[j].Load.InFlight())
				}
			}
		}
	})
}

func TestLeastConnEvenMembersTakeTurns(t *testing.T) {
	for _, idle := range []int{5, 37, 500, 1000} {
		t.Run(fmt.Sprintf("%d of 1,000 idle", idle), func(t *testing.T) {
			m := pool(equal(1000)...)
			p := NewRandom(Config{Algorithm: LeastConn}, m, nil, rand.New(rand.NewPCG(1, 2)).Uint64)
			spread := rand.New(rand.NewPCG(3, 4)).Perm(len(m))
			for _, i := range spread[idle:] {
				m[i].Load.Begin()
			}
			picks := 100 * idle
			counts := make(map[int]int)
			for range picks {
				i := p.Pick(0, 0)
				counts[i]++
				m[i].Load.Begin()
				m[i].Load.End()
			}
			for _, i := range spread[:idle] {
				if counts[i] < 50 || counts[i] > 170 {
					t.Errorf("idle member %d got %d of %d picks, want about 100", i, counts[i], picks)
				}
			}
			if len(counts) > idle {
				t.Errorf("%d members were picked, want the %d idle ones", len(counts), idle)
			}
		})
	}
}

func TestLeastConnTakesOverWhatIsInFlight(t *testing.T) {
	m := pool(1, 1, 1)
	m[0].Load.Begin()
	m[2].Load.Begin()
	p := New(Config{Algorithm: LeastConn}, m, nil)
	if got := p.Pick(0, 0); got != 1 {
		t.Errorf("picked %d, want the idle 1", got)
	}
	m[1].Load.Begin()
	m[1].Load.Begin()
	p = New(Config{Algorithm: LeastConn}, m, p)
	m[0].Load.End() // began before both pickers
	if got := p.Pick(0, 0); got != 0 {
		t.Errorf("picked %d, want 0, which is idle again", got)
	}
}

// Who was interrupted while it looked at a group must not note what it saw
// then, even if the group's note looks the same again.
func TestLeastConnNotesNothingOutdated(t *testing.T) {
	m := pool(1, 1)
	p := New(Config{Algorithm: LeastConn}, m, nil).(*leastConn)
	g := &p.groups[0]
	m[0].Load.Begin()
	seen := g.Load()
	outdated := uint64(p.best(0)) | uint64(uint16(seen)+1)
	m[1].Load.Begin()
	m[1].Load.End()
	if now := g.Load(); now>>16 != seen>>16 {
		t.Fatalf("the note is %#x, and was %#x: this test is about one that looks the same", now, seen)
	}
	if g.CompareAndSwap(seen, outdated) {
		t.Error("an outdated note was taken")
	}
}
