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
	}
}
