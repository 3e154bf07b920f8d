package fib

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Change is the set of next hops of a prefix from a time on.
type Change struct {
	At   time.Time
	Hops []NextHop // sorted by text; empty: no route, or one that discards
}

// Table follows the next hops of one prefix. The zero Table with a Prefix is
// ready, and knows of no route.
type Table struct {
	Prefix netip.Prefix
	// routes by metric: the kernel uses the lowest.
	routes map[int][]NextHop
}

// Apply takes an event in. It returns the new set, and whether it differs from
// the one before; events of other prefixes, and of tables other than main,
// change nothing.
func (t *Table) Apply(e Event) (Change, bool) {
	if e.Prefix != t.Prefix || e.Table != "" || e.Type == "local" {
		return Change{}, false
	}
	before := t.Hops()
	if t.routes == nil {
		t.routes = make(map[int][]NextHop)
	}
	switch {
	case !e.Deleted:
		t.routes[e.Metric] = slices.Clone(e.Hops)
	case len(e.Hops) == 0:
		delete(t.routes, e.Metric)
	default:
		// IPv6 takes single ways out of a route, one event each.
		left := slices.DeleteFunc(slices.Clone(t.routes[e.Metric]), func(h NextHop) bool { return slices.Contains(e.Hops, h) })
		if t.routes[e.Metric] = left; len(left) == 0 {
			delete(t.routes, e.Metric)
		}
	}
	after := t.Hops()
	return Change{At: e.At, Hops: after}, !slices.Equal(before, after)
}

// Hops is the present set, sorted by text.
func (t *Table) Hops() []NextHop {
	best, found := 0, false
	for metric := range t.routes {
		if !found || metric < best {
			best, found = metric, true
		}
	}
	hops := slices.Clone(t.routes[best])
	slices.SortFunc(hops, func(a, b NextHop) int { return strings.Compare(a.String(), b.String()) })
	return hops
}
