package registry

import (
	"net/netip"
	"strconv"
	"strings"
)

// ParseCommunity reads a community as a configuration has it: "ASN:value",
// each 0 to 65535 in plain decimal digits, the ASN in the upper half
// (RFC 1997).
func ParseCommunity(s string) (uint32, bool) {
	asn, val, ok := strings.Cut(s, ":")
	if !ok {
		return 0, false
	}
	var c uint32
	for _, part := range []string{asn, val} {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return 0, false
		}
		c = c<<16 | uint32(n)
	}
	return c, true
}

// notUnicast says why an address cannot be one end of a connection, or "".
func notUnicast(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "must be an IPv4 or IPv6 address"
	case a.Zone() != "":
		return "must be an address without a zone: interfaces differ from node to node"
	case a.Is4In6():
		return "an IPv4-mapped IPv6 address: write it as IPv4"
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsMulticast():
		return "a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case a.Is6() && a.IsLinkLocalUnicast():
		return "a link-local address, which needs an interface: use a global or unique local one"
	}
	return ""
}

// notService says why an address cannot be that of a VIP, or "".
func notService(a netip.Addr) string {
	switch reason := notUnicast(a); {
	case reason != "":
		return reason
	case a.IsLoopback():
		return "a loopback address: no client can reach it"
	case a.IsLinkLocalUnicast():
		return "a link-local address, which routers do not forward (RFC 3927 7)"
	}
	return ""
}
