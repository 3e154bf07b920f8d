package bgp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// attributes are the values of an UPDATE's path attributes, by type.
func attributes(t *testing.T, msg []byte) map[byte][]byte {
	t.Helper()
	_, b, err := cut16(msg[headerLen:])
	if err != nil {
		t.Fatal(err)
	}
	b, _, err = cut16(b)
	if err != nil {
		t.Fatal(err)
	}
	all := map[byte][]byte{}
	for len(b) > 0 {
		var kind byte
		var value []byte
		if kind, value, b, err = cutAttribute(b); err != nil {
			t.Fatal(err)
		}
		all[kind] = slices.Clone(value)
	}
	return all
}

// The path attributes that these tests look at.
const (
	attrMED            = 4  // RFC 4271 5.1.4
	attrLocalPref      = 5  // RFC 4271 5.1.5
	attrCommunities    = 8  // RFC 1997
	attrLargeCommunity = 32 // RFC 8092
)

func uint32s(numbers ...uint32) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// A drain marks its routes with GRACEFUL_SHUTDOWN (RFC 8326) so that the router
// has time to turn to others while the old path still works: there must be no
// withdrawal, which would be a gap, and no other session, which would be a
// longer one.
func TestOtherAttributesReplaceARouteWithoutAGap(t *testing.T) {
	const gracefulShutdown = 0xffff0000
	ten, twenty, zero := uint32(10), uint32(20), uint32(0)
	for _, family := range []struct{ name, prefix, nextHop string }{
		{"IPv4", vip4, "10.0.1.2"},
		{"IPv6", vip6, "fd00:1::2"},
	} {
		t.Run(family.name, func(t *testing.T) {
			r := newFakeRouter(t, bothFamilies())
			s := startSpeaker(t)
			plain := route(family.prefix, family.nextHop)
			plain.MED = &ten
			reconciled := func(change func(*Route)) State {
				v := plain
				change(&v)
				return state(r.neighbor("one", v))
			}
			reconcile(t, s, reconciled(func(*Route) {}))
			p := r.accept()
			p.awaitPrefixes([]string{family.prefix}, nil)
			awaitStatus(t, s, "one", "announcement", func(st SessionStatus) bool { return len(st.Announced) == 1 })
			for _, step := range []struct {
				name   string
				change func(*Route)
				want   map[byte][]byte // of what may change
			}{
				{"community", func(v *Route) { v.Communities = []uint32{gracefulShutdown} }, map[byte][]byte{
					attrMED: uint32s(10), attrCommunities: uint32s(gracefulShutdown),
				}},
				{"community and MED", func(v *Route) { v.Communities, v.MED = []uint32{gracefulShutdown, 1}, &twenty }, map[byte][]byte{
					attrMED: uint32s(20), attrCommunities: uint32s(1, gracefulShutdown),
				}},
				{"MED 0", func(v *Route) { v.MED = &zero }, map[byte][]byte{attrMED: uint32s(0)}},
				{"large community", func(v *Route) { v.LargeCommunities = []LargeCommunity{{4200000001, 2, 3}, {1, 2, 3}} }, map[byte][]byte{
					attrMED: uint32s(10), attrLargeCommunity: uint32s(1, 2, 3, 4200000001, 2, 3),
				}},
				{"back again", func(*Route) {}, map[byte][]byte{attrMED: uint32s(10)}},
			} {
				reconciling := make(chan error, 1)
				go func() { reconciling <- s.Reconcile(t.Context(), reconciled(step.change)) }()
				// The next UPDATE of all is the announcement.
				msg := p.await(typeUpdate)
				withdrawn, announced, err := parseUpdate(msg)
				if err != nil {
					t.Fatal(err)
				}
				if len(withdrawn) > 0 || len(announced) != 1 || announced[0] != netip.MustParsePrefix(family.prefix) {
					t.Errorf("%s: withdrawn %v, announced %v", step.name, withdrawn, announced)
				}
				got := map[byte][]byte{}
				for kind, value := range attributes(t, msg) {
					if kind == attrMED || kind == attrLocalPref || kind == attrCommunities || kind == attrLargeCommunity {
						got[kind] = value
					}
				}
				if diff := cmp.Diff(step.want, got); diff != "" {
					t.Errorf("%s: attributes (-want +got):\n%s", step.name, diff)
				}
				if err := <-reconciling; err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
			}
			if st := s.Status()[0]; st.Flaps != 0 || !st.Established {
				t.Errorf("status: %+v", st)
			}
		})
	}
}

// How long a neighbor is waited for is no affair of the router's.
func TestConnectRetryChangesWithoutAReset(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	n := r.neighbor("one", route(vip4, "10.0.1.2"))
	reconcile(t, s, state(n))
	p := r.accept()
	p.awaitPrefixes([]string{vip4}, nil)
	since := awaitStatus(t, s, "one", "established", established).Since
	n.ConnectRetry = 7 * time.Second
	n.Routes = append(n.Routes, route("198.51.100.2/32", "10.0.1.2"))
	reconciling := make(chan error, 1)
	go func() { reconciling <- s.Reconcile(t.Context(), state(n)) }()
	p.awaitPrefixes([]string{"198.51.100.2/32"}, nil) // on the same connection
	if err := <-reconciling; err != nil {
		t.Fatal(err)
	}
	if st := s.Status()[0]; !st.Established || !st.Since.Equal(since) {
		t.Errorf("status: %+v, established first at %s", st, since)
	}
	if got := s.list()[0].terms().connectRetry; got != 7*time.Second {
		t.Errorf("a lost session would be tried again within %s", got)
	}
}

