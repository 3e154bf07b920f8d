package node

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/bgp/bfd"
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
// the VIPs that open holds are open.
func bgpState(c registry.Config, self Config, open func(vip string) bool) (bgp.State, error) {
	state := bgp.State{RouterID: routerID(self)}
	for _, n := range c.Neighbors {
		if !slices.Contains(n.Nodes, self.Name) {
			continue
		}
		bn := bgp.Neighbor{
			Name: n.Name, Address: n.Address, Port: n.Port, ASN: n.ASN, LocalASN: n.LocalASN,
			HoldTime: n.HoldTime, ConnectRetry: n.ConnectRetry,
		}
		if n.BFD != nil {
			bn.BFD = &bfd.Config{Interval: n.BFD.Interval, Multiplier: n.BFD.Multiplier}
		}
		for _, v := range c.VIPs {
			if v.Mode != registry.ModeBGP || !open(v.Name) {
				continue
			}
			communities, err := parseCommunities(n.Communities, v.Communities)
			if err != nil {
				return bgp.State{}, fmt.Errorf("neighbor %s, vip %s: %w", n.Name, v.Name, err)
			}
			for _, a := range v.Addresses {
				hop, ok := nextHop(n, self, a)
				if !ok {
					continue
				}
				bn.Routes = append(bn.Routes, bgp.Route{
					Prefix: netip.PrefixFrom(a, a.BitLen()), NextHop: hop,
					Communities: communities, MED: n.MED, Prepend: n.ASPathPrepend,
				})
			}
		}
		state.Neighbors = append(state.Neighbors, bn)
	}
	return state, nil
}

// nextHops counts the routes that a VIP would have if its gate were open.
func nextHops(c registry.Config, self Config, v registry.VIP) int {
	count := 0
	for _, n := range c.Neighbors {
		if !slices.Contains(n.Nodes, self.Name) {
			continue
		}
		for _, a := range v.Addresses {
			if _, ok := nextHop(n, self, a); ok {
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

// parseCommunities joins lists of "ASN:value" (RFC 1997), each once, in order.
func parseCommunities(lists ...[]string) ([]uint32, error) {
	var out []uint32
	for _, s := range slices.Concat(lists...) {
		high, low, ok := strings.Cut(s, ":")
		h, err1 := strconv.ParseUint(high, 10, 16)
		l, err2 := strconv.ParseUint(low, 10, 16)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("community %q: must be two numbers from 0 to 65535 with a colon between", s)
		}
		if c := uint32(h)<<16 | uint32(l); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}
