package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/proxy"
)

func TestDescribeNamesTheSessionsThatCarryAVIP(t *testing.T) {
	snap := oneVIP(3, "a", "b")
	now := time.Unix(1000, 0)
	v := &View{Version: 3, Applied: true, Config: snap.Snapshot.Config, Gates: map[string]Gate{
		"a": {Open: true, Since: now},
		"b": {Reasons: []Reason{{Code: ReasonDraining, Message: "m", Since: now}}},
	}}
	sessions := []bgp.SessionStatus{
		{Neighbor: "tor", Established: true, State: "established", Since: now, Announced: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}},
		{Neighbor: "down", State: "active", Announced: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}},
	}
	got := describe(v, proxy.Status{Connections: 4, InFlight: 2}, sessions)
	if diff := cmp.Diff([]string{"tor"}, got.Vips[0].Neighbors); diff != "" {
		t.Errorf("neighbors of a: %s", diff)
	}
	if !got.Vips[0].Announcing || got.Vips[1].Announcing || got.Vips[1].Reasons[0].Code != "draining" {
		t.Errorf("gates: %v", got.Vips)
	}
	if got.Sessions[0].Asn != 65000 || got.Sessions[0].Address != "10.0.1.1" || got.Sessions[1].Since != nil {
		t.Errorf("sessions: %v", got.Sessions)
	}
	if ready(got) {
		t.Error("ready though b is not announced")
	}
	got.Vips[1].Reasons[0].Code = string(ReasonNotSelected)
	if !ready(got) {
		t.Error("not ready though b is for other nodes to announce")
	}
	got.Vips = got.Vips[:1]
	if !ready(got) {
		t.Error("not ready though all is announced")
	}
	got.Vips[0].Neighbors = nil
	if ready(got) {
		t.Error("ready though no session carries the VIP")
	}
}
