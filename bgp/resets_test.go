package bgp

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/bgp/bfd"
)

// counts are how often FRR's session with an address of ours began and ended.
func (r *router) counts(address string) string {
	p := r.peer(address)
	return fmt.Sprintf("%s, established %d times, dropped %d times", p.State, p.Established, p.Dropped)
}

// Each field of a neighbor and of its routes is changed, one after the other. The
// session goes on where BGP does not ask for a new one, and that with another
// router goes on in any case.
func TestEachFieldOfANeighborResetsOnlyWhatItMust(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: " neighbor NODES ttl-security hops 1\n"})
	other := startRouter(t, routerConfig{index: 2, asn: 65000, remote: 65010, bfd: true, extra: " neighbor NODES bfd profile nodes\n"})
	s := startSpeaker(t)
	n, bystander := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")), watched(neighbor(2, 65000, 65010, route(vip4, "10.0.2.2")), wide)
	med := uint32(1)
	n.Routes[0].MED = &med
	reconcile(t, s, state(bystander, n))
	heard := func(p path, m uint32) bool { return p.MED != nil && *p.MED == m }
	has := func(ok func(path) bool) bool {
		paths := r.paths("ipv4", vip4)
		return len(paths) == 1 && ok(paths[0])
	}
	eventually(t, "the prefix in both", func() bool {
		return has(func(p path) bool { return heard(p, 1) }) && len(other.paths("ipv4", vip4)) == 1
	})
	awaitStatus(t, s, "tor2", "announcement, and BFD", func(st SessionStatus) bool { return bfdUp(st) && len(st.Announced) == 1 })
	aside, since := other.counts("10.0.2.2"), s.Status()[0].Since

	tested := map[string]bool{"Neighbor.Routes": true, "Route.MED": true} // which each change has
	for _, change := range []struct {
		field  string
		reset  bool
		change func()
	}{
		{"Neighbor.ConnectRetry", false, func() { n.ConnectRetry = 5 * time.Second }},
		{"Neighbor.Port", false, func() { n.Port = bgpPort }}, // which it was
		{"Neighbor.TTLSecurity", false, func() { n.TTLSecurity = 1 }},
		{"Neighbor.TTLSecurity", false, func() { n.TTLSecurity = 0 }},
		{"Neighbor.Multihop", false, func() { n.Multihop = 255 }},
		{"Neighbor.Passive", false, func() { n.Passive = true }},
		{"Neighbor.Passive", false, func() { n.Passive = false }},
		{"Neighbor.BFD", false, func() { bystander.BFD = &bfd.Config{Interval: 400 * time.Millisecond, Multiplier: 6} }},
		{"Neighbor.BFD", false, func() { bystander.BFD = nil }},
		{"Route.Communities", false, func() { n.Routes[0].Communities = []uint32{65000<<16 | 7} }},
		{"Route.LargeCommunities", false, func() { n.Routes[0].LargeCommunities = []LargeCommunity{{65000, 1, 2}} }},
		{"Route.Prepend", false, func() { n.Routes[0].Prepend = 2 }},
		{"Route.NextHop", false, func() { n.Routes[0].NextHop = netip.MustParseAddr("10.0.1.9") }},
		{"Route.Prefix", false, func() { n.Routes = append(n.Routes, route("198.51.100.2/32", "10.0.1.2")) }},
		{"Neighbor.HoldTime", true, func() { n.HoldTime = 6 * time.Second }},
		{"Neighbor.Source", true, func() { n.Source = netip.MustParseAddr("10.0.1.2") }},
		{"Neighbor.LocalASN", true, func() { n.LocalASN = 65011 }}, // which the router refuses
		{"Neighbor.LocalASN", true, func() { n.LocalASN = 65010 }},
		{"Neighbor.ASN", true, func() { n.ASN = 65001 }}, // which we refuse
		{"Neighbor.ASN", true, func() { n.ASN = 65000 }},
		{"Neighbor.Password", true, func() {
			n.Password = secret
			r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "router bgp 65000", "-c", "neighbor 10.0.1.2 password "+string(secret))
		}},
		{"Neighbor.Name", true, func() { n.Name = "renamed" }},
		{"Neighbor.Address", true, func() {
			n.Address, n.Source, n.Password = netip.MustParseAddr("fd00:1::1"), netip.Addr{}, ""
		}},
	} {
		tested[change.field] = true
		address, before := "10.0.1.2", r.peer("10.0.1.2")
		change.change()
		refused := n.ASN == 65001 || n.LocalASN == 65011
		if n.Address.Is6() {
			address, before = "fd00:1::2", peerState{}
		}
		med++
		reconcile(t, s, state(bystander, n))
		name := fmt.Sprintf("%s (change %d)", change.field, med)
		switch {
		case refused:
			eventually(t, name+": the end of the session", func() bool { return r.peer(address).State != "Established" })
		default:
			eventually(t, name+": the route in FRR", func() bool { return has(func(p path) bool { return heard(p, med) }) })
			after := r.peer(address)
			if anew := after.Established != before.Established; anew != change.reset {
				t.Errorf("%s: a new session: %v, want %v; before %+v, after %+v", name, anew, change.reset, before, after)
			}
		}
		if now := other.counts("10.0.2.2"); now != aside || !s.Status()[0].Since.Equal(since) {
			t.Errorf("%s: the other session was %s, and is %s", name, aside, now)
		}
	}

	// LocalPref is within one AS only: TestFRRSeesLocalPreferenceAndLargeCommunities.
	tested["Route.LocalPref"] = true
	for _, typ := range []reflect.Type{reflect.TypeFor[Neighbor](), reflect.TypeFor[Route]()} {
		for i := range typ.NumField() {
			if name := typ.Name() + "." + typ.Field(i).Name; !tested[name] {
				t.Errorf("nobody has tried what a change of %s does", name)
			}
		}
	}
}

