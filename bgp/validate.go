package bgp

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// Fault is one thing wrong with a State: the path of the field and what is
// wrong with it.
type Fault struct {
	Path    string // such as neighbors[0].routes[2].next_hop
	Problem string
}

func (f Fault) String() string { return f.Path + ": " + f.Problem }

// InvalidStateError carries every fault of a State at once, in the order of
// the fields.
type InvalidStateError struct {
	Faults []Fault
}

func (e *InvalidStateError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return "invalid BGP state: " + strings.Join(lines, "; ")
}

// maxPrepend bounds Route.Prepend: routers refuse or ignore longer paths, and
// a typing error should not fill an UPDATE.
const maxPrepend = 32

// ASNs that no speaker may use.
const (
	asTrans      = 23456          // RFC 6793 9
	lastASN16    = 65535          // RFC 7300
	lastASN32    = math.MaxUint32 // RFC 7300
	bgpPort      = 179
	longestTimer = math.MaxUint16 * time.Second // hold time is 16 bits on the wire
)

// Validate reports every fault of s at once, as an *InvalidStateError, or nil.
func (s State) Validate() error {
	var faults []Fault
	report := func(path, format string, args ...any) {
		faults = append(faults, Fault{Path: path, Problem: fmt.Sprintf(format, args...)})
	}
	if len(s.Neighbors) > 0 || s.RouterID.IsValid() {
		// RFC 6286: any non-zero 32-bit number.
		if !s.RouterID.Is4() || s.RouterID.IsUnspecified() {
			report("router_id", "%s is not a usable IPv4 address", addrText(s.RouterID))
		}
	}
	names := map[string]int{}
	endpoints := map[netip.AddrPort]int{}
	watched := map[netip.Addr]int{}
	for i, n := range s.Neighbors {
		path := fmt.Sprintf("neighbors[%d]", i)
		if n.Name == "" {
			report(path+".name", "missing")
		} else if j, ok := names[n.Name]; ok {
			report(path+".name", "%q is already the name of neighbors[%d]", n.Name, j)
		} else {
			names[n.Name] = i
		}
		if n.Address.IsValid() {
			// A router takes one session from one address: a second one would
			// collide with the first for good (RFC 4271 6.8).
			if j, ok := endpoints[n.endpoint()]; ok {
				report(path+".address", "%s is already the address of neighbors[%d]", n.endpoint(), j)
			} else {
				endpoints[n.endpoint()] = i
			}
		}
		if n.BFD != nil && n.Address.IsValid() {
			// RFC 5881 3: one BFD session for each path, whatever the port of BGP.
			if j, ok := watched[n.Address]; ok {
				report(path+".bfd", "%s is watched for neighbors[%d] already", n.Address, j)
			} else {
				watched[n.Address] = i
			}
		}
		n.validate(path, report)
	}
	if len(faults) > 0 {
		return &InvalidStateError{Faults: faults}
	}
	return nil
}

