package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/registry"
)

var equateAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func sample() registry.Config {
	return registry.Config{
		VIPs: []registry.VIP{
			{Name: "web", Addresses: addrs("198.51.100.1", "2001:db8:100::1"), Mode: registry.ModeBGP, Communities: []string{"65010:7", "65010:1"}},
			{Name: "dns", Addresses: addrs("198.51.100.2"), Mode: registry.ModeBGP},
		},
		Neighbors: []registry.Neighbor{
			{
				Name: "tor1", Address: netip.MustParseAddr("10.0.1.1"), Port: 179, ASN: 65000, LocalASN: 65010, Nodes: []string{"n1"},
				HoldTime: 3 * time.Second, ConnectRetry: time.Second, Communities: []string{"65010:1"}, MED: ptr(uint32(50)), ASPathPrepend: 2,
			},
			{Name: "tor2", Address: netip.MustParseAddr("10.9.0.1"), ASN: 65000, LocalASN: 65010, Nodes: []string{"n1", "n2"}, NextHops: map[string][]netip.Addr{"n1": addrs("10.9.0.7")}},
			{Name: "other", Address: netip.MustParseAddr("10.0.2.1"), ASN: 65000, LocalASN: 65010, Nodes: []string{"n2"}},
		},
		Listeners: []registry.Listener{{Name: "http", VIP: "web", Port: 80, Protocol: registry.ProtocolHTTP, Pool: "app"}},
		Pools: []registry.Pool{{
			Name: "app", Balance: registry.BalanceRoundRobin,
			HealthCheck: &registry.HealthCheck{HTTP: "/healthz", ExpectStatus: []int{200}, Interval: time.Second, Timeout: time.Second, Fall: 3, Rise: 5},
			Servers: []registry.Server{
				{Name: "b1", Address: netip.MustParseAddrPort("10.0.21.2:8080")},
				{Name: "b2", Address: netip.MustParseAddrPort("10.0.22.2:8080"), Weight: ptr(0), Backup: true},
			},
		}},
	}
}