// Two routers, to one of which all packets are lost without a word: BFD finds it
// long before BGP would, and the session with the other one notices nothing.
func TestASilentLossOfOneRouterLeavesTheOther(t *testing.T) {
	needDaemon(t, "/usr/sbin/nft", "nftables")
	extra := " neighbor NODES bfd profile nodes\n neighbor NODES timers 60 180\n"
	lost := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, bfd: true, extra: extra})
	other := startRouter(t, routerConfig{index: 2, asn: 65000, remote: 65010, bfd: true, extra: extra})
	s := startSpeaker(t)
	var neighbors []Neighbor
	for i, hop := range []string{"10.0.1.2", "10.0.2.2"} {
		n := watched(neighbor(i+1, 65000, 65010, route(vip4, hop)), wide)
		n.HoldTime = 180 * time.Second
		neighbors = append(neighbors, n)
	}
	reconcile(t, s, state(neighbors...))
	for i, r := range []*router{lost, other} {
		up := awaitStatus(t, s, neighbors[i].Name, "BGP and BFD up", func(st SessionStatus) bool { return bfdUp(st) && len(st.Announced) == 1 })
		eventually(t, "FRR has the route", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
		if up.Flaps != 0 {
			t.Errorf("status: %+v", up)
		}
	}
	aside, before := other.counts("10.0.2.2"), s.Status()[1]

	lost.run("nft", "add table inet silence; add chain inet silence in { type filter hook input priority -300; policy drop; }; add chain inet silence out { type filter hook output priority -300; policy drop; }")
	st := awaitStatus(t, s, "tor1", "the loss", func(st SessionStatus) bool { return !st.Established && st.Flaps == 1 })
	if !strings.HasPrefix(st.LastError, "BFD: nothing heard from the router for 1.5s") && st.BFD.Diag != bfd.DiagExpired {
		t.Errorf("status: %+v, %+v", st, st.BFD)
	}
	eventually(t, "the lost router has dropped the route", func() bool { return len(lost.paths("ipv4", vip4)) == 0 })
	if p := other.paths("ipv4", vip4); len(p) != 1 || !p[0].Valid {
		t.Errorf("the other router's path: %+v", p)
	}

	lost.run("nft", "delete table inet silence")
	awaitStatus(t, s, "tor1", "up again", bfdUp)
	eventually(t, "the route is back", func() bool { return len(lost.paths("ipv4", vip4)) == 1 })
	after := s.Status()[1]
	if now := other.counts("10.0.2.2"); now != aside || after.Flaps != 0 || !after.Since.Equal(before.Since) || after.BFD.Failures != 0 || !after.BFD.Since.Equal(before.BFD.Since) {
		t.Errorf("the other session was %s, and is %s: %+v, %+v", aside, now, after, after.BFD)
	}
}
