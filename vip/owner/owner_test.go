package owner

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// well is what a node sees that could hold the VIP and does not.
func well() Observation { return Observation{GateOpen: true, Carrier: true} }

type step struct {
	after  time.Duration // since the step before
	see    func(*Observation)
	code   Code
	answer bool
	ask    bool
	probe  bool
}

func TestDecisions(t *testing.T) {
	held := func(o *Observation) { o.Held = true }
	lost := func(o *Observation) { o.Unanswered = time.Second }
	resort := Policy{Takeover: LastResort, Lease: 250 * time.Millisecond}
	strict := Policy{Takeover: Strict, Lease: 250 * time.Millisecond}
	preempt := Policy{Takeover: Strict, Lease: 250 * time.Millisecond, Preempt: true, PreemptDelay: 10 * time.Second}
	second := Policy{Takeover: LastResort, Lease: 250 * time.Millisecond, Place: 1}
	better := func(o *Observation) { o.Held, o.Better = true, "n1" }
	tests := map[string]struct {
		policy Policy
		steps  []step
	}{
		"asks, and holds by lease": {strict, []step{
			{code: CodeAsking, ask: true},
			{see: held, code: CodeLease, answer: true, ask: true},
		}},
		"another one holds": {strict, []step{
			{see: func(o *Observation) { o.Holder = "n2" }, code: CodeOther, ask: true},
		}},
		"a closed gate releases what is held": {strict, []step{
			{see: held, code: CodeLease, answer: true, ask: true},
			{see: func(o *Observation) { o.Held, o.GateOpen = true, false }, code: CodeGate},
		}},
		"a link without carrier releases what is held": {strict, []step{
			{see: held, code: CodeLease, answer: true, ask: true},
			{see: func(o *Observation) { o.Held, o.Carrier = true, false }, code: CodeCarrier},
		}},
		"strict without a majority is silent": {strict, []step{
			{see: held, code: CodeLease, answer: true, ask: true},
			{see: lost, code: CodeMajority, ask: true},
			{after: time.Minute, see: lost, code: CodeMajority, ask: true},
		}},
		"last resort holds once the probe is over": {resort, []step{
			{see: held, code: CodeLease, answer: true, ask: true},
			{see: lost, code: CodeMajority, ask: true, probe: true},
			{see: lost, code: CodeMajority, ask: true, probe: true},
			{see: func(o *Observation) { lost(o); o.Probed = Silent }, code: CodeLastResort, answer: true, ask: true},
			{see: lost, code: CodeLastResort, answer: true, ask: true},
		}},
		"last resort is given up when a majority answers": {resort, []step{
			{see: lost, code: CodeMajority, ask: true, probe: true},
			{see: func(o *Observation) { lost(o); o.Probed = Silent }, code: CodeLastResort, answer: true, ask: true},
			{see: func(o *Observation) { o.Holder = "n2" }, code: CodeOther, ask: true},
		}},
		"last resort does not hold beside another": {resort, []step{
			{see: lost, code: CodeMajority, ask: true, probe: true},
			{see: func(o *Observation) { lost(o); o.Probed = Answered }, code: CodeMajority, ask: true},
			{see: lost, code: CodeMajority, ask: true},
			{after: 2 * time.Second, see: lost, code: CodeMajority, ask: true, probe: true},
		}},
		"last resort steps down for a rival at once": {resort, []step{
			{see: lost, code: CodeMajority, ask: true, probe: true},
			{see: func(o *Observation) { lost(o); o.Probed = Silent }, code: CodeLastResort, answer: true, ask: true},
			{see: func(o *Observation) { lost(o); o.Rival = true }, code: CodeConflict},
			{after: 11 * time.Second, see: lost, code: CodeMajority, ask: true, probe: true},
		}},
		"the second in line lets the first try": {second, []step{
			{see: lost, code: CodeMajority, ask: true},
			{after: 500 * time.Millisecond, see: lost, code: CodeMajority, ask: true, probe: true},
		}},
		"one conflict is defended against, a second one is not": {strict, []step{
			{see: held, code: CodeLease, answer: true, ask: true},
			{see: func(o *Observation) { o.Held, o.Rival = true, true }, code: CodeLease, answer: true, ask: true},
			{after: time.Second, see: func(o *Observation) { o.Held, o.Rival = true, true }, code: CodeConflict},
			{after: 5 * time.Second, code: CodeConflict},
			{after: 6 * time.Second, code: CodeAsking, ask: true},
		}},
		"conflicts that are far apart are each defended against": {strict, []step{
			{see: held, code: CodeLease, answer: true, ask: true},
			{see: func(o *Observation) { o.Held, o.Rival = true, true }, code: CodeLease, answer: true, ask: true},
			{after: 11 * time.Second, see: func(o *Observation) { o.Held, o.Rival = true, true }, code: CodeLease, answer: true, ask: true},
		}},
		"a better node gets it after the delay": {preempt, []step{
			{see: better, code: CodeLease, answer: true, ask: true},
			{after: 9 * time.Second, see: better, code: CodeLease, answer: true, ask: true},
			{after: time.Second, see: better, code: CodeYielded},
			{after: 500 * time.Millisecond, code: CodeYielded},
			{after: time.Second, code: CodeAsking, ask: true},
		}},
		"a better node that goes meanwhile begins anew": {preempt, []step{
			{see: better, code: CodeLease, answer: true, ask: true},
			{after: 9 * time.Second, see: held, code: CodeLease, answer: true, ask: true},
			{after: time.Second, see: better, code: CodeLease, answer: true, ask: true},
			{after: 9 * time.Second, see: better, code: CodeLease, answer: true, ask: true},
		}},
		"without preemption it stays": {strict, []step{
			{see: better, code: CodeLease, answer: true, ask: true},
			{after: time.Hour, see: better, code: CodeLease, answer: true, ask: true},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var o Owner
			now := start
			for i, s := range test.steps {
				now = now.Add(s.after)
				see := well()
				if s.see != nil {
					s.see(&see)
				}
				d := o.Step(test.policy, see, now)
				got := step{code: d.Code, answer: d.Answer, ask: d.Ask, probe: d.Probe}
				want := step{code: s.code, answer: s.answer, ask: s.ask, probe: s.probe}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(step{}), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".see" }, cmp.Ignore())); diff != "" {
					t.Fatalf("step %d: %s", i, diff)
				}
				if d.Message == "" {
					t.Fatalf("step %d: no message", i)
				}
			}
		})
	}
}

