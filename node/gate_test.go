package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// well is an observation that nothing speaks against.
func well() Observation { return Observation{Applied: true, Listeners: 1, NextHops: 1} }

func codes(g Gate) []ReasonCode {
	var cs []ReasonCode
	for _, r := range g.Reasons {
		cs = append(cs, r.Code)
	}
	return cs
}

func TestGateRefusesWithATypedReason(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct {
		name   string
		alter  func(*Observation)
		closed []ReasonCode // of a gate that was never open
		open   []ReasonCode // of a gate that was open until now
	}{
		{"all well", func(*Observation) {}, nil, nil},
		{"not configured", func(o *Observation) { *o = Observation{} }, []ReasonCode{ReasonNotApplied}, []ReasonCode{ReasonNotApplied}},
		{"stopping", func(o *Observation) { o.Stopping = true }, []ReasonCode{ReasonStopping}, []ReasonCode{ReasonStopping}},
		{"draining", func(o *Observation) { o.Draining = true }, []ReasonCode{ReasonDraining}, []ReasonCode{ReasonDraining}},
		{"no address", func(o *Observation) { o.AddressError = "gone" }, []ReasonCode{ReasonNoAddress}, []ReasonCode{ReasonNoAddress}},
		{"no listener", func(o *Observation) { o.Listeners = 0 }, []ReasonCode{ReasonNoListener}, []ReasonCode{ReasonNoListener}},
		{"listener lost", func(o *Observation) { o.NotAccepting = []string{"web"} }, []ReasonCode{ReasonNotAccepting}, []ReasonCode{ReasonNotAccepting}},
		{"unchecked servers do not close an open gate", func(o *Observation) { o.Unchecked = []string{"p"} }, []ReasonCode{ReasonUnchecked}, nil},
		{"too few healthy", func(o *Observation) { o.Short, o.MinHealthy = []string{"p"}, 2 }, []ReasonCode{ReasonTooFewHealthy}, []ReasonCode{ReasonTooFewHealthy}},
		{"node not selected", func(o *Observation) { o.NotSelected, o.NextHops = true, 0 }, []ReasonCode{ReasonNotSelected}, []ReasonCode{ReasonNotSelected}},
		{"never probed does not close an open gate", func(o *Observation) { o.Unproven = []string{"web"} }, []ReasonCode{ReasonUnproven}, nil},
		{"probe failed", func(o *Observation) { o.Fallen = []string{"web"} }, []ReasonCode{ReasonProbeFailed}, []ReasonCode{ReasonProbeFailed}},
		{"event loop stalled", func(o *Observation) { o.Owed = time.Second }, []ReasonCode{ReasonStalled}, []ReasonCode{ReasonStalled}},
		{"disk full", func(o *Observation) { o.Disk = "full" }, []ReasonCode{ReasonDisk}, []ReasonCode{ReasonDisk}},
		{"descriptors exhausted", func(o *Observation) { o.Descriptors = "all open" }, []ReasonCode{ReasonDescriptors}, []ReasonCode{ReasonDescriptors}},
		{"no neighbor", func(o *Observation) { o.NextHops = 0 }, []ReasonCode{ReasonNoNeighbor}, []ReasonCode{ReasonNoNeighbor}},
		{
			"every cause is named",
			func(o *Observation) { o.Draining, o.NotAccepting, o.NextHops = true, []string{"web"}, 0 },
			[]ReasonCode{ReasonDraining, ReasonNotAccepting, ReasonNoNeighbor},
			[]ReasonCode{ReasonDraining, ReasonNotAccepting, ReasonNoNeighbor},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := well()
			tt.alter(&o)
			if diff := cmp.Diff(tt.closed, codes(Gate{}.Step(o, now))); diff != "" {
				t.Errorf("a closed gate (-want +got):\n%s", diff)
			}
			opened := Gate{}.Step(well(), now)
			if !opened.Open {
				t.Fatal("a well VIP's gate stayed closed")
			}
			got := opened.Step(o, now.Add(time.Second))
			if diff := cmp.Diff(tt.open, codes(got)); diff != "" {
				t.Errorf("an open gate (-want +got):\n%s", diff)
			}
			if got.Open != (len(got.Reasons) == 0) {
				t.Errorf("open=%v with reasons %v", got.Open, got.Reasons)
			}
		})
	}
}

