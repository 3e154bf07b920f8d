package balance

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestRandomTwoTakesTheLessLoadedByWeight(t *testing.T) {
	tests := []struct {
		name     string
		weights  []int
		inFlight []int
		want     int
	}{
		{"fewer", []int{1, 1}, []int{3, 2}, 1},
		{"fewer by weight", []int{4, 1}, []int{3, 1}, 0},
		{"a giant that is full beside a dwarf", []int{256, 1}, []int{257, 1}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := pool(tt.weights...)
			for i, n := range tt.inFlight {
				for range n {
					m[i].Load.Begin()
				}
			}
			p := New(Config{Algorithm: RandomTwo}, m, nil)
			for range 100 {
				if got := p.Pick(0, 0); got != tt.want {
					t.Fatalf("picked %d of two, want %d", got, tt.want)
				}
			}
		})
	}
}

// 10,000 requests on 1,000 servers: one choice leaves some with 22, the better
// of two hardly any above 12.
func TestRandomTwoKeepsTheFullestNearTheMean(t *testing.T) {
	m := pool(equal(1000)...)
	p := NewRandom(Config{Algorithm: RandomTwo}, m, nil, rand.New(rand.NewPCG(1, 2)).Uint64)
	for range 10_000 {
		m[p.Pick(0, 0)].Load.Begin()
	}
	for i := range m {
		if n := m[i].Load.InFlight(); n > 13 {
			t.Errorf("member %d has %d in flight, want at most 13", i, n)
		}
	}
}

func TestTwoAreTwo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := pool(weights(256, 10).Draw(t, "weights")...)
		a, random := newAliases(m), seeded(t)
		for range 200 {
			i, j := a.two(random)
			if i == j && len(m) > 1 || i < 0 || i >= len(m) || j < 0 || j >= len(m) {
				t.Fatalf("two of %d are %d and %d", len(m), i, j)
			}
		}
	})
}

// The columns hold exactly each member's share, up to rounding.
func TestAliasesHoldTheShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := pool(weights(2560, 100).Draw(t, "weights")...)
		a := newAliases(m)
		sum := 0
		held := make([]float64, len(m))
		for i, c := range a {
			sum += m[i].Weight
			held[i] += float64(c.cut)
			held[c.other] += 1<<32 - float64(c.cut)
		}
		for i := range held {
			got, want := held[i]/(1<<32)/float64(len(m)), float64(m[i].Weight)/float64(sum)
			if got < want-1e-8 || got > want+1e-8 {
				t.Fatalf("member %d of weight %d is drawn with %v, want %v", i, m[i].Weight, got, want)
			}
		}
	})
}