func TestNoAnswerWithoutALeaseOrAProbe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{
			Takeover: rapid.SampledFrom([]Takeover{Strict, LastResort}).Draw(t, "takeover"), Lease: 250 * time.Millisecond,
			Preempt: rapid.Bool().Draw(t, "preempt"), PreemptDelay: time.Second, Place: rapid.IntRange(0, 2).Draw(t, "place"),
		}
		var o Owner
		now, silent := start, false
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			see := Observation{
				GateOpen: rapid.IntRange(0, 9).Draw(t, "gate") > 0, Carrier: rapid.IntRange(0, 9).Draw(t, "carrier") > 0,
				Held: rapid.Bool().Draw(t, "held"), Rival: rapid.IntRange(0, 9).Draw(t, "rival") == 0,
				Unanswered: time.Duration(rapid.IntRange(0, 500).Draw(t, "unanswered")) * time.Millisecond,
				Probed:     rapid.SampledFrom([]Probe{NotProbed, Silent, Answered}).Draw(t, "probed"),
			}
			asked := o.Decision().Probe
			d := o.Step(p, see, now)
			silent = d.Code == CodeLastResort && (silent || asked && see.Probed == Silent)
			if d.Answer && (!see.GateOpen || !see.Carrier || !see.Held && (p.Takeover == Strict || !silent)) {
				t.Fatalf("answers as %s, seeing %+v", d.Code, see)
			}
			if d.Answer && !d.Ask {
				t.Fatalf("answers and gives the lease back: %+v", d)
			}
		}
	})
}

func TestSchedule(t *testing.T) {
	var s Schedule
	if s.Due(start) {
		t.Fatal("announces what was not begun")
	}
	s.Begin(start)
	var at []time.Duration
	for now := start; now.Before(start.Add(3 * time.Minute)); now = now.Add(10 * time.Millisecond) {
		if s.Due(now) {
			at = append(at, now.Sub(start).Round(10*time.Millisecond))
		}
	}
	ms := time.Millisecond
	want := []time.Duration{
		0, 20 * ms, 40 * ms, 60 * ms, 80 * ms,
		5000 * ms, 5020 * ms, 5040 * ms, 5060 * ms, 5080 * ms,
		65 * time.Second, 125 * time.Second,
	}
	if diff := cmp.Diff(want, at); diff != "" {
		t.Fatal(diff)
	}
	s.Due(start.Add(time.Hour))
	if s.Due(start.Add(time.Hour + time.Second)) {
		t.Fatal("makes up for announcements that it missed")
	}
	s.Stop()
	if s.Due(start.Add(2 * time.Hour)) {
		t.Fatal("announces after Stop")
	}
}
