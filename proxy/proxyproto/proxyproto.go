// Package proxyproto is a codec of the PROXY protocol, versions 1 and 2
// (HAProxy's doc/proxy-protocol.txt; sections below are of that). It works on
// byte slices for event loops: no sockets, and no allocations but for the error
// of an address in a malformed line.
//
// It is strict, since a header says who a client is: what is malformed is
// refused, and the connection must then be closed, as section 2 asks for.
// Where the specification leaves a choice, or implementations differ:
//
//   - LOCAL, UNKNOWN, and the families UNSPEC and UNIX are taken, without
//     addresses: the connection's own are to be used.
//   - What may not be emitted is refused, with LOCAL too: families and
//     transports that are not listed, and their unlisted combinations, such as
//     TCP over UNSPEC.
//   - The block of a LOCAL header is skipped unread, whatever its length.
//   - TLVs must fill the rest of a header exactly, and a checksum must be right.
//   - A version 1 line may not hold CR or LF but at its end, not even after
//     UNKNOWN; numbers have no leading zeros; IPv6 addresses no zones.
//   - There is no telling whether a header will come: on a connection that
//     begins otherwise Parse fails. A receiver must know from its configuration
//     whether to expect one, and never guess (section 2).
package proxyproto

import "net/netip"

// Header is what a PROXY header says of a connection.
type Header struct {
	Version int // 1 or 2
	// Local is a connection that the sender made for itself, to check health
	// for example. Version 2 only.
	Local bool
	// Source is the client, Destination what it connected to. Both are invalid
	// if Local or not told: the connection's own are to be used. IPv4 in IPv6
	// form stays so.
	Source, Destination netip.AddrPort
	// Datagram is UDP instead of TCP. Version 2 only.
	Datagram bool
	// TLVs are a view of what was parsed, well-formed. Version 2 only.
	TLVs TLVs
}

// Error is why a header is refused. It is constant, and safe to log.
type Error string

func (e Error) Error() string { return string(e) }

// The errors.
const (
	ErrSignature Error = "no PROXY protocol signature"
	ErrLine      Error = "malformed line"
	ErrVersion   Error = "unknown version or command"
	ErrFamily    Error = "unknown address family or transport"
	ErrAddress   Error = "malformed address"
	ErrPort      Error = "malformed port"
	ErrTooLong   Error = "header is too long"
	ErrTooShort  Error = "header is too short for its addresses"
	ErrTLV       Error = "malformed TLV"
	ErrChecksum  Error = "wrong checksum"
)

// MaxLength is what Parse takes as the length of a version 2 header, its first
// 16 bytes not counted. Certificates of clients, the largest of TLVs, have 1 to
// 2 KiB.
const MaxLength = 4096

// Parse reads the header at the beginning of b, and returns its length; 0
// without an error when b does not hold all of it yet. It will never need more
// than 16+MaxLength bytes. Errors are of type Error.
func Parse(b []byte) (Header, int, error) { return ParseMax(b, MaxLength) }

// ParseMax is Parse with another bound than MaxLength, up to 65,535.
func ParseMax(b []byte, maxLength int) (Header, int, error) {
	switch {
	case len(b) == 0:
		return Header{}, 0, nil
	case b[0] == signature2[0]:
		return parse2(b, maxLength)
	}
	return parse1(b)
}

// addresses brings two ends of a connection to one family: IPv4 if both are,
// else IPv6. ok is false when an end is not known.
func addresses(source, destination netip.AddrPort) (s, d netip.AddrPort, ok bool) {
	if !source.IsValid() || !destination.IsValid() {
		return s, d, false
	}
	a, b := source.Addr().Unmap().WithZone(""), destination.Addr().Unmap().WithZone("")
	if a.Is4() != b.Is4() {
		a, b = netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16())
	}
	return netip.AddrPortFrom(a, source.Port()), netip.AddrPortFrom(b, destination.Port()), true
}