func (n Neighbor) validate(path string, report func(path, format string, args ...any)) {
	if a := n.Address; !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
		report(path+".address", "%s is not a usable unicast address", addrText(a))
	} else if a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" {
		report(path+".address", "%s is link-local and needs a zone, such as %s%%eth0", a, a)
	}
	checkASN := func(field string, asn uint32) {
		switch asn {
		case 0:
			report(path+field, "missing")
		case asTrans, lastASN16, lastASN32:
			report(path+field, "%d is reserved", asn)
		}
	}
	checkASN(".asn", n.ASN)
	checkASN(".local_asn", n.LocalASN)
	checkSeconds := func(field string, d, least time.Duration) {
		if d < least || d > longestTimer || d%time.Second != 0 {
			report(path+field, "%s is not a whole number of seconds from %s to %s", d, least, longestTimer)
		}
	}
	checkSeconds(".hold_time", n.HoldTime, 3*time.Second)
	checkSeconds(".connect_retry", n.ConnectRetry, time.Second)
	n.validateTransport(path, report)
	if n.BFD != nil {
		if err := n.BFD.Validate(); err != nil {
			report(path+".bfd", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}

	prefixes := map[netip.Prefix]int{}
	for i, r := range n.Routes {
		path := fmt.Sprintf("%s.routes[%d]", path, i)
		if j, ok := prefixes[r.Prefix]; ok {
			report(path+".prefix", "%s is already the prefix of routes[%d]", r.Prefix, j)
		} else {
			prefixes[r.Prefix] = i
		}
		r.validate(path, n, report)
	}
}

func (n Neighbor) validateTransport(path string, report func(path, format string, args ...any)) {
	if len(n.Password) > guard.MaxPassword {
		report(path+".password", "has %d octets, TCP-MD5 takes %d", len(n.Password), guard.MaxPassword)
	}
	if n.TTLSecurity < 0 || n.TTLSecurity > 254 {
		report(path+".ttl_security", "%d is not within 0 to 254", n.TTLSecurity)
	}
	if n.Multihop < 0 || n.Multihop > 255 {
		report(path+".multihop", "%d is not within 0 to 255", n.Multihop)
	}
	if n.TTLSecurity > 0 && n.Multihop > 0 {
		report(path+".multihop", "excludes ttl_security, which sends a TTL of 255 (RFC 5082 3)")
	}
	if s := n.Source; s.IsValid() {
		switch {
		case s.IsUnspecified() || s.IsMulticast() || s.Is4In6():
			report(path+".source", "%s is not a usable unicast address", s)
		case s.Is4() != n.Address.Is4():
			report(path+".source", "%s is not of the family of %s", s, addrText(n.Address))
		}
	}
}

func (r Route) validate(path string, n Neighbor, report func(path, format string, args ...any)) {
	p := r.Prefix
	switch {
	case !p.IsValid():
		report(path+".prefix", "missing or invalid")
	case p.Addr().Is4In6():
		report(path+".prefix", "%s is an IPv4-mapped IPv6 prefix: write it as IPv4", p)
	case p != p.Masked():
		report(path+".prefix", "%s has host bits set: %s is meant, perhaps", p, p.Masked())
	case p.Addr().IsMulticast():
		report(path+".prefix", "%s is multicast", p)
	}
	h := r.NextHop
	switch {
	case !h.IsValid() || h.IsUnspecified() || h.IsMulticast() || h.IsLoopback() || h.IsLinkLocalUnicast() || h.Is4In6():
		report(path+".next_hop", "%s is not an address that a router can forward to", addrText(h))
	case p.IsValid() && h.Is4() != p.Addr().Is4():
		report(path+".next_hop", "%s is not of the family of %s", h, p)
	case p.IsValid() && p.Contains(h):
		// The router would resolve the next hop through the route itself.
		report(path+".next_hop", "%s lies inside %s, which it is to reach", h, p)
	}
	switch {
	case r.Prepend < 0 || r.Prepend > maxPrepend:
		report(path+".prepend", "%d is not within 0 to %d", r.Prepend, maxPrepend)
	case r.Prepend > 0 && n.ASN == n.LocalASN:
		// RFC 4271 9.1.2: the router would see its own ASN and drop the route as a loop.
		report(path+".prepend", "impossible on a session within one AS: the router would take the route for a loop")
	}
	if r.LocalPref != nil && n.ASN != n.LocalASN {
		// RFC 4271 5.1.5: it must not be sent to another AS.
		report(path+".local_pref", "is for sessions within one AS only, and the router is of AS %d, not of %d", n.ASN, n.LocalASN)
	}
}

// endpoint is where the router listens.
func (n Neighbor) endpoint() netip.AddrPort {
	port := n.Port
	if port == 0 {
		port = bgpPort
	}
	return netip.AddrPortFrom(n.Address, port)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "nothing"
	}
	return a.String()
}
