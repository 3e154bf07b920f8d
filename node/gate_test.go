package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
