package balance

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRoundRobinOrder(t *testing.T) {
	tests := []struct {
		name    string
		weights []int
		want    []int
	}{
		{"equal weights take turns", []int{7, 7, 7}, []int{0, 1, 2, 0, 1, 2}},
		{"turns of the heavy one are spread", []int{4, 1, 1}, []int{0, 0, 1, 2, 0, 0}},
		{"no members", nil, []int{-1, -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRoundRobin(tt.weights, 0)
			var got []int
			for range tt.want {
				got = append(got, r.Pick(0, 0))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("picks = %v, want %v", got, tt.want)
			}
		})
	}
}

// In every window of one cycle, wherever it begins, each member is picked
// exactly weight/gcd times; within any prefix its count is within one turn of
// its ideal share on either side (smoothness).
func TestRoundRobinShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), 1, 20).Draw(t, "weights")
		start := rapid.Uint64Range(0, 1<<20).Draw(t, "start")
		r := NewRoundRobin(weights, start)
		sum, d := 0, 0
		for _, w := range weights {
			sum += w
			d = gcd(d, w)
		}
		counts := make([]int, len(weights))
		for range sum / d {
			counts[r.Pick(0, 0)]++
		}
		for i, w := range weights {
			if counts[i] != w/d {
				t.Fatalf("member %d of weight %d got %d of %d picks, want %d", i, w, counts[i], sum/d, w/d)
			}
		}
		fresh := NewRoundRobin(weights, 0)
		clear(counts)
		for n := 1; n <= sum/d; n++ {
			counts[fresh.Pick(0, 0)]++
			for i, w := range weights {
				ideal := float64(n) * float64(w) / float64(sum)
				if off := float64(counts[i]) - ideal; off > 1.01+float64(len(weights))*float64(w)/float64(sum) || off < -1.01-float64(len(weights))*float64(w)/float64(sum) {
					t.Fatalf("after %d picks member %d is %.2f turns off its share", n, i, off)
				}
			}
		}
	})
}

func TestRoundRobinConcurrentSharesAreExact(t *testing.T) {
	weights := []int{3, 1, 2}
	r := NewRoundRobin(weights, 0)
	const workers, each = 4, 600
	results := make(chan [3]int, workers)
	for range workers {
		go func() {
			var c [3]int
			for range each {
				c[r.Pick(0, 0)]++
			}
			results <- c
		}()
	}
	var total [3]int
	for range workers {
		for i, n := range <-results {
			total[i] += n
		}
	}
	if want := [3]int{1200, 400, 800}; total != want {
		t.Errorf("picks = %v, want %v", total, want)
	}
}

// With weights scaled up for a slow start a cycle would be millions of turns.
func TestRoundRobinCycleIsBoundedAndCloseToTheWeights(t *testing.T) {
	w := thousand()
	sum := 0
	for i := range w {
		w[i] = w[i]*10 + i%7
		sum += w[i]
	}
	r := NewRoundRobin(w, 0)
	if n := len(r.order); n > maxCycle+len(w) {
		t.Fatalf("the cycle has %d turns, want at most %d", n, maxCycle+len(w))
	}
	counts := make([]int, len(w))
	for range r.order {
		counts[r.Pick(0, 0)]++
	}
	for i, n := range counts {
		if ideal := float64(w[i]) * float64(len(r.order)) / float64(sum); float64(n) < ideal-1 || float64(n) > ideal+1 {
			t.Errorf("member %d of weight %d has %d turns, want %.1f", i, w[i], n, ideal)
		}
	}
}

func TestRoundRobinGivesEveryoneATurnHoweverLight(t *testing.T) {
	w := make([]int, 600)
	for i := range w {
		w[i] = 2560
	}
	w[599] = 1
	r := NewRoundRobin(w, 0)
	for range r.order {
		if r.Pick(0, 0) == 599 {
			return
		}
	}
	t.Error("the lightest member has no turn")
}

// A slow start changes weights every second. At few requests a second, an
// order that began anew each time would send them all to the first members.
func TestRoundRobinRebuiltEverySecondDoesNotFavourTheFirst(t *testing.T) {
	const members, rebuilds, picks = 20, 2000, 3
	m := pool(equal(members)...)
	var p Picker
	counts := make([]int, members)
	for i := range rebuilds {
		for j := range m {
			m[j].Weight = 1000
		}
		m[members-1].Weight = 100 + i%900 // the one that ramps
		p = New(Config{}, m, p)
		for range picks {
			counts[p.Pick(0, 0)]++
		}
	}
	const fair = rebuilds * picks / members
	for i, n := range counts[:members-1] {
		if n < fair*3/4 || n > fair*5/4 {
			t.Errorf("member %d got %d of %d picks, want about %d", i, n, rebuilds*picks, fair)
		}
	}
}
