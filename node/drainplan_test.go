package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/bgp"
)

func TestDrainPlan(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		after time.Duration // since the start
		o     drainObservation
		want  DrainPhase
	}
	tests := []struct {
		name      string
		deadline  time.Duration // 0: none
		announces bool
		steps     []step
	}{
		{"quiet", 10 * time.Second, true, []step{
			{0, drainObservation{}, DrainShutting},
			{0, drainObservation{}, DrainShutting},
			{299 * ms, drainObservation{}, DrainShutting},
			{300 * ms, drainObservation{}, DrainWithdrawn},
			{301 * ms, drainObservation{}, DrainWithdrawn},
			{600 * ms, drainObservation{}, DrainClosing},
		}},
		{"what is in flight gets half of the time", 10 * time.Second, true, []step{
			{0, drainObservation{Lingering: 1}, DrainFinishing},
			{4999 * ms, drainObservation{Lingering: 1}, DrainFinishing},
			{5000 * ms, drainObservation{Lingering: 1}, DrainShutting},
		}},
		{"without a deadline it is waited for", 0, true, []step{
			{time.Hour, drainObservation{Lingering: 1}, DrainFinishing},
			{time.Hour, drainObservation{}, DrainShutting},
		}},
		{"who arrives keeps it from going on", 60 * time.Second, true, []step{
			{0, drainObservation{}, DrainShutting},
			{250 * ms, drainObservation{Accepted: 1}, DrainShutting},
			{400 * ms, drainObservation{Accepted: 2}, DrainShutting},
			{599 * ms, drainObservation{Accepted: 2}, DrainShutting},
			{600 * ms, drainObservation{Accepted: 2}, DrainWithdrawn},
		}},
		{"a router that has no other way does not keep it for ever", 60 * time.Second, true, []step{
			{0, drainObservation{}, DrainShutting},
			{2900 * ms, drainObservation{Accepted: 1}, DrainShutting},
			{3000 * ms, drainObservation{Accepted: 2}, DrainWithdrawn},
			{3001 * ms, drainObservation{Accepted: 3}, DrainWithdrawn},
			{6000 * ms, drainObservation{Accepted: 4}, DrainClosing},
		}},
		{"nothing is announced", 10 * time.Second, false, []step{{0, drainObservation{}, DrainWithdrawn}}},
		{"no time is left: withdrawn all the same", 0, true, []step{
			{0, drainObservation{Lingering: 1, Expired: true}, DrainWithdrawn},
			{0, drainObservation{Lingering: 1, Expired: true}, DrainClosing},
			{0, drainObservation{Lingering: 1, Expired: true}, DrainClosing},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			var deadline time.Time
			if tt.deadline > 0 {
				deadline = start.Add(tt.deadline)
			}
			p := newDrainPlan(start, deadline, tt.announces)
			for i, s := range tt.steps {
				if p = p.Step(s.o, start.Add(s.after)); p.Phase != s.want {
					t.Fatalf("step %d: %s, want %s", i, p.Phase, s.want)
				}
			}
		})
	}
}

// Whatever is observed, a drain ends, and no phase comes twice or before its turn.
func TestDrainPlanAlwaysEnds(t *testing.T) {
	order := []DrainPhase{DrainFinishing, DrainShutting, DrainWithdrawn, DrainClosing}
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1000, 0)
		limit := time.Duration(rapid.IntRange(0, 20000).Draw(t, "limit")) * time.Millisecond
		p := newDrainPlan(start, start.Add(limit), rapid.Bool().Draw(t, "announces"))
		now, seen := start, 0
		for p.Phase != DrainClosing {
			now = now.Add(drainPoll)
			p = p.Step(drainObservation{
				Lingering: rapid.IntRange(0, 1).Draw(t, "lingering"), Accepted: rapid.Uint64().Draw(t, "accepted"), Expired: now.Sub(start) > limit,
			}, now)
			for order[seen] != p.Phase {
				if seen++; seen == len(order) {
					t.Fatalf("%s comes after its turn", p.Phase)
				}
			}
			if now.Sub(start) > limit+3*drainPoll {
				t.Fatalf("still %s %s after the start, with %s", p.Phase, now.Sub(start), limit)
			}
		}
	})
}

func TestWorseRoutesAreValidAndTheOriginalStays(t *testing.T) {
	med := uint32(7)
	route := bgp.Route{Prefix: netip.MustParsePrefix("198.51.100.1/32"), NextHop: netip.MustParseAddr("10.0.1.2"), MED: &med, Communities: []uint32{1}}
	long := route
	long.Prepend = 16
	before := bgp.State{RouterID: netip.MustParseAddr("10.0.1.2"), Neighbors: []bgp.Neighbor{{
		Name: "tor", Address: netip.MustParseAddr("10.0.1.1"), ASN: 65000, LocalASN: 65010, HoldTime: 3 * time.Second, ConnectRetry: time.Second,
		Routes: []bgp.Route{route},
	}, {
		Name: "tor2", Address: netip.MustParseAddr("10.0.1.3"), ASN: 65000, LocalASN: 65010, HoldTime: 3 * time.Second, ConnectRetry: time.Second,
		Routes: []bgp.Route{long},
	}}}
	after := worse(before)
	if err := after.Validate(); err != nil {
		t.Fatal(err)
	}
	highest := uint32(1<<32 - 1)
	for i, prepend := range []int{3, 16} {
		want := before.Neighbors[i].Routes[0]
		want.Communities, want.MED, want.Prepend = []uint32{1, 65535 << 16}, &highest, prepend
		if diff := cmp.Diff(want, after.Neighbors[i].Routes[0], cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got := before.Neighbors[0].Routes[0]; *got.MED != 7 || len(got.Communities) != 1 || got.Prepend != 0 {
		t.Errorf("the state that it was made of: %+v", got)
	}
}