func TestBGPState(t *testing.T) {
	self := Config{Name: "n1", Addresses: addrs("192.0.2.1", "10.0.1.2", "2001:db8:1::2")}
	got, err := bgpState(sample(), self, func(vip string) bool { return vip == "web" })
	if err != nil {
		t.Fatal(err)
	}
	c1, c7 := uint32(65010<<16|1), uint32(65010<<16|7)
	want := bgp.State{RouterID: addrs("192.0.2.1")[0], Neighbors: []bgp.Neighbor{
		{
			Name: "tor1", Address: addrs("10.0.1.1")[0], Port: 179, ASN: 65000, LocalASN: 65010, HoldTime: 3 * time.Second, ConnectRetry: time.Second,
			Routes: []bgp.Route{
				{Prefix: netip.MustParsePrefix("198.51.100.1/32"), NextHop: addrs("10.0.1.2")[0], Communities: []uint32{c1, c7}, MED: ptr(uint32(50)), Prepend: 2},
				{Prefix: netip.MustParsePrefix("2001:db8:100::1/128"), NextHop: addrs("2001:db8:1::2")[0], Communities: []uint32{c1, c7}, MED: ptr(uint32(50)), Prepend: 2},
			},
		},
		{
			Name: "tor2", Address: addrs("10.9.0.1")[0], ASN: 65000, LocalASN: 65010,
			Routes: []bgp.Route{{Prefix: netip.MustParsePrefix("198.51.100.1/32"), NextHop: addrs("10.9.0.7")[0], Communities: []uint32{c7, c1}}},
		},
	}}
	if diff := cmp.Diff(want, got, equateAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := nextHops(sample(), self, sample().VIPs[0]); got != 3 {
		t.Errorf("next hops of web: %d, want 3", got)
	}
	if got := nextHops(sample(), Config{Name: "n3", Addresses: self.Addresses}, sample().VIPs[0]); got != 0 {
		t.Errorf("next hops on a node that no neighbor names: %d, want 0", got)
	}
}

// What a VIP says goes before what the neighbor says, and what a session has no
// use for is left out: a VIP is announced within our AS and beyond it.
func TestAttributesOfRoutes(t *testing.T) {
	self := Config{Name: "n1", Addresses: addrs("10.0.1.2", "2001:db8::2")}
	for _, test := range []struct {
		name     string
		neighbor func(*registry.Neighbor)
		vip      func(*registry.VIP)
		want     bgp.Route
	}{
		{"none", nil, nil, bgp.Route{}},
		{
			"the neighbor's", func(n *registry.Neighbor) {
				n.MED, n.ASPathPrepend, n.Communities, n.LargeCommunities = ptr(uint32(5)), 3, []string{"1:2"}, []string{"4200000001:2:3"}
			}, nil,
			bgp.Route{MED: ptr(uint32(5)), Prepend: 3, Communities: []uint32{1<<16 | 2}, LargeCommunities: []bgp.LargeCommunity{{ASN: 4200000001, Function: 2, Value: 3}}},
		},
		{
			"the VIP's, even if zero", func(n *registry.Neighbor) { n.MED, n.ASPathPrepend = ptr(uint32(5)), 3 },
			func(v *registry.VIP) { v.MED, v.ASPathPrepend = ptr(uint32(0)), ptr(0) },
			bgp.Route{MED: ptr(uint32(0))},
		},
		{
			"communities of both, each once", func(n *registry.Neighbor) {
				n.Communities, n.LargeCommunities = []string{"65535:0", "1:2"}, []string{"1:2:3"}
			},
			func(v *registry.VIP) {
				v.Communities, v.LargeCommunities = []string{"graceful-shutdown", "blackhole"}, []string{"1:2:3", "1:2:4"}
			},
			bgp.Route{
				Communities:      []uint32{0xffff0000, 1<<16 | 2, 0xffff029a},
				LargeCommunities: []bgp.LargeCommunity{{ASN: 1, Function: 2, Value: 3}, {ASN: 1, Function: 2, Value: 4}},
			},
		},
		{
			"within our AS", func(n *registry.Neighbor) { n.ASN, n.LocalPreference = n.LocalASN, ptr(uint32(200)) },
			func(v *registry.VIP) { v.ASPathPrepend = ptr(2) },
			bgp.Route{LocalPref: ptr(uint32(200))},
		},
		{
			"within our AS, the VIP's", func(n *registry.Neighbor) { n.ASN, n.LocalPreference = n.LocalASN, ptr(uint32(200)) },
			func(v *registry.VIP) { v.LocalPreference = ptr(uint32(0)) },
			bgp.Route{LocalPref: ptr(uint32(0))},
		},
		{"local preference stays at home", nil, func(v *registry.VIP) { v.LocalPreference = ptr(uint32(7)) }, bgp.Route{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := registry.Config{
				VIPs:      []registry.VIP{{Name: "web", Addresses: addrs("198.51.100.1"), Mode: registry.ModeBGP}},
				Neighbors: []registry.Neighbor{{Name: "tor", Address: addrs("10.0.1.1")[0], ASN: 65000, LocalASN: 65010, Nodes: []string{"n1"}}},
			}
			if test.neighbor != nil {
				test.neighbor(&c.Neighbors[0])
			}
			if test.vip != nil {
				test.vip(&c.VIPs[0])
			}
			got, err := bgpState(c, self, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			test.want.Prefix, test.want.NextHop = netip.MustParsePrefix("198.51.100.1/32"), addrs("10.0.1.2")[0]
			if diff := cmp.Diff([]bgp.Route{test.want}, got.Neighbors[0].Routes, equateAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSelectors(t *testing.T) {
	self := Config{Name: "n1", Addresses: addrs("10.0.1.2", "2001:db8::2")}
	for _, test := range []struct {
		name string
		vip  func(*registry.VIP)
		want map[string]int // routes by neighbor
	}{
		{"all", func(*registry.VIP) {}, map[string]int{"tor1": 2, "tor2": 1}},
		{"this node", func(v *registry.VIP) { v.Nodes = []string{"n2", "n1"} }, map[string]int{"tor1": 2, "tor2": 1}},
		{"another node", func(v *registry.VIP) { v.Nodes = []string{"n2"} }, map[string]int{"tor1": 0, "tor2": 0}},
		{"one neighbor", func(v *registry.VIP) { v.Neighbors = []string{"tor2"} }, map[string]int{"tor1": 0, "tor2": 1}},
		{"a neighbor of other nodes", func(v *registry.VIP) { v.Neighbors = []string{"other"} }, map[string]int{"tor1": 0, "tor2": 0}},
		{"node and neighbor", func(v *registry.VIP) { v.Nodes, v.Neighbors = []string{"n1"}, []string{"tor1"} }, map[string]int{"tor1": 2, "tor2": 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := sample()
			c.VIPs = c.VIPs[:1]
			test.vip(&c.VIPs[0])
			state, err := bgpState(c, self, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			got, sum := map[string]int{}, 0
			for _, n := range state.Neighbors { // a session stays, whatever is announced on it
				got[n.Name] = len(n.Routes)
				sum += len(n.Routes)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			if n := nextHops(c, self, c.VIPs[0]); n != sum {
				t.Errorf("the gate counts %d routes, there are %d", n, sum)
			}
		})
	}
}

func TestRouterIDOfANodeWithoutIPv4(t *testing.T) {
	a := routerID(Config{Name: "n1", Addresses: addrs("2001:db8::1")})
	b := routerID(Config{Name: "n2", Addresses: addrs("2001:db8::2")})
	if !a.Is4() || a == b || a.IsUnspecified() {
		t.Errorf("router IDs %s and %s", a, b)
	}
}

func TestParseCommunitiesRefuses(t *testing.T) {
	for _, s := range []string{"", "65010", "65010:", "65536:1", "1:65536", "-1:1", "1:1:1"} {
		if c, err := parseCommunities([]string{s}); err == nil {
			t.Errorf("%q was taken for %v", s, c)
		}
		if c, err := parseLargeCommunities([]string{s}); err == nil && s != "1:1:1" {
			t.Errorf("%q was taken for %v", s, c)
		}
	}
}
