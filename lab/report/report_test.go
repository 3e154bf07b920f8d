package report

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/lab/drill"
	"github.com/pharos-lb/pharos/lab/drill/oracle"
	"github.com/pharos-lb/pharos/lab/traffic/record"
)

var update = flag.Bool("update", false, "write the goldens anew")

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

const milli = time.Millisecond

func killed(gap time.Duration, node string) drill.Result {
	limit, zero := 120*milli, 0
	failed := int(gap / (2 * milli))
	third := []oracle.Share{{Node: "n1", Count: 250, Part: 1.0 / 3}, {Node: "n2", Count: 245, Part: 0.98 / 3}, {Node: "n3", Count: 255, Part: 1.02 / 3}}
	v := oracle.Verdict{
		Limits: oracle.Limits{MaxGap: &limit, MaxReturnFailed: &zero, MaxLate: 100 * milli},
		Zero:   time.Unix(0, 0), Interval: 2 * milli,
		Counts:       oracle.Counts{Sent: 3000, Answered: 2999 - failed, Failed: failed, Cut: 1},
		By:           []oracle.Kind{{Outcome: record.Refused, Stage: record.Connecting, Count: failed - 1}, {Outcome: record.Reset, Stage: record.Established, Count: 1}},
		FirstFailure: milli, LastFailure: gap - milli, LongestGap: gap,
		Outages: []oracle.Outage{{Start: milli, Length: gap, Failed: failed}},
		Steps:   []oracle.StepTime{{Name: "kill", Took: 300 * time.Microsecond}, {Name: "start", At: 1600 * milli, Took: 20 * milli}},
		Router: []oracle.Change{
			{At: -2000 * milli, NextHops: []string{"n1", "n2", "n3"}}, {At: gap + milli, NextHops: []string{"n1", "n3"}}, {At: 2900 * milli, NextHops: []string{"n1", "n2", "n3"}},
		},
		Windows: []oracle.Window{
			{Name: "before", Start: -1500 * milli, Length: 1500 * milli, Counts: oracle.Counts{Sent: 750, Answered: 750}, Spread: oracle.Spread{Shares: third, Deviation: 2}, Latency: oracle.Latency{P50: 600 * time.Microsecond, P99: 2 * milli, Max: 12345 * time.Microsecond}},
			{Name: "kill", Length: 1600 * milli, Counts: oracle.Counts{Sent: 800, Answered: 799 - failed, Failed: failed, Cut: 1}, LongestGap: gap, Converged: gap + milli, Observed: true},
			{Name: "start", Start: 1600 * milli, Length: 2 * time.Second, Counts: oracle.Counts{Sent: 1000, Answered: 1000}, Converged: 1300 * milli, Observed: true},
			{Name: "after", Start: 3600 * milli, Length: 900 * milli, Counts: oracle.Counts{Sent: 450, Answered: 450}},
		},
		Held:    []oracle.HeldNode{{Refused: 2}, {Node: "n1", Alive: 10, Cut: 1}, {Node: node, Finished: 1, Broken: 9}},
		HeldCut: 1, Back: true, FirstCarried: 2905 * milli, HasReturnStep: true,
		MaxLate: 3 * milli, CPUPerProbe: 93 * time.Microsecond,
	}
	if gap > limit {
		v.Broken = []oracle.Reason{{Code: oracle.GapTooLong, Message: "the longest gap is too long"}}
	}
	return drill.Result{Scenario: "node-kill", Site: "lab anycast", Target: "198.51.100.1:80", Node: node, Started: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Verdict: v}
}

func invalid() drill.Result {
	r := killed(80*milli, "n3")
	r.Verdict.Invalid = []oracle.Reason{{Code: oracle.FaultNotSeen, Message: "after kill, n3 never left the router's next hops"}}
	return r
}

// checked is a run in which something was tried as an operator.
func checked() drill.Result {
	r := killed(80*milli, "n2")
	r.Scenario = "leader-kill"
	r.Verdict.Checks = []oracle.CheckTime{
		{What: "a change on n1 is accepted", At: 700 * milli},
		{What: "a change on n3 is refused for want of a majority", At: 800 * milli, Wrong: "it was accepted"},
	}
	r.Verdict.Broken = []oracle.Reason{{Code: oracle.CheckFailed, Message: "a change on n3 is refused for want of a majority: it was accepted"}}
	return r
}

func TestGoldens(t *testing.T) {
	for name, results := range map[string][]drill.Result{
		"checked": {checked()},
		"passed":  {killed(80*milli, "n2")},
		"invalid": {invalid()},
		"repeat":  {killed(80*milli, "n1"), killed(130*milli, "n2"), invalid(), killed(70*milli, "n1")},
	} {
		t.Run(name, func(t *testing.T) {
			d := New(results)
			var table, doc strings.Builder
			if err := errors.Join(d.Table(&table), d.JSON(&doc)); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", table.String())
			golden(t, name+".json", doc.String())
			var back Document
			if err := json.Unmarshal([]byte(doc.String()), &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d, back); diff != "" {
				t.Errorf("the document does not read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneBadRunIsEnough(t *testing.T) {
	good := killed(80*milli, "n2")
	for _, tc := range []struct {
		name          string
		results       []drill.Result
		valid, passed bool
	}{
		{"all good", []drill.Result{good, good}, true, true},
		{"one breaks a limit", []drill.Result{good, killed(130*milli, "n2")}, true, false},
		{"one is invalid", []drill.Result{good, invalid()}, false, false},
		{"none was run", nil, false, false},
	} {
		if d := New(tc.results); d.Valid != tc.valid || d.Passed != tc.passed {
			t.Errorf("%s: valid %v, passed %v; want %v, %v", tc.name, d.Valid, d.Passed, tc.valid, tc.passed)
		}
	}
}

func TestAnInvalidRunDoesNotCountInTheSummary(t *testing.T) {
	bad := killed(900*milli, "n3")
	bad.Verdict.Invalid = []oracle.Reason{{Code: oracle.ProberLate, Message: "late"}}
	s := New([]drill.Result{killed(80*milli, "n1"), killed(90*milli, "n2"), bad}).Summary
	if s.Runs != 3 || s.Valid != 2 || s.Gap.Worst != 90 || s.Gap.Median != 80 || s.Longest != 2 {
		t.Errorf("%+v", s)
	}
}
