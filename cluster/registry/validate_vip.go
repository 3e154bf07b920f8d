package registry

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

func (c *checker) vips(vips []VIP) {
	owners := map[netip.Addr]string{}
	for i, v := range vips {
		c.draws(element("vips", i), v)
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
		c.transport(p, b)
		c.sources(p+".source", b, nodes)
		if !c.sure(p+".asn") || !c.sure(p+".local_asn") || b.ASN == 0 || b.LocalASN == 0 {
			continue
		}
		switch within := b.ASN == b.LocalASN; {
		case within && b.ASPathPrepend > 0:
			c.add(p+".as_path_prepend", "is of use towards another AS only: a router of AS %d would take the path for a loop (RFC 4271 9.1.2)", b.ASN)
		case !within && c.has(p, "local_preference", b):
			c.add(p+".local_preference", "is of use within one AS only: it may not be sent from AS %d to AS %d (RFC 4271 5.1.5)", b.LocalASN, b.ASN)
		}
	}
}

// announcers refuses what a VIP says of its announcements that no node would
// carry out.
func (c *checker) announcers(cfg Config) {
	if len(cfg.Neighbors) == 0 || c.unsure["neighbors"] {
		return
	}
	for i, v := range cfg.VIPs {
		p := element("vips", i)
		if v.Mode == ModeARP || len(v.Nodes) == 0 && v.LocalPreference == nil && v.ASPathPrepend == nil {
			continue
		}
		unknown := func(name string) bool { _, ok := c.known["neighbors"][name]; return !ok }
		if !c.sure(p+".nodes") || !c.sure(p+".neighbors") || slices.ContainsFunc(v.Neighbors, unknown) {
			continue // told already
		}
		sessions, within, between := 0, false, false
		for _, b := range cfg.Neighbors {
			if !v.SelectsNeighbor(b.Name) || !slices.ContainsFunc(b.Nodes, v.SelectsNode) {
				continue
			}
			sessions++
			within, between = within || b.ASN == b.LocalASN, between || b.ASN != b.LocalASN
		}
		switch {
		case sessions == 0 && len(v.Nodes) > 0:
			c.add(p+".nodes", "none of them speaks with any of the VIP's neighbors: it would never be announced")
		case sessions == 0:
		case !within && v.LocalPreference != nil:
			c.add(p+".local_preference", "is of use within one AS only, and no neighbor that the VIP is announced to is of ours")
		case !between && v.ASPathPrepend != nil:
			c.add(p+".as_path_prepend", "is of use towards another AS only, and every neighbor that the VIP is announced to is of ours")
		}
	}
}

// transport checks how a neighbor's connection is to be made.
func (c *checker) transport(p string, b Neighbor) {
	c.password(p+".password", b)
	if b.TTLSecurity > 0 && b.Multihop > 0 {
		c.add(p+".multihop", "is of no use with ttl_security, which sends a TTL of 255 (RFC 5082)")
	}
}

// sources checks the addresses of a neighbor's sessions on our side.
func (c *checker) sources(path string, b Neighbor, nodes map[string]bool) {
	owners := map[netip.Addr]string{}
	for _, node := range slices.Sorted(maps.Keys(b.Source)) {
		a, at := b.Source[node], path
		if node != single {
			at = join(path, node)
		}
		owner, taken := owners[a]
		owners[a] = node
		reason := notUnicast(a)
		switch {
		case node != single && !nodes[node]:
			c.add(at, "%s is not in this neighbor's nodes", quote(node))
		case node == single && len(b.Source) > 1:
			c.add(at, "is both one address and one for each node")
		case reason != "":
			c.add(at, "is %s, %s", a, reason)
		case b.Address.IsValid() && a.Is4() != b.Address.Is4():
			c.add(at, "is %s, must be of the family of the neighbor's address", a)
		case node == single && len(nodes) > 1:
			c.add(at, "is an address of one node, and this neighbor has %d: write one for each, such as {%s: %s}", len(nodes), slices.Min(slices.Collect(maps.Keys(nodes))), a)
		case taken:
			c.add(at, "%s is the source of node %s already", a, quote(owner))
		}
	}
}

// maxPassword is what TCP-MD5 takes on Linux (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

func (c *checker) password(path string, b Neighbor) {
	password := b.Password
	if is, well := sealed(password); is {
		if !well {
			c.add(path, "begins as a sealed password does, but no base64 follows")
		}
		if !well || c.open == nil {
			return
		}
		opened, err := c.open(PasswordPurpose(b.Name), string(password))
		if err != nil {
			c.add(path, "%v", err)
			return
		}
		password = Secret(opened)
	}
	switch {
	case len(password) > maxPassword:
		c.add(path, "has %d bytes, TCP-MD5 takes at most %d", len(password), maxPassword)
	case password == "" && (b.Password != "" || c.doc != nil && c.has(strings.TrimSuffix(path, ".password"), "password", b) && c.sure(path)):
		c.add(path, "is empty: give it a value or take it out")
	case strings.ContainsRune(string(password), 0):
		// FRR and others end it there.
		c.add(path, "has a zero byte")
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
