package addr

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

func set(list []netip.Addr) map[netip.Addr]bool {
	m := map[netip.Addr]bool{}
	for _, a := range list {
		m[a] = true
	}
	return m
}

func TestDecide(t *testing.T) {
	on := func(pairs ...string) map[netip.Addr][]string {
		m := map[netip.Addr][]string{}
		for i := 0; i < len(pairs); i += 2 {
			a := netip.MustParseAddr(pairs[i])
			m[a] = append(m[a], pairs[i+1])
		}
		return m
	}
	for _, test := range []struct {
		name                string
		have                map[netip.Addr][]string
		want, ours          []netip.Addr
		add, remove, forget []netip.Addr
		foreign             map[string]string // address to interface
		refused             int
	}{
		{name: "nothing to do"},
		{name: "both families are added, in order, once", want: addrs("2001:db8::1", "198.51.100.1", "198.51.100.1"), add: addrs("198.51.100.1", "2001:db8::1")},
		{name: "ours and wanted stays", have: on("198.51.100.1", "lo"), want: addrs("198.51.100.1"), ours: addrs("198.51.100.1")},
		{name: "ours and not wanted goes", have: on("198.51.100.1", "lo"), ours: addrs("198.51.100.1"), remove: addrs("198.51.100.1")},
		{name: "ours, but lost, comes back", want: addrs("198.51.100.1"), ours: addrs("198.51.100.1"), add: addrs("198.51.100.1")},
		{name: "ours, lost and not wanted, is forgotten", ours: addrs("198.51.100.1"), forget: addrs("198.51.100.1")},
		{name: "foreign on the same interface is refused", have: on("198.51.100.1", "lo"), want: addrs("198.51.100.1"), foreign: map[string]string{"198.51.100.1": "lo"}, refused: 1},
		{name: "foreign on another interface is refused", have: on("10.0.0.5", "eth0"), want: addrs("10.0.0.5", "198.51.100.1"), add: addrs("198.51.100.1"), foreign: map[string]string{"10.0.0.5": "eth0"}, refused: 1},
		{name: "ours, and on another interface too", have: on("10.0.0.5", "lo", "10.0.0.5", "eth0"), want: addrs("10.0.0.5"), ours: addrs("10.0.0.5"), foreign: map[string]string{"10.0.0.5": "eth0"}, refused: 1},
		{name: "foreign and not wanted is left alone", have: on("10.0.0.5", "eth0", "127.0.0.1", "lo", "198.51.100.9", "lo")},
		{name: "ours by the record, but elsewhere, is not touched", have: on("10.0.0.5", "eth0"), ours: addrs("10.0.0.5"), forget: addrs("10.0.0.5")},
		{name: "unusable ones are refused", want: addrs("127.0.0.1", "::1", "224.0.0.1", "fe80::1", "::ffff:192.0.2.1", "0.0.0.0"), refused: 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := decide("lo", test.have, test.want, set(test.ours))
			compare := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if diff := cmp.Diff([][]netip.Addr{test.add, test.remove, test.forget}, [][]netip.Addr{d.add, d.remove, d.forget}, compare); diff != "" {
				t.Errorf("add, remove, forget (-want +got):\n%s", diff)
			}
			if len(d.refuse) != test.refused {
				t.Errorf("%d refused, want %d: %v", len(d.refuse), test.refused, d.refuse)
			}
			for _, err := range d.refuse {
				var f *ForeignError
				if !errors.As(err, &f) {
					continue
				}
				if !errors.Is(err, ErrForeign) || test.foreign[f.Addr.String()] != f.Link {
					t.Errorf("foreign: %v", err)
				}
				delete(test.foreign, f.Addr.String())
			}
			if len(test.foreign) > 0 {
				t.Errorf("not reported as foreign: %v", test.foreign)
			}
		})
	}
}

// Whatever the situation: what is removed is ours and on the link, what is
// added was nowhere, and nothing is in two lists.
func TestDecideNeverTouchesForeign(t *testing.T) {
	pool := addrs("198.51.100.1", "198.51.100.2", "2001:db8::1", "10.0.0.5")
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string) []netip.Addr {
			return rapid.SliceOfDistinct(rapid.SampledFrom(pool), rapid.ID).Draw(t, label)
		}
		have := map[netip.Addr][]string{}
		for _, a := range some("have") {
			have[a] = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"lo", "eth0"}), 1, 2, rapid.ID).Draw(t, "on")
		}
		want, ours := some("want"), set(some("ours"))
		d := decide("lo", have, want, ours)
		for _, a := range d.remove {
			if !ours[a] || !slices.Contains(have[a], "lo") || slices.Contains(want, a) {
				t.Fatalf("removes %s", a)
			}
		}
		for _, a := range d.add {
			if len(have[a]) != 0 || !slices.Contains(want, a) {
				t.Fatalf("adds %s", a)
			}
		}
		if n := len(set(slices.Concat(d.add, d.remove, d.forget))); n != len(d.add)+len(d.remove)+len(d.forget) {
			t.Fatalf("an address in two lists: %+v", d)
		}
	})
}
