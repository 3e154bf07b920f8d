package node

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/bgp/guard"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// The translate files are the sole translator of the registry's model into the
// inputs of bgp, vip and proxy. They are pure.

// vipAddresses lists every address that belongs on the loopback interface.
func vipAddresses(c registry.Config) []netip.Addr {
	var out []netip.Addr
	for _, v := range c.VIPs {
		out = append(out, v.Addresses...)
	}
	return out
}

// bgpState gives what the node called name should announce, when the gates of
// the VIPs that open holds are open. The passwords of c must be in clear.
func bgpState(c registry.Config, self Config, open func(vip string) bool) (bgp.State, error) {
	state := bgp.State{RouterID: routerID(self)}
	for _, n := range c.Neighbors {
		if !slices.Contains(n.Nodes, self.Name) {
			continue
		}
		bn := bgp.Neighbor{
			Name: n.Name, Address: n.Address, Port: n.Port, ASN: n.ASN, LocalASN: n.LocalASN,
			HoldTime: n.HoldTime, ConnectRetry: n.ConnectRetry,
			Password: guard.Password(n.Password), TTLSecurity: n.TTLSecurity, Multihop: n.Multihop,
			Passive: n.Passive, Source: n.SourceOf(self.Name),
		}
		if n.BFD != nil {
			bn.BFD = &bfd.Config{Interval: n.BFD.Interval, Multiplier: n.BFD.Multiplier}
		}
		for _, v := range c.VIPs {
			if v.Mode != registry.ModeBGP || !open(v.Name) {
				continue
			}
			for _, a := range v.Addresses {
				route, refused, err := routeTo(n, v, self, a)
				if err != nil {
					return bgp.State{}, fmt.Errorf("neighbor %s, vip %s: %w", n.Name, v.Name, err)
				}
				if refused == nil {
					bn.Routes = append(bn.Routes, route)
				}
			}
		}
		state.Neighbors = append(state.Neighbors, bn)
	}
	return state, nil
}

// routeTo is the route by which this node announces an address of a VIP to a
// neighbor that names the node, or the reason for which it never does. What the
// VIP says of its attributes goes before what the neighbor says; communities
// add up.
func routeTo(n registry.Neighbor, v registry.VIP, self Config, a netip.Addr) (bgp.Route, *Reason, error) {
	if !v.SelectsNode(self.Name) {
		return bgp.Route{}, &Reason{Code: ReasonNotSelected, Message: notSelectedMessage}, nil
	}
	if !v.SelectsNeighbor(n.Name) {
		return bgp.Route{}, &Reason{Code: ReasonNeighborNotSelected, Message: "the VIP's neighbors do not name this one"}, nil
	}
	hop, ok := nextHop(n, self, a)
	if !ok {
		return bgp.Route{}, &Reason{Code: ReasonNoNextHop, Message: fmt.Sprintf("this node has no address of the family of %s to be the next hop", a)}, nil
	}
	communities, err := parseCommunities(n.Communities, v.Communities)
	if err != nil {
		return bgp.Route{}, nil, err
	}
	large, err := parseLargeCommunities(n.LargeCommunities, v.LargeCommunities)
	if err != nil {
		return bgp.Route{}, nil, err
	}
	r := bgp.Route{
		Prefix: prefixOf(a), NextHop: hop,
		Communities: communities, LargeCommunities: large, MED: cmp.Or(v.MED, n.MED),
	}
	if n.ASN == n.LocalASN {
		r.LocalPref = cmp.Or(v.LocalPreference, n.LocalPreference)
	} else {
		r.Prepend = *cmp.Or(v.ASPathPrepend, &n.ASPathPrepend)
	}
	return r, nil, nil
}

// nextHops counts the routes that a VIP would have if its gate were open.
func nextHops(c registry.Config, self Config, v registry.VIP) int {
	count := 0
	for _, n := range c.Neighbors {
		if !slices.Contains(n.Nodes, self.Name) {
			continue
		}
		for _, a := range v.Addresses {
			if _, refused, err := routeTo(n, v, self, a); refused == nil && err == nil {
				count++
			}
		}
	}
	return count
}

// nextHop is the address of this node that a neighbor should send a VIP's
// packets to: the neighbor's override for this node, or the node's own address
// of the VIP's family, one on the neighbor's subnet where that can be told
// (the longest common prefix with the neighbor's address).
func nextHop(n registry.Neighbor, self Config, vip netip.Addr) (netip.Addr, bool) {
	candidates := self.Addresses
	if o, ok := n.NextHops[self.Name]; ok {
		candidates = o
	}
	best, common := netip.Addr{}, -1
	for _, a := range candidates {
		if a.Is4() != vip.Is4() {
			continue
		}
		bits := 0
		if a.Is4() == n.Address.Is4() {
			bits = commonBits(a, n.Address)
		}
		if bits > common {
			best, common = a, bits
		}
	}
	return best, best.IsValid()
}

func commonBits(a, b netip.Addr) int {
	for bits := a.BitLen(); bits > 0; bits-- {
		if p, err := a.Prefix(bits); err == nil && p.Contains(b) {
			return bits
		}
	}
	return 0
}

// routerID is the node's first IPv4 address. A node that has none gets a
// stable number from its name: a router ID need not be an address of the node,
// only differ from its neighbors' (RFC 6286 2.1).
func routerID(self Config) netip.Addr {
	for _, a := range self.Addresses {
		if a.Is4() {
			return a
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(self.Name))
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], h.Sum32()|1) // never 0.0.0.0
	return netip.AddrFrom4(b)
}

// parseCommunities joins lists of communities, each once, in order.
func parseCommunities(lists ...[]string) ([]uint32, error) {
	var out []uint32
	for _, s := range slices.Concat(lists...) {
		c, ok := registry.ParseCommunity(s)
		if !ok {
			return nil, fmt.Errorf("community %q: must be two numbers from 0 to 65535 with a colon between, or a well-known name", s)
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// parseLargeCommunities joins lists of large communities, each once, in order.
func parseLargeCommunities(lists ...[]string) ([]bgp.LargeCommunity, error) {
	var out []bgp.LargeCommunity
	for _, s := range slices.Concat(lists...) {
		parts, ok := registry.ParseLargeCommunity(s)
		if !ok {
			return nil, fmt.Errorf("large community %q: must be three numbers from 0 to 4294967295 with colons between", s)
		}
		if c := (bgp.LargeCommunity{ASN: parts[0], Function: parts[1], Value: parts[2]}); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// prefixOf is the prefix of one address alone.
func prefixOf(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
