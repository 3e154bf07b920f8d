package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
	"unsafe"
)

const (
	signature1 = "PROXY "
	// maxLine is the length of the longest line, its CRLF counted (section
	// 2.1).
	maxLine = 107
)

// parse1 reads "PROXY TCP4|TCP6 source destination port port CRLF" or
// "PROXY UNKNOWN ... CRLF" (section 2.1).
func parse1(b []byte) (Header, int, error) {
	if n := min(len(b), len(signature1)); string(b[:n]) != signature1[:n] {
		return Header{}, 0, ErrSignature
	}
	end := bytes.IndexAny(b[:min(len(b), maxLine)], "\r\n")
	switch {
	case end < 0 && len(b) < maxLine-1:
		return Header{}, 0, nil
	case end < 0 || end+2 > maxLine:
		return Header{}, 0, ErrTooLong
	case b[end] == '\n':
		return Header{}, 0, ErrLine
	case end+1 == len(b):
		return Header{}, 0, nil
	case b[end+1] != '\n':
		return Header{}, 0, ErrLine
	}
	h := Header{Version: 1}
	family, rest, more := bytes.Cut(b[len(signature1):end], []byte{' '})
	switch {
	case string(family) == "UNKNOWN":
		return h, end + 2, nil
	case string(family) != "TCP4" && string(family) != "TCP6":
		return Header{}, 0, ErrFamily
	}
	var fields [4][]byte
	for i := range fields {
		if !more {
			return Header{}, 0, ErrLine
		}
		fields[i], rest, more = bytes.Cut(rest, []byte{' '})
	}
	if more {
		return Header{}, 0, ErrLine
	}
	source, ok1 := parseAddress(fields[0], family[3] == '4')
	destination, ok2 := parseAddress(fields[1], family[3] == '4')
	if !ok1 || !ok2 {
		return Header{}, 0, ErrAddress
	}
	from, ok1 := parsePort(fields[2])
	to, ok2 := parsePort(fields[3])
	if !ok1 || !ok2 {
		return Header{}, 0, ErrPort
	}
	h.Source, h.Destination = netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to)
	return h, end + 2, nil
}

func parseAddress(b []byte, four bool) (netip.Addr, bool) {
	if len(b) == 0 || bytes.IndexByte(b, '%') >= 0 {
		return netip.Addr{}, false
	}
	// A string of more than 32 bytes would be allocated. An address keeps
	// nothing of it but a zone, and there is none.
	a, err := netip.ParseAddr(unsafe.String(&b[0], len(b)))
	return a, err == nil && a.Is4() == four
}

// parsePort takes 0 to 65535, without leading zeros.
func parsePort(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n <= 65535
}

// AppendV1 appends a version 1 header. Ends of different families both go as
// IPv6; if either is not valid the header says UNKNOWN.
func AppendV1(dst []byte, source, destination netip.AddrPort) []byte {
	dst = append(dst, signature1...)
	s, d, ok := addresses(source, destination)
	switch {
	case !ok:
		return append(dst, "UNKNOWN\r\n"...)
	case s.Addr().Is4():
		dst = append(dst, "TCP4 "...)
	default:
		dst = append(dst, "TCP6 "...)
	}
	dst = append(s.Addr().AppendTo(dst), ' ')
	dst = append(d.Addr().AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(s.Port()), 10), ' ')
	dst = strconv.AppendUint(dst, uint64(d.Port()), 10)
	return append(dst, '\r', '\n')
}
