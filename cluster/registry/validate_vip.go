package registry

import (
	"maps"
	"net/netip"
	"slices"
)

func (c *checker) vips(vips []VIP) {
	owners := map[netip.Addr]string{}
	for i, v := range vips {
		for j, a := range v.Addresses {
			at := element(element("vips", i)+".addresses", j)
			if reason := notService(a); reason != "" {
				c.add(at, "is %s, %s", a, reason)
				continue
			}
			if owner, ok := owners[a]; ok {
				c.add(at, "%s is an address of VIP %s already", a, quote(owner))
				continue
			}
			owners[a] = v.Name
		}
	}
}

func (c *checker) neighbors(neighbors []Neighbor) {
	type session struct {
		node   string
		router netip.Addr
	}
	sessions := map[session]string{}
	for i, b := range neighbors {
		p := element("neighbors", i)
		if c.doc == nil || c.has(p, "address", b) {
			if reason := notUnicast(b.Address); reason != "" {
				c.add(p+".address", "is %s, %s", b.Address, reason)
			}
		}
		c.asn(p+".asn", b.ASN)
		c.asn(p+".local_asn", b.LocalASN)
		nodes := map[string]bool{}
		for j, node := range b.Nodes {
			if nodes[node] || node == "" {
				continue
			}
			nodes[node] = true
			if !b.Address.IsValid() {
				continue
			}
			// GoBGP, like most speakers, knows a neighbor by its address.
			if other, ok := sessions[session{node, b.Address}]; ok {
				c.add(element(p+".nodes", j), "node %s speaks with %s as neighbor %s already", quote(node), b.Address, quote(other))
				continue
			}
			sessions[session{node, b.Address}] = b.Name
		}
		c.nextHops(p+".next_hops", b.NextHops, nodes)
	}
}

func (c *checker) nextHops(path string, hops map[string][]netip.Addr, nodes map[string]bool) {
	for _, node := range slices.Sorted(maps.Keys(hops)) {
		p := join(path, node)
		if !nodes[node] {
			c.add(p, "%s is not in this neighbor's nodes", quote(node))
		}
		if len(hops[node]) == 0 {
			c.add(p, "is empty, must have at least one address")
		}
		var v4, v6 bool
		for j, a := range hops[node] {
			at := element(p, j)
			reason := notUnicast(a)
			switch {
			case reason == "" && a.IsLoopback():
				c.add(at, "is %s, a loopback address: no router can send to it", a)
			case reason != "":
				c.add(at, "is %s, %s", a, reason)
			case a.Is4() && v4, a.Is6() && v6:
				c.add(at, "%s is a second next hop of its family: one of each is announced", a)
			}
			v4, v6 = v4 || a.Is4(), v6 || a.Is6()
		}
	}
}

func (c *checker) asn(path string, asn uint32) {
	switch asn {
	case 23456:
		c.add(path, "is 23456, which stands for a four-octet ASN and is nobody's own (RFC 6793)")
	case 65535:
		c.add(path, "is %d, which is reserved (RFC 7300)", asn)
	}
}
