package bgp

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func announcedSet(routes ...Route) map[netip.Prefix]Route {
	m := map[netip.Prefix]Route{}
	for _, r := range routes {
		m[r.Prefix] = r.canonical()
	}
	return m
}

func TestPlan(t *testing.T) {
	a, b := route("198.51.100.1/32", "10.0.0.1"), route("198.51.100.2/32", "10.0.0.1")
	wide := route("198.51.100.0/24", "10.0.0.1")
	six := route("2001:db8::1/128", "fd00::1")
	with := func(r Route, change func(*Route)) Route { change(&r); return r }
	med := func(n uint32) func(*Route) { return func(r *Route) { r.MED = &n } }
	pref := func(n uint32) func(*Route) { return func(r *Route) { r.LocalPref = &n } }
	large := func(c ...LargeCommunity) func(*Route) { return func(r *Route) { r.LargeCommunities = c } }
	for _, test := range []struct {
		name      string
		announced []Route
		desired   []Route
		want      []string
	}{
		{name: "nothing"},
		{name: "announce in the order given", desired: []Route{six, a}, want: []string{"+2001:db8::1/128", "+198.51.100.1/32"}},
		{name: "no change, no step", announced: []Route{a, six}, desired: []Route{six, a}},
		{name: "withdraw all, in order", announced: []Route{six, b, a}, want: []string{"-198.51.100.1/32", "-198.51.100.2/32", "-2001:db8::1/128"}},
		{name: "withdraw before announcing", announced: []Route{a}, desired: []Route{b}, want: []string{"-198.51.100.1/32", "+198.51.100.2/32"}},
		{name: "a new attribute replaces, RFC 4271 3.1", announced: []Route{a}, desired: []Route{with(a, med(5))}, want: []string{"+198.51.100.1/32"}},
		{name: "MED 0 is not no MED", announced: []Route{a}, desired: []Route{with(a, med(0))}, want: []string{"+198.51.100.1/32"}},
		{name: "the same MED in another place", announced: []Route{with(a, med(5))}, desired: []Route{with(a, med(5))}},
		{name: "another next hop", announced: []Route{a}, desired: []Route{with(a, func(r *Route) { r.NextHop = netip.MustParseAddr("10.0.0.2") })}, want: []string{"+198.51.100.1/32"}},
		{name: "another prepend", announced: []Route{a}, desired: []Route{with(a, func(r *Route) { r.Prepend = 1 })}, want: []string{"+198.51.100.1/32"}},
		{
			name: "communities are a set", announced: []Route{with(a, func(r *Route) { r.Communities = []uint32{1, 2} })},
			desired: []Route{with(a, func(r *Route) { r.Communities = []uint32{2, 1, 2} })},
		},
		{name: "another local preference", announced: []Route{with(a, pref(100))}, desired: []Route{with(a, pref(0))}, want: []string{"+198.51.100.1/32"}},
		{name: "no local preference any more", announced: []Route{with(a, pref(100))}, desired: []Route{a}, want: []string{"+198.51.100.1/32"}},
		{name: "the same local preference in another place", announced: []Route{with(a, pref(5))}, desired: []Route{with(a, pref(5))}},
		{
			name: "large communities are a set", announced: []Route{with(a, large(LargeCommunity{1, 2, 3}, LargeCommunity{1, 2, 4}))},
			desired: []Route{with(a, large(LargeCommunity{1, 2, 4}, LargeCommunity{1, 2, 3}, LargeCommunity{1, 2, 4}))},
		},
		{
			name: "another large community", announced: []Route{with(a, large(LargeCommunity{1, 2, 3}))},
			desired: []Route{with(a, large(LargeCommunity{1, 3, 2}))}, want: []string{"+198.51.100.1/32"},
		},
		{name: "an aggregate covers before its parts go", announced: []Route{a, six}, desired: []Route{wide, b}, want: []string{"+198.51.100.0/24", "-198.51.100.1/32", "-2001:db8::1/128", "+198.51.100.2/32"}},
		{name: "parts cover before their aggregate goes", announced: []Route{wide}, desired: []Route{a}, want: []string{"+198.51.100.1/32", "-198.51.100.0/24"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, s := range plan(announcedSet(test.announced...), test.desired) {
				got = append(got, map[action]string{announce: "+", withdraw: "-"}[s.action]+s.route.Prefix.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// The steps lead to what is desired, doing them is idempotent, no prefix is
// touched twice, and an address that is covered before and after is covered
// throughout.
func TestPlanLeadsToDesired(t *testing.T) {
	prefixes := []netip.Prefix{}
	for _, p := range []string{"198.51.100.0/24", "198.51.100.0/31", "198.51.100.0/32", "198.51.100.1/32", "2001:db8::/64", "2001:db8::1/128"} {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string) []Route {
			var routes []Route
			for _, p := range rapid.SliceOfDistinct(rapid.SampledFrom(prefixes), rapid.ID).Draw(t, label) {
				r := Route{Prefix: p, NextHop: netip.MustParseAddr("10.0.0.1"), Prepend: rapid.IntRange(0, 1).Draw(t, "prepend")}
				if rapid.Bool().Draw(t, "with MED") {
					med := rapid.Uint32Range(0, 1).Draw(t, "MED")
					r.MED = &med
				}
				if rapid.Bool().Draw(t, "with local preference") {
					pref := rapid.Uint32Range(0, 1).Draw(t, "local preference")
					r.LocalPref = &pref
				}
				r.Communities = rapid.SliceOfN(rapid.Uint32Range(0, 2), 0, 3).Draw(t, "communities")
				for _, n := range rapid.SliceOfN(rapid.Uint32Range(0, 2), 0, 3).Draw(t, "large communities") {
					r.LargeCommunities = append(r.LargeCommunities, LargeCommunity{ASN: n / 2, Value: n % 2})
				}
				routes = append(routes, r)
			}
			return routes
		}
		now, desired := announcedSet(some("announced")...), some("desired")
		before := announcedSet(slices.Collect(func(yield func(Route) bool) {
			for _, r := range now {
				if !yield(r) {
					return
				}
			}
		})...)
		covers := func(m map[netip.Prefix]Route, p netip.Prefix) bool {
			for q := range m {
				if q.Contains(p.Addr()) && q.Bits() <= p.Bits() {
					return true
				}
			}
			return false
		}
		goal := announcedSet(desired...)
		touched := map[netip.Prefix]bool{}
		for _, s := range plan(now, desired) {
			p := s.route.Prefix
			if touched[p] {
				t.Fatalf("%s is touched twice", p)
			}
			touched[p] = true
			if s.action == withdraw {
				delete(now, p)
			} else {
				now[p] = s.route
			}
			for _, q := range prefixes {
				if covers(before, q) && covers(goal, q) && !covers(now, q) {
					t.Fatalf("after %s, nothing covers %s", p, q)
				}
			}
		}
		if diff := cmp.Diff(goal, now, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("not what is desired (-want +got):\n%s", diff)
		}
		if more := plan(now, desired); len(more) > 0 {
			t.Fatalf("steps remain: %v", more)
		}
	})
}
