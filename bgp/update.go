package bgp

import (
	"encoding/binary"
	"net/netip"
)

// parseUpdate returns the unicast prefixes that an UPDATE withdraws and
// announces, in both families (RFC 4271 4.3, RFC 4760 3 and 4). It is used on
// our own messages, to know what the router has been told.
func parseUpdate(msg []byte) (withdrawn, announced []netip.Prefix, err error) {
	b := msg[headerLen:]
	field, b, err := cut16(b)
	if err != nil {
		return nil, nil, err
	}
	if withdrawn, err = appendPrefixes(nil, field, 32); err != nil {
		return nil, nil, err
	}
	attributes, b, err := cut16(b)
	if err != nil {
		return nil, nil, err
	}
	if announced, err = appendPrefixes(nil, b, 32); err != nil {
		return nil, nil, err
	}
	for len(attributes) > 0 {
		var kind byte
		var value []byte
		if kind, value, attributes, err = cutAttribute(attributes); err != nil {
			return nil, nil, err
		}
		const (
			mpReach   = 14
			mpUnreach = 15
			unicast   = 1
		)
		if kind != mpReach && kind != mpUnreach {
			continue
		}
		if len(value) < 3 {
			return nil, nil, errTruncated
		}
		bits := map[uint16]int{1: 32, 2: 128}[binary.BigEndian.Uint16(value)]
		if bits == 0 || value[2] != unicast {
			continue
		}
		value = value[3:]
		if kind == mpUnreach {
			if withdrawn, err = appendPrefixes(withdrawn, value, bits); err != nil {
				return nil, nil, err
			}
			continue
		}
		// Next hop, behind its length, and a reserved octet.
		if len(value) < 1 || len(value) < 2+int(value[0]) {
			return nil, nil, errTruncated
		}
		if announced, err = appendPrefixes(announced, value[2+int(value[0]):], bits); err != nil {
			return nil, nil, err
		}
	}
	return withdrawn, announced, nil
}

// cut16 takes a field that stands behind its length in two octets off b.
func cut16(b []byte) (field, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, errTruncated
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, errTruncated
	}
	return b[2 : 2+n], b[2+n:], nil
}

// cutAttribute takes one path attribute off b (RFC 4271 4.3).
func cutAttribute(b []byte) (kind byte, value, rest []byte, err error) {
	const extendedLength = 0x10
	if len(b) < 3 {
		return 0, nil, nil, errTruncated
	}
	kind = b[1]
	if b[0]&extendedLength != 0 {
		value, rest, err = cut16(b[2:])
		return kind, value, rest, err
	}
	n := int(b[2])
	if len(b) < 3+n {
		return 0, nil, nil, errTruncated
	}
	return kind, b[3 : 3+n], b[3+n:], nil
}

// appendPrefixes reads prefixes, each a length in bits and as many octets as it needs.
func appendPrefixes(to []netip.Prefix, b []byte, maxBits int) ([]netip.Prefix, error) {
	for len(b) > 0 {
		bits := int(b[0])
		n := (bits + 7) / 8
		if bits > maxBits || len(b) < 1+n {
			return nil, errTruncated
		}
		var full [16]byte
		copy(full[:], b[1:1+n])
		addr := netip.AddrFrom16(full)
		if maxBits == 32 {
			addr = netip.AddrFrom4([4]byte(full[:4]))
		}
		// Bits beyond the length mean nothing (RFC 4271 4.3).
		to = append(to, netip.PrefixFrom(addr, bits).Masked())
		b = b[1+n:]
	}
	return to, nil
}
