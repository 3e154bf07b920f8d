package health

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEjectorIsDue(t *testing.T) {
	o := Config{Outlier: &Outlier{Consecutive5xx: 3, ConsecutiveErrors: 2}}.WithDefaults().Outlier
	tests := []struct {
		name    string
		outlier *Outlier
		signs   string // g good, 5 bad answer, x failure
		want    bool
	}{
		{"nothing yet", o, "", false},
		{"two of three bad answers", o, "55", false},
		{"three bad answers in a row", o, "555", true},
		{"a good answer ends the row: consecutive means consecutive", o, "55g5", false},
		{"two failures in a row", o, "xx", true},
		{"a good answer ends that row too", o, "xgxgx", false},
		{"a failure does not end a row of bad answers", o, "55x5", true},
		{"a bad answer does not end a row of failures", o, "x5x", true},
		{"neither counts for the other", o, "55x", false},
		{"bad answers off", &Outlier{Consecutive5xx: -1, ConsecutiveErrors: 2}, "5555555555", false},
		{"failures off", &Outlier{Consecutive5xx: 3, ConsecutiveErrors: -1}, "xxxxxxxxxx", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e Ejector
			for _, s := range tt.signs {
				e.Observe(map[rune]Sign{'g': Good, '5': BadAnswer, 'x': Failure}[s])
			}
			if got := e.Due(tt.outlier); got != tt.want {
				t.Errorf("due = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEjectionsGrowAndShrinkAgain(t *testing.T) {
	o := &Outlier{Consecutive5xx: 1, ConsecutiveErrors: 1, BaseEjection: 30 * time.Second, MaxEjection: 80 * time.Second, MaxShare: 1}
	var e Ejector
	now := time.Hour
	steps := []struct {
		calm time.Duration // in service before the ejection
		want time.Duration
	}{
		{0, 30 * time.Second},
		{0, 60 * time.Second},
		{29 * time.Second, 80 * time.Second},   // the third: 90 s, bounded
		{0, 80 * time.Second},                  // no more is remembered than reaches the bound
		{30 * time.Second, 80 * time.Second},   // one forgiven, one more: as before
		{60 * time.Second, 60 * time.Second},   // two forgiven, one more
		{1000 * time.Second, 30 * time.Second}, // all forgiven
	}
	for i, s := range steps {
		now += s.calm
		e.Observe(Failure)
		if !e.Due(o) {
			t.Fatalf("ejection %d is not due", i+1)
		}
		if got := e.Eject(o, now) - now; got != s.want {
			t.Errorf("ejection %d, after %v in service, is for %v, want %v", i+1, s.calm, got, s.want)
		}
		if !e.Out() || e.Due(o) {
			t.Errorf("ejected: out %v, due again %v", e.Out(), e.Due(o))
		}
		e.Observe(Failure) // was in flight
		if e.Return(e.Until() - 1) {
			t.Errorf("ejection %d ended before its time", i+1)
		}
		now = e.Until()
		if !e.Return(now) || e.Out() {
			t.Errorf("ejection %d did not end at its time", i+1)
		}
		if a, f := e.Rows(); a != 0 || f != 0 {
			t.Errorf("back with rows of %d and %d: what was in flight at the ejection counted", a, f)
		}
	}
}

func TestMayEject(t *testing.T) {
	tests := []struct {
		name             string
		servers, ejected int
		share            float64
		want             bool
	}{
		{"half of two", 2, 0, 0.5, true},
		{"more than half of two", 2, 1, 0.5, false},
		{"the only server", 1, 0, 0.5, false},
		{"the only server, if all may go", 1, 0, 1, true},
		{"a tenth of nine is none", 9, 0, 0.1, false},
		{"a tenth of ten is one", 10, 0, 0.1, true},
		{"a share that floats below a whole number", 100, 28, 0.29, true},
		{"all", 3, 3, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := MayEject(tt.servers, tt.ejected, tt.share); got != tt.want {
				t.Errorf("MayEject = %v, want %v", got, tt.want)
			}
		})
	}
}

// However many want to be ejected, no more than the share are.
func TestMayEjectNeverPassesTheShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := rapid.IntRange(0, 2000).Draw(t, "servers")
		percent := rapid.IntRange(0, 100).Draw(t, "share in percent")
		ejected := 0
		for ejected <= servers && MayEject(servers, ejected, float64(percent)/100) {
			ejected++
		}
		if want := servers * percent / 100; ejected != want {
			t.Fatalf("%d of %d were ejected, want %d (%d %%)", ejected, servers, want, percent)
		}
	})
}
