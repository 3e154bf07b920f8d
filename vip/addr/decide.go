package addr

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// decision is what to do about the addresses; each list is sorted.
type decision struct {
	add    []netip.Addr // wanted, and nowhere
	remove []netip.Addr // ours on the interface, and not wanted
	forget []netip.Addr // ours by the record, not wanted, and gone already
	refuse []error      // wanted, but somebody else's, or no usable address
}

// decide compares what this machine has, by interface, with what is wanted on
// link and what there is ours. An address is ours only on link: the same one
// elsewhere is foreign whatever the record says.
func decide(link string, have map[netip.Addr][]string, want []netip.Addr, ours map[netip.Addr]bool) decision {
	var d decision
	wanted := map[netip.Addr]bool{}
	for _, a := range slices.SortedFunc(slices.Values(want), netip.Addr.Compare) {
		if wanted[a] {
			continue
		}
		wanted[a] = true
		if problem := unusable(a); problem != "" {
			d.refuse = append(d.refuse, fmt.Errorf("VIP %s: %s", a, problem))
			continue
		}
		foreign := slices.IndexFunc(have[a], func(on string) bool { return on != link || !ours[a] })
		switch {
		case foreign >= 0:
			d.refuse = append(d.refuse, &ForeignError{Addr: a, Link: have[a][foreign]})
		case len(have[a]) == 0:
			d.add = append(d.add, a)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(ours), netip.Addr.Compare) {
		switch {
		case wanted[a]:
		case slices.Contains(have[a], link):
			d.remove = append(d.remove, a)
		default:
			d.forget = append(d.forget, a)
		}
	}
	return d
}

// unusable says why a cannot be a VIP, or nothing.
func unusable(a netip.Addr) string {
	switch {
	case !a.IsValid(), a.IsUnspecified():
		return "not an address"
	case a.IsLoopback():
		return "a loopback address never leaves the machine"
	case a.IsMulticast():
		return "multicast"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.Is4In6():
		return "an IPv4 address in IPv6 clothing: write it as IPv4"
	case a.Zone() != "":
		return "has a zone"
	}
	return ""
}