func TestGateHoldsDownAfterAFaultAndDoublesWhenItFlaps(t *testing.T) {
	now := time.Unix(1000, 0)
	lost := well()
	lost.NotAccepting = []string{"web"}
	g := Gate{}.Step(well(), now)
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		want *= time.Second
		now = now.Add(time.Millisecond)
		g = g.Step(lost, now)
		g = g.Step(well(), now)
		if diff := cmp.Diff([]ReasonCode{ReasonHoldDown}, codes(g)); diff != "" {
			t.Fatalf("after a fault (-want +got):\n%s", diff)
		}
		if got := g.NextCheck().Sub(now); got != want {
			t.Fatalf("hold-down %s, want %s", got, want)
		}
		if g.Step(well(), now.Add(want-1)).Open {
			t.Fatal("opened before the hold-down had run out")
		}
		now = now.Add(want)
		if g = g.Step(well(), now); !g.Open {
			t.Fatal("closed after the hold-down had run out")
		}
	}
	now = now.Add(holdDownMemory + time.Second)
	if g = g.Step(lost, now).Step(well(), now); g.NextCheck().Sub(now) != holdDownMin {
		t.Fatalf("hold-down after a long quiet: %s, want %s", g.NextCheck().Sub(now), holdDownMin)
	}
}

func TestGateHoldDownStartsAnewWithEachFault(t *testing.T) {
	now := time.Unix(1000, 0)
	lost := well()
	lost.AddressError = "removed"
	g := Gate{}.Step(well(), now).Step(lost, now).Step(well(), now)
	g = g.Step(lost, now.Add(time.Second)).Step(well(), now.Add(time.Second))
	if g.Step(well(), now.Add(holdDownMin)).Open {
		t.Fatal("the hold-down counted from before the second fault")
	}
	if !g.Step(well(), now.Add(time.Second+holdDownMin)).Open {
		t.Fatal("still closed after a whole hold-down without a fault")
	}
}

func TestGateOpensAtOnceAfterAPlannedClosing(t *testing.T) {
	now := time.Unix(1000, 0)
	drained := well()
	drained.Draining = true
	g := Gate{}.Step(well(), now).Step(drained, now.Add(time.Second))
	if g.Open {
		t.Fatal("open while draining")
	}
	if !g.Step(well(), now.Add(2*time.Second)).Open {
		t.Fatalf("an undrained node must not wait: %v", codes(g.Step(well(), now.Add(2*time.Second))))
	}
}

func short() Observation {
	o := well()
	o.Short, o.MinHealthy, o.FailOpen = []string{"p"}, 1, true
	return o
}