func TestFRRSeesLocalPreferenceAndLargeCommunities(t *testing.T) {
	const asn = 4200000001 // of four octets (RFC 6793)
	r := startRouter(t, routerConfig{index: 1, asn: asn, remote: asn})
	s := startSpeaker(t)
	pref, med := uint32(250), uint32(0)
	v4, v6 := route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")
	v4.LocalPref, v4.MED = &pref, &med
	v4.LargeCommunities = []LargeCommunity{{asn, 7, 4294967295}, {65000, 1, 2}}
	reconcile(t, s, state(neighbor(1, asn, asn, v4, v6)))
	var p4, p6 []path
	eventually(t, "both prefixes valid in FRR", func() bool {
		p4, p6 = r.paths("ipv4", vip4), r.paths("ipv6", vip6)
		return len(p4) == 1 && len(p6) == 1 && p4[0].Valid && p6[0].Valid
	})
	if got := p4[0]; got.ASPath.String != "Local" || got.LocalPref == nil || *got.LocalPref != 250 || got.MED == nil || *got.MED != 0 ||
		got.LargeCommunity.String != "65000:1:2 4200000001:7:4294967295" || got.Nexthops[0].IP != "10.0.1.2" {
		t.Errorf("IPv4 path: %+v", got)
	}
	if got := p6[0]; got.LocalPref == nil || *got.LocalPref != 100 || got.LargeCommunity.String != "" {
		t.Errorf("IPv6 path: %+v", got)
	}
	// GRACEFUL_SHUTDOWN makes FRR prefer anything else (RFC 8326 4.2), on the same session.
	before := r.peer("10.0.1.2")
	v4.Communities, v4.LargeCommunities = []uint32{0xffff0000}, nil
	reconcile(t, s, state(neighbor(1, asn, asn, v4, v6)))
	eventually(t, "the community in FRR", func() bool {
		p := r.paths("ipv4", vip4)
		return len(p) == 1 && p[0].Community.String == "graceful-shutdown" && p[0].LargeCommunity.String == ""
	})
	if after := r.peer("10.0.1.2"); after.Established != before.Established || after.Dropped != before.Dropped {
		t.Errorf("the session was reset: before %+v, after %+v", before, after)
	}
}

func TestFourOctetASNsOnBothSides(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 4200000001, remote: 4200000002})
	s := startSpeaker(t)
	v4 := route(vip4, "10.0.1.2")
	v4.Prepend, v4.LargeCommunities = 2, []LargeCommunity{{4200000002, 0, 1}}
	reconcile(t, s, state(neighbor(1, 4200000001, 4200000002, v4)))
	var p []path
	eventually(t, "the prefix valid in FRR", func() bool { p = r.paths("ipv4", vip4); return len(p) == 1 && p[0].Valid })
	if p[0].ASPath.String != "4200000002 4200000002 4200000002" || p[0].LargeCommunity.String != "4200000002:0:1" {
		t.Errorf("path: %+v", p[0])
	}
}

// Two routers, one of which dies: what the other one knows stays, also while
// routes change, and the dead one's end is told.
func TestTheOtherRouterIsUnaffectedByOnesDeath(t *testing.T) {
	r1 := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	r2 := startRouter(t, routerConfig{index: 2, asn: 65010, remote: 65010}) // one eBGP, one iBGP
	s := startSpeaker(t)
	pref := uint32(200)
	to1, to2 := route(vip4, "10.0.1.2"), route(vip4, "10.0.2.2")
	to1.Prepend, to2.LocalPref = 1, &pref
	reconcile(t, s, state(neighbor(1, 65000, 65010, to1), neighbor(2, 65010, 65010, to2)))
	eventually(t, "the prefix in both", func() bool {
		return len(r1.paths("ipv4", vip4)) == 1 && len(r2.paths("ipv4", vip4)) == 1
	})
	awaitStatus(t, s, "tor2", "announcement", func(st SessionStatus) bool { return len(st.Announced) == 1 })
	before, since := r2.peer("10.0.2.2"), s.Status()[1].Since

	r1.kill("bgpd")
	st := awaitStatus(t, s, "tor1", "loss noticed", func(st SessionStatus) bool { return !st.Established && st.Flaps == 1 })
	if st.LastError == "" || len(st.Announced) != 0 {
		t.Errorf("the dead router's session: %+v", st)
	}
	med := uint32(9)
	to1.MED, to2.MED = &med, &med
	reconcile(t, s, state(neighbor(1, 65000, 65010, to1), neighbor(2, 65010, 65010, to2)))
	eventually(t, "the new MED in the other", func() bool {
		p := r2.paths("ipv4", vip4)
		return len(p) == 1 && p[0].Valid && p[0].MED != nil && *p[0].MED == 9 && p[0].LocalPref != nil && *p[0].LocalPref == 200
	})
	after := r2.peer("10.0.2.2")
	if st := s.Status()[1]; after.Established != before.Established || after.Dropped != before.Dropped || st.Flaps != 0 || !st.Since.Equal(since) {
		t.Errorf("the other session was reset: before %+v, after %+v; status %+v", before, after, st)
	}

	// Back from the dead, it learns what has changed meanwhile.
	r1.startDaemon("bgpd")
	eventually(t, "the new MED in the router that came back", func() bool {
		p := r1.paths("ipv4", vip4)
		return len(p) == 1 && p[0].MED != nil && *p[0].MED == 9 && p[0].ASPath.String == "65010 65010"
	})
}
