package balance

import (
	"encoding/binary"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// owners maps entries to IDs, so that tables of different members compare.
func owners(members []Member) []uint64 {
	t := newTable(members)
	o := make([]uint64, len(t))
	for i, at := range t {
		o[i] = members[at].ID
	}
	return o
}

func without(members []Member, i int) []Member {
	return append(append([]Member(nil), members[:i]...), members[i+1:]...)
}

func TestTableSharesFollowTheWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := pool(weights(2560, 30).Draw(t, "weights")...)
		first := rapid.Uint64().Draw(t, "identity")
		sum := 0
		for i := range m {
			m[i].ID = mix(first + uint64(i))
			sum += m[i].Weight
		}
		counts := make([]int, len(m))
		for _, at := range newTable(m) {
			counts[at]++
		}
		for i, n := range counts {
			if share := float64(m[i].Weight) / float64(sum); far(n, 1<<tableBits, share) {
				t.Fatalf("member %d of weight %d has %d entries, want about %.0f", i, m[i].Weight, n, share*(1<<tableBits))
			}
		}
	})
}

// The figures in the comment on the table.
func TestTableOfAThousandIsEven(t *testing.T) {
	counts := make([]float64, 1000)
	for _, at := range newTable(pool(equal(len(counts))...)) {
		counts[at]++
	}
	const mean = (1 << tableBits) / 1000.0
	square, largest := 0.0, 0.0
	for _, n := range counts {
		square += (n/mean - 1) * (n/mean - 1)
		largest = max(largest, n/mean)
	}
	deviation := math.Sqrt(square / float64(len(counts)))
	t.Logf("standard deviation %.4f, largest share %.3f of the mean", deviation, largest)
	if deviation > 0.025 || largest > 1.1 {
		t.Errorf("shares deviate by %.3f, the largest is %.3f of the mean: want at most 0.025 and 1.1", deviation, largest)
	}
}

// When a server leaves, its own keys must move, and hardly any others. It
// makes no difference whether it is unhealthy or out of the configuration.
func TestHardlyMoreThanTheLeaversKeysMove(t *testing.T) {
	tests := []struct {
		name    string
		weights []int
	}{
		{"1,000 equal servers", equal(1000)},
		{"1,000 servers of weights 1 to 256", thousand()},
		{"10 equal servers", equal(10)},
		{"3 servers of unlike weights", []int{1, 20, 256}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := pool(tt.weights...)
			before := owners(m)
			moved, own := 0, 0
			for _, leaver := range []int{0, len(m) / 2, len(m) - 1} {
				for i, id := range owners(without(m, leaver)) {
					if before[i] == m[leaver].ID {
						own++
						if id == m[leaver].ID {
							t.Fatal("a server that left has an entry")
						}
					}
					if before[i] != id {
						moved++
					}
				}
			}
			ratio := float64(moved) / float64(own)
			t.Logf("moved %.3f of the leavers' share", ratio)
			if ratio > 1.15 {
				t.Errorf("%.3f times the leavers' own entries moved, want at most 1.15", ratio)
			}
		})
	}
}

// A slow start changes a weight every second: only what the server gains may
// move.
func TestARampMovesOnlyWhatTheServerGains(t *testing.T) {
	m := pool(equal(100)...)
	for i := range m {
		m[i].Weight = 10
	}
	m[7].Weight = 3
	before := owners(m)
	m[7].Weight = 4
	gained, others := 0, 0
	for i, id := range owners(m) {
		switch {
		case before[i] == id:
		case id == m[7].ID:
			gained++
		default:
			others++
		}
	}
	if gained == 0 || others*10 > gained {
		t.Errorf("the ramping server gained %d entries, and %d moved between others, want at most a tenth of that", gained, others)
	}
}

func TestTableDoesNotDependOnTheOrderOfMembers(t *testing.T) {
	m := pool(3, 1, 4, 1, 5, 9, 2, 6)
	want := owners(m)
	m[0], m[5] = m[5], m[0]
	m[2], m[7] = m[7], m[2]
	differ := 0
	for i, id := range owners(m) {
		if id != want[i] {
			differ++
		}
	}
	if differ > 0 {
		t.Errorf("%d entries have another owner after members were reordered", differ)
	}
}

// Nodes of different versions work side by side during an upgrade: a change
// of this value splits the cluster's opinion on who serves a key.
func TestTableIsTheSameEverywhere(t *testing.T) {
	var b []byte
	for _, at := range newTable(pool(3, 1, 4, 1, 5, 9, 2, 6)) {
		b = binary.LittleEndian.AppendUint16(b, at)
	}
	if got, want := hash64(0, b), uint64(0x1ecc9d0f7582afdc); got != want {
		t.Errorf("the table's digest is %#x, want %#x", got, want)
	}
}
