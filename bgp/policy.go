package bgp

import (
	"cmp"
	"net/netip"
	"slices"
)

// action is what a step does to one prefix.
type action int

const (
	announce action = iota
	withdraw
)

// step is one change to what a session announces.
type step struct {
	action action
	route  Route // for withdraw, only Prefix counts
}

// plan gives the steps, in order, that lead from what is announced on a
// session to what is desired.
//
// A route whose attributes change is announced again without a withdrawal:
// the new one replaces it (RFC 4271 3.1), so the router never lacks it.
//
// Withdrawals come before announcements: a prefix that may no longer be served
// must stop drawing traffic first, and whatever fails afterwards, it has. The
// exception is an announcement that overlaps a withdrawn prefix (an aggregate
// split up, or the reverse): it goes first, so that addresses under both are
// covered throughout.
func plan(announced map[netip.Prefix]Route, desired []Route) []step {
	wanted := make(map[netip.Prefix]bool, len(desired))
	for _, r := range desired {
		wanted[r.Prefix] = true
	}
	var withdrawals []step
	for p := range announced {
		if !wanted[p] {
			withdrawals = append(withdrawals, step{withdraw, Route{Prefix: p}})
		}
	}
	slices.SortFunc(withdrawals, func(a, b step) int { return comparePrefix(a.route.Prefix, b.route.Prefix) })

	var before, after []step
	for _, r := range desired {
		r = r.canonical()
		if old, ok := announced[r.Prefix]; ok && old.equal(r) {
			continue
		}
		overlaps := slices.ContainsFunc(withdrawals, func(w step) bool { return w.route.Prefix.Overlaps(r.Prefix) })
		if overlaps {
			before = append(before, step{announce, r})
		} else {
			after = append(after, step{announce, r})
		}
	}
	return slices.Concat(before, withdrawals, after)
}

// canonical is r with its communities as the sets they are (RFC 1997, RFC 8092
// 5): sorted and without duplicates, so that order never counts as a change,
// and nodes with the same configuration send equal attributes, which ECMP needs.
func (r Route) canonical() Route {
	c := slices.Clone(r.Communities)
	slices.Sort(c)
	r.Communities = slices.Compact(c)
	large := slices.Clone(r.LargeCommunities)
	slices.SortFunc(large, LargeCommunity.compare)
	r.LargeCommunities = slices.Compact(large)
	r.MED, r.LocalPref = clone(r.MED), clone(r.LocalPref)
	return r
}

func (c LargeCommunity) compare(o LargeCommunity) int {
	return cmp.Or(cmp.Compare(c.ASN, o.ASN), cmp.Compare(c.Function, o.Function), cmp.Compare(c.Value, o.Value))
}

func clone(n *uint32) *uint32 {
	if n == nil {
		return nil
	}
	own := *n
	return &own
}

// equal compares canonical routes.
func (r Route) equal(o Route) bool {
	return r.Prefix == o.Prefix && r.NextHop == o.NextHop && r.Prepend == o.Prepend &&
		same(r.MED, o.MED) && same(r.LocalPref, o.LocalPref) &&
		slices.Equal(r.Communities, o.Communities) && slices.Equal(r.LargeCommunities, o.LargeCommunities)
}

func same(a, b *uint32) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
