package registry

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Validate returns all that is wrong with a configuration whose defaults are
// filled in, without positions, and nil if nothing is. It is for a Config that
// did not come from Parse, which checks the same.
func (c Config) Validate() Faults {
	return validate(c, func(string) bool { return false }, nil)
}

// checker walks a Config and collects its faults.
type checker struct {
	missing func(path string) bool // whether the operator left the field out
	unsure  map[string]bool        // the lists of which some names could not be read
	faults  Faults
}

// validate checks a Config; missing tells "left out" from "wrong" apart.
func validate(cfg Config, missing func(path string) bool, unsure map[string]bool) Faults {
	c := &checker{missing: missing, unsure: unsure}
	vips := c.vips(cfg.VIPs)
	c.neighbors(cfg.Neighbors)
	pools := c.pools(cfg.Pools)
	c.listeners(cfg.Listeners, vips, pools)
	c.minHealthy(cfg, vips, pools)
	return c.faults
}

func (c *checker) add(path, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// required reports a field that was left out, and whether it was.
func (c *checker) required(path string) bool {
	if c.missing(path) {
		c.add(path, "is required")
		return true
	}
	return false
}

// name checks a name and that it is the only one in its list.
func (c *checker) name(path, name string, seen map[string]int) {
	if c.required(path) {
		return
	}
	if err := CheckName(name); err != nil {
		c.add(path, "%v", err)
		return
	}
	if first, ok := seen[name]; ok {
		c.add(path, "%s is the name of number %d of this list already", quote(name), first+1)
	}
}

// index files a name, the first of equals winning. Wrong names are filed as
// well, so that a reference to them is not a second fault.
func index(names map[string]int, name string, i int) {
	if _, ok := names[name]; !ok && name != "" {
		names[name] = i
	}
}

// reference checks that a field names an existing element of a list.
func (c *checker) reference(path, name, list, kind string, known map[string]int) {
	if c.required(path) {
		return
	}
	if _, ok := known[name]; ok || c.unsure[list] {
		return
	}
	if near := c.suggest(name, known); near != "" {
		c.add(path, "there is no %s %s; did you mean %s?", kind, quote(name), near)
		return
	}
	c.add(path, "there is no %s %s", kind, quote(name))
}

// suggest gives a name near the one that was not found. With very many names
// or faults the search would take longer than its answer is worth.
func (c *checker) suggest(name string, known map[string]int) string {
	const most = 1000
	if len(known) > most || len(c.faults) > most/10 {
		return ""
	}
	return nearest(name, slices.Sorted(maps.Keys(known))) // sorted, for one answer among several near ones
}

func (c *checker) vips(vips []VIP) map[string]int {
	names, owners := map[string]int{}, map[netip.Addr]string{}
	for i, v := range vips {
		p := fmt.Sprintf("vips[%d]", i)
		c.name(p+".name", v.Name, names)
		index(names, v.Name, i)
		if v.Mode != ModeBGP {
			c.add(p+".mode", "is %s, must be bgp", quote(string(v.Mode)))
		}
		if len(v.Addresses) == 0 && !c.required(p+".addresses") {
			c.add(p+".addresses", "is empty, must have at least one address")
		}
		for j, a := range v.Addresses {
			at := fmt.Sprintf("%s.addresses[%d]", p, j)
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
		c.communities(p+".communities", v.Communities)
		c.within(p+".min_healthy", v.MinHealthy, 0, maxMinHealthy)
	}
	return names
}

func (c *checker) neighbors(neighbors []Neighbor) {
	names := map[string]int{}
	type session struct {
		node   string
		router netip.Addr
	}
	sessions := map[session]string{}
	for i, b := range neighbors {
		p := fmt.Sprintf("neighbors[%d]", i)
		c.name(p+".name", b.Name, names)
		index(names, b.Name, i)
		if !c.required(p + ".address") {
			if reason := notUnicast(b.Address); reason != "" {
				c.add(p+".address", "is %s, %s", b.Address, reason)
			}
		}
		c.within(p+".port", int(b.Port), 1, 65535)
		c.asn(p+".asn", b.ASN)
		c.asn(p+".local_asn", b.LocalASN)
		c.wholeSeconds(p+".hold_time", b.HoldTime, minHoldTime, maxHoldTime)
		c.wholeSeconds(p+".connect_retry", b.ConnectRetry, minConnectRetry, maxConnectRetry)
		c.communities(p+".communities", b.Communities)
		c.within(p+".as_path_prepend", b.ASPathPrepend, 0, maxPrepend)

		if len(b.Nodes) == 0 && !c.required(p+".nodes") {
			c.add(p+".nodes", "is empty, must name at least one node")
		}
		nodes := map[string]int{}
		for j, node := range b.Nodes {
			at := fmt.Sprintf("%s.nodes[%d]", p, j)
			c.name(at, node, nodes)
			if _, twice := nodes[node]; !twice && node != "" && b.Address.IsValid() {
				// GoBGP, like most speakers, knows a neighbor by its address.
				if other, ok := sessions[session{node, b.Address}]; ok {
					c.add(at, "node %s speaks with %s as neighbor %s already", quote(node), b.Address, quote(other))
				} else {
					sessions[session{node, b.Address}] = b.Name
				}
			}
			index(nodes, node, j)
		}
		c.nextHops(p+".next_hops", b.NextHops, nodes)
	}
}

func (c *checker) nextHops(path string, hops map[string][]netip.Addr, nodes map[string]int) {
	for _, node := range slices.Sorted(maps.Keys(hops)) {
		p := join(path, node)
		if _, ok := nodes[node]; !ok {
			c.add(p, "%s is not in this neighbor's nodes", quote(node))
		}
		if len(hops[node]) == 0 {
			c.add(p, "is empty, must have at least one address")
		}
		var v4, v6 bool
		for j, a := range hops[node] {
			at := fmt.Sprintf("%s[%d]", p, j)
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

func (c *checker) listeners(listeners []Listener, vips, pools map[string]int) {
	type socket struct {
		vip  string
		port uint16
	}
	names, sockets := map[string]int{}, map[socket]string{}
	for i, l := range listeners {
		p := fmt.Sprintf("listeners[%d]", i)
		c.name(p+".name", l.Name, names)
		index(names, l.Name, i)
		c.reference(p+".vip", l.VIP, "vips", "VIP", vips)
		if !c.required(p + ".port") {
			c.within(p+".port", int(l.Port), 1, 65535)
		}
		if !c.required(p+".protocol") && l.Protocol != ProtocolTCP && l.Protocol != ProtocolHTTP {
			c.add(p+".protocol", "is %s, must be tcp or http", quote(string(l.Protocol)))
		}
		c.reference(p+".pool", l.Pool, "pools", "pool", pools)
		if l.VIP == "" || l.Port == 0 {
			continue
		}
		if other, ok := sockets[socket{l.VIP, l.Port}]; ok {
			c.add(p+".port", "port %d of VIP %s is that of listener %s already", l.Port, quote(l.VIP), quote(other))
			continue
		}
		sockets[socket{l.VIP, l.Port}] = l.Name
	}
}

func (c *checker) pools(pools []Pool) map[string]int {
	names := map[string]int{}
	for i, pool := range pools {
		p := fmt.Sprintf("pools[%d]", i)
		c.name(p+".name", pool.Name, names)
		index(names, pool.Name, i)
		if pool.Balance != BalanceRoundRobin {
			c.add(p+".balance", "is %s, must be round_robin", quote(string(pool.Balance)))
		}
		if pool.HealthCheck != nil {
			c.healthCheck(p+".health_check", *pool.HealthCheck)
		}
		servers, addresses := map[string]int{}, map[netip.AddrPort]string{}
		for j, s := range pool.Servers {
			p := fmt.Sprintf("%s.servers[%d]", p, j)
			c.name(p+".name", s.Name, servers)
			index(servers, s.Name, j)
			if s.Weight == nil {
				c.add(p+".weight", "is required") // never of Parse, which fills it in
			} else {
				c.within(p+".weight", *s.Weight, 0, maxWeight)
			}
			if c.required(p + ".address") {
				continue
			}
			if reason := notUnicast(s.Address.Addr()); reason != "" {
				c.add(p+".address", "is %s, %s", s.Address, reason)
				continue
			}
			if s.Address.Port() == 0 {
				c.add(p+".address", "is %s: the port must be 1 to 65535", s.Address)
				continue
			}
			if other, ok := addresses[s.Address]; ok {
				c.add(p+".address", "%s is the address of server %s already", s.Address, quote(other))
				continue
			}
			addresses[s.Address] = s.Name
		}
	}
	return names
}

func (c *checker) healthCheck(p string, h HealthCheck) {
	if h.HTTP != "" {
		if reason := notRequestPath(h.HTTP); reason != "" {
			c.add(p+".http", "is %s, %s", quote(h.HTTP), reason)
		}
		if len(h.ExpectStatus) == 0 {
			c.add(p+".expect_status", "is empty, must have at least one status")
		}
	} else if len(h.ExpectStatus) > 0 {
		c.add(p+".expect_status", "is of use with http only: a TCP check sees no status")
	}
	seen := map[int]bool{}
	for i, status := range h.ExpectStatus {
		at := fmt.Sprintf("%s.expect_status[%d]", p, i)
		c.within(at, status, 200, 599)
		if seen[status] {
			c.add(at, "%d is in the list already", status)
		}
		seen[status] = true
	}
	c.between(p+".interval", h.Interval, minInterval, maxInterval)
	c.between(p+".timeout", h.Timeout, minTimeout, maxTimeout)
	c.within(p+".fall", h.Fall, 1, maxInARow)
	c.within(p+".rise", h.Rise, 1, maxInARow)
}

// minHealthy refuses a threshold that a pool can never reach: it would
// withdraw the VIP from every node at once.
func (c *checker) minHealthy(cfg Config, vips, pools map[string]int) {
	told := map[int]bool{}
	for _, l := range cfg.Listeners {
		i, known := vips[l.VIP]
		j, served := pools[l.Pool]
		if !known || !served || told[i] || len(cfg.Pools[j].Servers) >= cfg.VIPs[i].MinHealthy {
			continue
		}
		told[i] = true
		c.add(fmt.Sprintf("vips[%d].min_healthy", i), "is %d, but pool %s of listener %s has only %d servers: the VIP would never be announced",
			cfg.VIPs[i].MinHealthy, quote(l.Pool), quote(l.Name), len(cfg.Pools[j].Servers))
	}
}

func (c *checker) within(path string, v, lowest, highest int) {
	if v < lowest || v > highest {
		c.add(path, "is %d, must be %d to %d", v, lowest, highest)
	}
}

func (c *checker) between(path string, v, lowest, highest time.Duration) {
	if v < lowest || v > highest {
		c.add(path, "is %s, must be %s to %s", formatDuration(v), formatDuration(lowest), formatDuration(highest))
	}
}

func (c *checker) wholeSeconds(path string, v, lowest, highest time.Duration) {
	if v < lowest || v > highest || v%time.Second != 0 {
		c.add(path, "is %s, must be whole seconds, %ds to %ds", formatDuration(v), lowest/time.Second, highest/time.Second)
	}
}

func (c *checker) asn(path string, asn uint32) {
	if c.required(path) {
		return
	}
	switch asn {
	case 0:
		c.add(path, "is 0, must be 1 to 4294967294 (RFC 7607)")
	case 23456:
		c.add(path, "is 23456, which stands for a four-octet ASN and is nobody's own (RFC 6793)")
	case 65535, 4294967295:
		c.add(path, "is %d, which is reserved (RFC 7300)", asn)
	}
}

func (c *checker) communities(path string, communities []string) {
	if len(communities) > maxCommunities {
		c.add(path, "has %d communities, at most %d are allowed", len(communities), maxCommunities)
	}
	seen := map[string]bool{}
	for i, s := range communities {
		at := fmt.Sprintf("%s[%d]", path, i)
		if _, ok := ParseCommunity(s); !ok {
			c.add(at, "is %s, must be ASN:value, each 0 to 65535 (RFC 1997)", quote(s))
		} else if seen[s] {
			c.add(at, "%s is in the list already", s)
		}
		seen[s] = true
	}
}