func TestGateFailsOpen(t *testing.T) {
	t0 := time.Unix(1000, 0)
	open := Gate{}.Step(well(), t0)
	type step struct {
		after      time.Duration // since t0
		alter      func(*Observation)
		open       bool
		overruled  bool
		checkAfter time.Duration // since t0; 0: no time is named
	}
	others := func(o *Observation) { o.OthersWell = true }
	alone := func(*Observation) {}
	never := func(o *Observation) { o.FailOpen = false }
	tests := []struct {
		name  string
		from  Gate
		steps []step
	}{
		{"the last one stays open", open, []step{
			{time.Second, alone, true, true, 2 * time.Second},
			{time.Hour, alone, true, true, 2 * time.Second},
		}},
		{"others are well: it waits for what they say, and closes", open, []step{
			{time.Second, others, true, true, 2 * time.Second},
			{1999 * time.Millisecond, others, true, true, 2 * time.Second},
			{2 * time.Second, others, false, false, 0},
		}},
		{"others have the same fault by then", open, []step{
			{time.Second, others, true, true, 2 * time.Second},
			{2 * time.Second, alone, true, true, 2 * time.Second},
		}},
		{"another one is well again later", open, []step{
			{time.Second, alone, true, true, 2 * time.Second},
			{time.Minute, others, false, false, 0},
		}},
		{"it closed, and the others are gone: no hold-down", open, []step{
			{time.Second, others, true, true, 2 * time.Second},
			{3 * time.Second, others, false, false, 0},
			{3100 * time.Millisecond, alone, true, true, 4100 * time.Millisecond},
		}},
		{"a node that starts opens for want of others", Gate{}, []step{{0, alone, true, true, time.Second}}},
		{"a node that starts leaves it to others", Gate{}, []step{{0, others, false, false, 0}}},
		{"the VIP does not want it", open, []step{{time.Second, never, false, false, 0}}},
		{"a disk and descriptors count as a pool does", open, []step{
			{time.Second, func(o *Observation) { o.Disk, o.Descriptors = "full", "all open" }, true, true, 2 * time.Second},
		}},
		{"not in spite of a listener that hangs", open, []step{
			{time.Second, func(o *Observation) { o.Fallen = []string{"web"} }, false, false, 0},
		}},
		{"not in spite of a drain", open, []step{
			{time.Second, func(o *Observation) { o.Draining = true }, false, false, 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := tt.from
			for i, s := range tt.steps {
				o := short()
				s.alter(&o)
				g = g.Step(o, t0.Add(s.after))
				check := time.Duration(0)
				if next := g.NextCheck(); !next.IsZero() {
					check = next.Sub(t0)
				}
				if g.Open != s.open || (len(g.Overruled) > 0) != s.overruled || check != s.checkAfter || g.Well() {
					t.Errorf("step %d: open %v, overruled %v, next check after %s, well %v", i, g.Open, g.Overruled, check, g.Well())
				}
			}
		})
	}
}

// Whatever comes, a gate is open exactly if it gives no reason, is well only if it
// is open, and never open in spite of what nothing excuses.
func TestGateIsOpenExactlyWithoutReasons(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		var g Gate
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			one := func(name string) (s []string) {
				if rapid.IntRange(0, 4).Draw(t, name) == 0 {
					s = []string{name}
				}
				return s
			}
			yes := func(name string) bool { return rapid.IntRange(0, 4).Draw(t, name) == 0 }
			o := Observation{
				Applied: !yes("lost"), Stopping: yes("stopping"), Draining: yes("draining"), Listeners: 1, NextHops: 1,
				NotAccepting: one("deaf"), Unchecked: one("unchecked"), Short: one("short"), Unproven: one("unproven"), Fallen: one("fallen"),
				FailOpen: rapid.Bool().Draw(t, "fail open"), OthersWell: rapid.Bool().Draw(t, "others"),
			}
			was := g
			g = g.Step(o, now)
			if g.Open != (len(g.Reasons) == 0) || g.Well() && !g.Open || len(g.Overruled) > 0 && !g.Open {
				t.Fatalf("%+v", g)
			}
			if c := o.causes(was.Open); g.Open && c.weighty {
				t.Fatalf("open in spite of %v", c.reasons)
			}
			for _, r := range append(g.Reasons, g.Overruled...) {
				if r.Since.After(now) || r.Since.IsZero() {
					t.Fatalf("%s since %s", r.Code, r.Since)
				}
			}
		}
	})
}

// A hold-down that was served is over: undraining a node that had a fault an hour
// before must not wait for it once more.
func TestGateServesAHoldDownOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	lost, drained := well(), well()
	lost.NotAccepting = []string{"web"}
	drained.Draining = true
	g := Gate{}.Step(well(), now).Step(lost, now).Step(well(), now)
	now = now.Add(holdDownMin)
	if g = g.Step(well(), now); !g.Open {
		t.Fatal("closed after the hold-down")
	}
	if g = g.Step(drained, now.Add(time.Second)).Step(well(), now.Add(2*time.Second)); !g.Open {
		t.Fatalf("closed after a drain: %v", codes(g))
	}
}

func TestGateReasonsKeepTheirAge(t *testing.T) {
	t0 := time.Unix(1000, 0)
	o := well()
	o.Listeners = 0
	g := Gate{}.Step(o, t0)
	o.NextHops = 0
	g = g.Step(o, t0.Add(time.Minute))
	want := []Reason{{Code: ReasonNoListener, Since: t0}, {Code: ReasonNoNeighbor, Since: t0.Add(time.Minute)}}
	for i := range g.Reasons {
		g.Reasons[i].Message = ""
	}
	if diff := cmp.Diff(want, g.Reasons); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !g.Since.Equal(t0) {
		t.Errorf("closed since %s, want %s", g.Since, t0)
	}
}
