package health

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRamp(t *testing.T) {
	const since, over = time.Hour, 100 * time.Second
	tests := []struct {
		name  string
		after time.Duration
		over  time.Duration
		want  float64
	}{
		{"off", 0, 0, 1},
		{"at the recovery", 0, over, 0.1},
		{"half-way", 50 * time.Second, over, 0.55},
		{"at the end", over, over, 1},
		{"long after", time.Hour, over, 1},
		{"a clock that was read before the recovery", -time.Second, over, 0.1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Ramp(since, since+tt.after, tt.over); math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("factor = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLevel(t *testing.T) {
	tests := []struct {
		name     string
		in, want []float64
	}{
		{"nobody", nil, nil},
		{"one ramps beside the warm", []float64{1, 0.1, 1}, []float64{1, 0.1, 1}},
		{"alone it does not ramp", []float64{0.1}, []float64{1}},
		{"together they do not ramp", []float64{0.1, 0.1, 0.1}, []float64{1, 1, 1}},
		{"all ramp, one is further", []float64{0.4, 0.2}, []float64{1, 0.5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			Level(tt.in)
			if !slices.Equal(tt.in, tt.want) {
				t.Errorf("levelled = %v, want %v", tt.in, tt.want)
			}
		})
	}
}

func TestWeights(t *testing.T) {
	many := slices.Repeat([]int{256}, 1000)
	half := slices.Repeat([]float64{1}, 1000)
	half[0] = 0.5
	halved := slices.Clone(many)
	halved[0] = 128
	tests := []struct {
		name    string
		weights []int
		factors []float64
		want    []int
	}{
		{"no ramp leaves the weights", []int{3, 1, 256}, []float64{1, 1, 1}, []int{3, 1, 256}},
		{"a weight of 1 ramps in tenths", []int{1, 1}, []float64{1, 0.3}, []int{10, 3}},
		{"never nothing", []int{1, 1}, []float64{1, 0.01}, []int{10, 1}},
		{"a large pool keeps its turns bounded", many, half, halved},
		{"nobody", nil, nil, []int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Weights(tt.weights, tt.factors); !slices.Equal(got, tt.want) {
				t.Errorf("weights = %v, want %v", got, tt.want)
			}
		})
	}
}

// Nobody starves, nobody gets more turns than the layout bears, and the
// shares are those of weight times factor to the nearest turn.
func TestWeightsKeepShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "servers")
		weights := rapid.SliceOfN(rapid.IntRange(1, 256), n, n).Draw(t, "weights")
		factors := rapid.SliceOfN(rapid.Float64Range(0.1, 1), n, n).Draw(t, "factors")
		Level(factors)
		got := Weights(weights, factors)
		sum, turns := 0, 0
		for i, w := range weights {
			sum += w
			turns += got[i]
		}
		if turns > max(maxTurns, sum) {
			t.Fatalf("%d turns, of weights that sum to %d", turns, sum)
		}
		// The scale is common: it shows in the one whose factor is 1.
		scale := 0.0
		for i, f := range factors {
			if f == 1 {
				scale = float64(got[i]) / float64(weights[i])
			}
		}
		for i, w := range weights {
			if got[i] < 1 {
				t.Fatalf("server %d of weight %d gets nothing", i, w)
			}
			if ideal := float64(w) * factors[i] * scale; math.Abs(float64(got[i])-ideal) > 0.5+1e-9 && got[i] != 1 {
				t.Fatalf("server %d: %d turns, want %.2f", i, got[i], ideal)
			}
		}
	})
}

func TestLimit(t *testing.T) {
	tests := []struct {
		name   string
		limit  int
		factor float64
		want   int
	}{
		{"none stays none", 0, 0.1, 0},
		{"whole", 50, 1, 50},
		{"a tenth", 50, 0.1, 5},
		{"at least one", 3, 0.1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Limit(tt.limit, tt.factor); got != tt.want {
				t.Errorf("limit = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestAdminStatus(t *testing.T) {
	tests := []struct {
		admin   Admin
		healthy bool
		want    string
	}{
		{InService, true, "HEALTHY"},
		{InService, false, "UNHEALTHY"},
		{Draining, true, "DRAINING"},
		{Draining, false, "DRAINING"},
		{Maintenance, false, "MAINTENANCE"},
	}
	for _, tt := range tests {
		if got := tt.admin.Status(tt.healthy); got != tt.want || !tt.admin.Known() {
			t.Errorf("%q, healthy %v: %s, known %v; want %s", tt.admin, tt.healthy, got, tt.admin.Known(), tt.want)
		}
	}
	if Admin("off").Known() {
		t.Error("an unknown word is known")
	}
}
