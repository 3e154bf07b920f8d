package health

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMachine(t *testing.T) {
	// Results are + and -; states after each are ? (unknown), U (healthy), D.
	tests := []struct {
		name       string
		fall, rise int
		results    string
		states     string
		failures   int
	}{
		{"first success suffices at start", 3, 5, "+", "U", 0},
		{"unknown falls after fall failures", 3, 5, "---", "??D", 3},
		{"unknown recovers on one success before fall", 3, 5, "--+", "??U", 0},
		{"healthy falls after fall failures in a row", 3, 5, "+---", "UUUD", 3},
		{"unhealthy rises after rise successes in a row", 1, 3, "-+++", "DDDU", 0},
		{"an alternating server does not flap down", 3, 5, "+-+-+-+-+-", "UUUUUUUUUU", 1},
		{"two of three failures do not add up to a fall", 3, 5, "+--+--+--", "UUUUUUUUU", 2},
		{"an alternating server does not rise", 1, 2, "-+-+-+-", "DDDDDDD", 1},
		{"a failure starts the rise anew", 1, 3, "-++-+++", "DDDDDDU", 0},
		{"limits below 1 count as 1", 0, -1, "+-+-", "UDUD", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := New(tt.fall, tt.rise)
			if m.Checked() {
				t.Error("checked before any result")
			}
			var got strings.Builder
			for _, r := range tt.results {
				before := m.State()
				changed := m.Observe(r == '+')
				if changed != (before != m.State()) {
					t.Errorf("Observe reported changed=%v going from %v to %v", changed, before, m.State())
				}
				got.WriteByte("?UD"[m.State()])
			}
			if got.String() != tt.states {
				t.Errorf("states = %s, want %s", got.String(), tt.states)
			}
			if m.Failures() != tt.failures {
				t.Errorf("failures = %d, want %d", m.Failures(), tt.failures)
			}
			if !m.Checked() {
				t.Error("not checked after results")
			}
		})
	}
}

func TestRetuneKeepsState(t *testing.T) {
	m := New(3, 3)
	m.Observe(true)
	m.Observe(false)
	m.Retune(2, 1)
	if m.State() != Healthy {
		t.Fatalf("state after Retune = %v, want healthy", m.State())
	}
	if !m.Observe(false) || m.State() != Unhealthy {
		t.Errorf("second failure in a row with fall=2: state = %v, want unhealthy", m.State())
	}
}

// Whatever the results: a healthy server turns unhealthy exactly when the
// last fall results failed, and back when the last rise succeeded.
func TestMachineChangesOnlyOnFullRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fall := rapid.IntRange(1, 6).Draw(t, "fall")
		rise := rapid.IntRange(1, 6).Draw(t, "rise")
		m := New(fall, rise)
		row, last := 0, false
		for i, ok := range rapid.SliceOfN(rapid.Bool(), 1, 200).Draw(t, "results") {
			if i > 0 && ok == last {
				row++
			} else {
				row = 1
			}
			last = ok
			before := m.State()
			m.Observe(ok)
			var want State
			switch {
			case before != Unhealthy && !ok && row >= fall:
				want = Unhealthy
			case before == Unknown && ok, before == Unhealthy && ok && row >= rise:
				want = Healthy
			default:
				want = before
			}
			if m.State() != want {
				t.Fatalf("result %d: state %v, want %v", i, m.State(), want)
			}
		}
	})
}
