package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/registry"
)

func TestEveryAnnouncementThatIsNotMadeHasAReason(t *testing.T) {
	const web4, web6, dns = "198.51.100.1/32", "2001:db8:100::1/128", "198.51.100.2/32"
	now := time.Unix(1000, 0)
	up := func(name string, prefixes ...string) bgp.SessionStatus {
		s := bgp.SessionStatus{Neighbor: name, Established: true, State: "established", Since: now}
		for _, p := range prefixes {
			s.Announced = append(s.Announced, netip.MustParsePrefix(p))
		}
		return s
	}
	down := func(name, reason string) bgp.SessionStatus {
		return bgp.SessionStatus{Neighbor: name, State: "active", LastError: reason}
	}
	open := map[string]Gate{"web": {Open: true}, "dns": {Open: true}}
	both := []bgp.SessionStatus{up("tor1", web4, web6, dns), up("tor2", web4, dns)}
	all := map[string]string{
		"web tor1 " + web4: "announced", "web tor1 " + web6: "announced", "dns tor1 " + dns: "announced",
		"web tor2 " + web4: "announced", "web tor2 " + web6: "no_next_hop", "dns tor2 " + dns: "announced",
	}
	for _, test := range []struct {
		name     string
		config   func(*registry.Config)
		gates    map[string]Gate
		sessions []bgp.SessionStatus
		want     map[string]string // what differs from all
	}{
		{name: "all is well", gates: open, sessions: both},
		{
			name: "a closed gate", gates: map[string]Gate{"web": {Open: true}, "dns": {Reasons: []Reason{{Code: ReasonDraining}, {Code: ReasonNoListener}}}},
			sessions: []bgp.SessionStatus{up("tor1", web4, web6), up("tor2", web4)},
			want:     map[string]string{"dns tor1 " + dns: "draining no_listener", "dns tor2 " + dns: "draining no_listener"},
		},
		{
			name: "a closed gate, and the withdrawal is under way", gates: map[string]Gate{"web": {Open: true}, "dns": {Reasons: []Reason{{Code: ReasonDraining}}}},
			sessions: both,
			want:     map[string]string{"dns tor1 " + dns: "announced draining withdrawing", "dns tor2 " + dns: "announced draining withdrawing"},
		},
		{
			name: "the node is not selected", config: func(c *registry.Config) { c.VIPs[1].Nodes = []string{"n2"} },
			gates: open, sessions: []bgp.SessionStatus{up("tor1", web4, web6), up("tor2", web4)},
			want: map[string]string{"dns tor1 " + dns: "node_not_selected", "dns tor2 " + dns: "node_not_selected"},
		},
		{
			name: "the neighbor is not selected", config: func(c *registry.Config) { c.VIPs[1].Neighbors = []string{"tor2", "other"} },
			gates: open, sessions: []bgp.SessionStatus{up("tor1", web4, web6), up("tor2", web4, dns)},
			want: map[string]string{"dns tor1 " + dns: "neighbor_not_selected"},
		},
		{
			name: "a session is down", gates: open, sessions: []bgp.SessionStatus{up("tor1", web4, web6, dns), down("tor2", "connection refused")},
			want: map[string]string{"web tor2 " + web4: "session_down", "dns tor2 " + dns: "session_down"},
		},
		{
			name: "a session is not there yet", gates: open, sessions: both[:1],
			want: map[string]string{"web tor2 " + web4: "session_down", "dns tor2 " + dns: "session_down"},
		},
		{
			name: "a family that the router does not speak", gates: open,
			sessions: []bgp.SessionStatus{func() bgp.SessionStatus {
				s := up("tor1", web4, dns)
				s.Unspoken = []netip.Prefix{netip.MustParsePrefix(web6)}
				return s
			}(), both[1]},
			want: map[string]string{"web tor1 " + web6: "family_not_negotiated"},
		},
		{
			name: "an UPDATE on its way", gates: open, sessions: []bgp.SessionStatus{up("tor1", web4, web6), both[1]},
			want: map[string]string{"dns tor1 " + dns: "pending"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := sample()
			if test.config != nil {
				test.config(&c)
			}
			self := Config{Name: "n1", Addresses: addrs("10.0.1.2", "2001:db8:1::2")}
			state, err := bgpState(c, self, func(vip string) bool { return test.gates[vip].Open })
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for key, value := range all {
				want[key] = value
			}
			for key, value := range test.want {
				want[key] = value
			}
			got := map[string]string{}
			for _, a := range announcements(c, self, test.gates, &state, test.sessions) {
				text := ""
				if a.announced {
					text = "announced"
				}
				for _, r := range a.reasons {
					text += " " + string(r.Code)
					if r.Message == "" && r.Code != ReasonDraining && r.Code != ReasonNoListener {
						t.Errorf("%s has no words", r.Code)
					}
				}
				if !a.announced && len(a.reasons) > 0 {
					text = text[1:]
				}
				got[a.vip+" "+a.neighbor+" "+a.route.Prefix.String()] = text
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is shown is what the speaker was given, also where that is more than the
// configuration says, as a drain's community.
func TestAnnouncementsShowWhatTheSpeakerWasGiven(t *testing.T) {
	c := sample()
	self := Config{Name: "n1", Addresses: addrs("10.0.1.2")}
	state, err := bgpState(c, self, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	const gracefulShutdown = 0xffff0000
	state.Neighbors[0].Routes[0].Communities = []uint32{gracefulShutdown}
	draining := map[string]Gate{"web": {Reasons: []Reason{{Code: ReasonDraining}}}, "dns": {Open: true}}
	sessions := []bgp.SessionStatus{{Neighbor: "tor1", Established: true, Announced: []netip.Prefix{state.Neighbors[0].Routes[0].Prefix}}}
	all := announcements(c, self, draining, &state, sessions)
	i := slices.IndexFunc(all, func(a announcement) bool { return a.vip == "web" && a.neighbor == "tor1" })
	if got := all[i]; !got.announced || len(got.reasons) > 0 || !slices.Equal(got.route.Communities, []uint32{gracefulShutdown}) {
		t.Errorf("%+v", got)
	}
	// Without it, the gate speaks.
	if got := announcements(c, self, draining, nil, sessions)[i]; len(got.reasons) != 2 || got.reasons[1].Code != ReasonWithdrawing {
		t.Errorf("%+v", got)
	}
}

func TestAnnouncementsInTheAPIsWords(t *testing.T) {
	c := sample()
	c.Neighbors[1].ASN, c.Neighbors[1].LocalPreference = 65010, ptr(uint32(7))
	c.VIPs[0].Communities = []string{"65535:0", "65010:1"}
	c.VIPs[0].LargeCommunities = []string{"4200000001:1:2"}
	v := &View{Config: c, Gates: map[string]Gate{"web": {Open: true}, "dns": {Reasons: []Reason{{Code: ReasonDraining, Message: "m"}}}}}
	sessions := []bgp.SessionStatus{{Neighbor: "tor1", Established: true, State: "established", Announced: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}}}
	got := describeRouting(v, Config{Name: "n1", Addresses: addrs("10.0.1.2")}, sessions)
	want := &pharosv1.NodeRoutingResponse{
		Node:     "n1",
		Sessions: []*pharosv1.SessionStatus{{Neighbor: "tor1", Address: "10.0.1.1", Asn: 65000, State: "established", Announced: []string{"198.51.100.1/32"}}},
		Announcements: []*pharosv1.Announcement{
			{
				Vip: "web", Neighbor: "tor1", Prefix: "198.51.100.1/32", Announced: true, NextHop: "10.0.1.2", AsPath: []uint32{65010, 65010, 65010}, Med: ptr(uint32(50)),
				Communities: []string{"65010:1", "graceful-shutdown"}, LargeCommunities: []string{"4200000001:1:2"},
			},
			{Vip: "web", Neighbor: "tor1", Prefix: "2001:db8:100::1/128", Reasons: []*pharosv1.Reason{{Code: "no_next_hop", Message: "this node has no address of the family of 2001:db8:100::1 to be the next hop"}}},
			{
				Vip: "web", Neighbor: "tor2", Prefix: "198.51.100.1/32", NextHop: "10.9.0.7", LocalPreference: ptr(uint32(7)),
				Communities: []string{"graceful-shutdown", "65010:1"}, LargeCommunities: []string{"4200000001:1:2"},
				Reasons: []*pharosv1.Reason{{Code: "session_down", Message: "there is no session with it yet"}},
			},
			{Vip: "web", Neighbor: "tor2", Prefix: "2001:db8:100::1/128", Reasons: []*pharosv1.Reason{{Code: "no_next_hop", Message: "this node has no address of the family of 2001:db8:100::1 to be the next hop"}}},
			{
				Vip: "dns", Neighbor: "tor1", Prefix: "198.51.100.2/32", NextHop: "10.0.1.2", AsPath: []uint32{65010, 65010, 65010}, Med: ptr(uint32(50)),
				Communities: []string{"65010:1"}, Reasons: []*pharosv1.Reason{{Code: "draining", Message: "m"}},
			},
			{
				Vip: "dns", Neighbor: "tor2", Prefix: "198.51.100.2/32", NextHop: "10.9.0.7", LocalPreference: ptr(uint32(7)),
				Reasons: []*pharosv1.Reason{{Code: "draining", Message: "m"}},
			},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
