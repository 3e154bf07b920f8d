package registry

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// wellKnown are the communities that have names (IANA's registry of BGP
// well-known communities).
var wellKnown = map[string]uint32{
	"graceful-shutdown": 0xffff0000, // RFC 8326
	"blackhole":         0xffff029a, // RFC 7999
	"no-export":         0xffffff01, // RFC 1997
	"no-advertise":      0xffffff02, // RFC 1997
}

// ParseCommunity reads a community as a configuration has it: the name of a
// well-known one, or "ASN:value", each 0 to 65535 in plain decimal digits, the
// ASN in the upper half (RFC 1997).
func ParseCommunity(s string) (uint32, bool) {
	if c, ok := wellKnown[s]; ok {
		return c, true
	}
	parts, ok := numbers(s, 2, 16)
	if !ok {
		return 0, false
	}
	return parts[0]<<16 | parts[1], true
}

// FormatCommunity writes a community as ParseCommunity reads it, by its name if
// it has one.
func FormatCommunity(c uint32) string {
	for name, known := range wellKnown {
		if c == known {
			return name
		}
	}
	return fmt.Sprintf("%d:%d", c>>16, c&0xffff)
}

// ParseLargeCommunity reads a large community as a configuration has it:
// "ASN:function:value", each 0 to 4294967295 in plain decimal digits (RFC 8092 5).
func ParseLargeCommunity(s string) ([3]uint32, bool) {
	parts, ok := numbers(s, 3, 32)
	if !ok {
		return [3]uint32{}, false
	}
	return [3]uint32(parts), true
}

// numbers reads so many numbers in plain decimal digits, of at most so many
// bits, with colons between.
func numbers(s string, count, bits int) ([]uint32, bool) {
	parts := strings.SplitN(s, ":", count+1)
	if len(parts) != count {
		return nil, false
	}
	out := make([]uint32, count)
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, false
		}
		out[i] = uint32(n)
	}
	return out, true
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
