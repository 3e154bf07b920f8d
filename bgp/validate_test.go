package bgp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	good := func() State {
		return state(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")))
	}
	for _, test := range []struct {
		name   string
		change func(*State)
		want   []string // paths of the faults
	}{
		{"good", func(*State) {}, nil},
		{"no neighbors at all", func(s *State) { *s = State{} }, nil},
		{"no router ID", func(s *State) { s.RouterID = netip.Addr{} }, []string{"router_id"}},
		{"IPv6 router ID", func(s *State) { s.RouterID = netip.MustParseAddr("::1") }, []string{"router_id"}},
		{"zero router ID, RFC 6286", func(s *State) { s.RouterID = netip.IPv4Unspecified() }, []string{"router_id"}},
		{"no name", func(s *State) { s.Neighbors[0].Name = "" }, []string{"neighbors[0].name"}},
		{"a name twice", func(s *State) {
			n := s.Neighbors[0]
			n.Address = netip.MustParseAddr("10.0.2.1")
			s.Neighbors = append(s.Neighbors, n)
		}, []string{"neighbors[1].name"}},
		{"an address twice", func(s *State) {
			n := s.Neighbors[0]
			n.Name, n.Port = "other", 179 // which is the same as none
			s.Neighbors = append(s.Neighbors, n)
		}, []string{"neighbors[1].address"}},
		{"no address", func(s *State) { s.Neighbors[0].Address = netip.Addr{} }, []string{"neighbors[0].address"}},
		{"multicast address", func(s *State) { s.Neighbors[0].Address = netip.MustParseAddr("224.0.0.5") }, []string{"neighbors[0].address"}},
		{"link-local without zone", func(s *State) { s.Neighbors[0].Address = netip.MustParseAddr("fe80::1") }, []string{"neighbors[0].address"}},
		{"link-local with zone", func(s *State) { s.Neighbors[0].Address = netip.MustParseAddr("fe80::1%eth0") }, nil},
		{"no ASNs", func(s *State) { s.Neighbors[0].ASN, s.Neighbors[0].LocalASN = 0, 0 }, []string{"neighbors[0].asn", "neighbors[0].local_asn"}},
		{"reserved ASNs, RFC 6793 and 7300", func(s *State) { s.Neighbors[0].ASN, s.Neighbors[0].LocalASN = 23456, 4294967295 }, []string{"neighbors[0].asn", "neighbors[0].local_asn"}},
		{"short hold time, RFC 4271 4.2", func(s *State) { s.Neighbors[0].HoldTime = 2 * time.Second }, []string{"neighbors[0].hold_time"}},
		{"broken hold time", func(s *State) { s.Neighbors[0].HoldTime = 3500 * time.Millisecond }, []string{"neighbors[0].hold_time"}},
		{"hold time beyond 16 bits", func(s *State) { s.Neighbors[0].HoldTime = 65536 * time.Second }, []string{"neighbors[0].hold_time"}},
		{"no connect retry", func(s *State) { s.Neighbors[0].ConnectRetry = 0 }, []string{"neighbors[0].connect_retry"}},
		{"no prefix", func(s *State) { s.Neighbors[0].Routes[0].Prefix = netip.Prefix{} }, []string{"neighbors[0].routes[0].prefix"}},
		{"host bits", func(s *State) { s.Neighbors[0].Routes[0].Prefix = netip.MustParsePrefix("198.51.100.1/24") }, []string{"neighbors[0].routes[0].prefix"}},
		{"a prefix twice", func(s *State) { s.Neighbors[0].Routes[1] = s.Neighbors[0].Routes[0] }, []string{"neighbors[0].routes[1].prefix"}},
		{"no next hop", func(s *State) { s.Neighbors[0].Routes[1].NextHop = netip.Addr{} }, []string{"neighbors[0].routes[1].next_hop"}},
		{"next hop of the other family", func(s *State) { s.Neighbors[0].Routes[1].NextHop = netip.MustParseAddr("10.0.1.2") }, []string{"neighbors[0].routes[1].next_hop"}},
		{"loopback next hop", func(s *State) { s.Neighbors[0].Routes[0].NextHop = netip.MustParseAddr("127.0.0.1") }, []string{"neighbors[0].routes[0].next_hop"}},
		{"next hop inside its own prefix", func(s *State) { s.Neighbors[0].Routes[0].NextHop = netip.MustParseAddr("198.51.100.1") }, []string{"neighbors[0].routes[0].next_hop"}},
		{"negative prepend", func(s *State) { s.Neighbors[0].Routes[0].Prepend = -1 }, []string{"neighbors[0].routes[0].prepend"}},
		{"prepend within an AS is a loop", func(s *State) {
			s.Neighbors[0].LocalASN, s.Neighbors[0].Routes[0].Prepend = 65000, 1
		}, []string{"neighbors[0].routes[0].prepend"}},
		{"local preference within an AS", func(s *State) {
			pref := uint32(200)
			s.Neighbors[0].LocalASN, s.Neighbors[0].Routes[0].LocalPref = 65000, &pref
		}, nil},
		{"local preference to another AS, RFC 4271 5.1.5", func(s *State) {
			pref := uint32(200)
			s.Neighbors[0].Routes[1].LocalPref = &pref
		}, []string{"neighbors[0].routes[1].local_pref"}},
		{"all at once", func(s *State) {
			s.RouterID = netip.Addr{}
			s.Neighbors[0].ASN = 0
			s.Neighbors[0].Routes[1].Prepend = 99
		}, []string{"router_id", "neighbors[0].asn", "neighbors[0].routes[1].prepend"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := good()
			test.change(&s)
			err := s.Validate()
			var got []string
			if invalid := new(InvalidStateError); errors.As(err, &invalid) {
				for _, f := range invalid.Faults {
					got = append(got, f.Path)
					if !strings.Contains(err.Error(), f.Path+": "+f.Problem) {
						t.Errorf("%q lacks %v", err, f)
					}
				}
			} else if err != nil {
				t.Fatalf("not an InvalidStateError: %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
