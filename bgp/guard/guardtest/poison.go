// Package guardtest has what a router should not send, for the tests of what
// stands between it and the BGP engine.
package guardtest

import "encoding/binary"

// Poison is one UPDATE that some parser has died of.
type Poison struct {
	Name    string // with the advisory that describes it
	Message []byte // whole, its header in order
}

// Attributes of an UPDATE that is in order (RFC 4271 4.3).
var (
	origin  = []byte{0x40, 1, 1, 0}
	asPath  = []byte{0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8}
	nextHop = []byte{0x40, 3, 4, 10, 0, 1, 1}
	nlri    = []byte{24, 203, 0, 113}
)

// Poisons are UPDATEs made after the advisories on GoBGP before v4.5, and some
// that RFC 7606 warns of.
func Poisons() []Poison {
	return []Poison{
		{"unknown well-known attribute (CVE-2026-41642)", update(nil, nlri, origin, asPath, nextHop, []byte{0x40, 99, 2, 1, 2})},
		{"unknown well-known attribute alone (CVE-2026-41642)", update(nil, nil, []byte{0x00, 200, 0})},
		{"malformed AS4_PATH before AS_PATH (CVE-2026-41643)", update(nil, nlri, origin, []byte{0xc0, 17, 3, 2, 1, 0}, asPath, nextHop)},
		{"AS4_PATH of confederations before a two-octet AS_PATH (CVE-2026-41643)", update(nil, nlri, []byte{0xc0, 17, 6, 3, 1, 0, 0, 0xfd, 0xe8}, []byte{0x40, 2, 4, 2, 1, 0x5b, 0xa0}, origin, nextHop)},
		{"AS4_PATH twice (CVE-2026-41643)", update(nil, nlri, []byte{0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe8}, []byte{0xc0, 17, 6, 2, 1, 0, 0, 0xfd, 0xe8}, origin, asPath, nextHop)},
		{"AS_PATH of no length (GHSA-frrj-87jh-2772)", update(nil, nlri, origin, []byte{0x40, 2, 0}, nextHop)},
		{"AS_PATH with a segment of no ASNs", update(nil, nlri, origin, []byte{0x40, 2, 2, 2, 0}, nextHop)},
		{"AS_PATH with a segment beyond its end", update(nil, nlri, origin, []byte{0x40, 2, 6, 2, 200, 0, 0, 0xfd, 0xe8}, nextHop)},
		{"attribute longer than all of them (CVE-2026-42285)", update(nil, nlri, origin, asPath, nextHop, []byte{0x80, 4, 200, 0})},
		{"attribute with an extended length beyond the end (CVE-2026-42285)", update(nil, nlri, origin, []byte{0x50, 2, 0xff, 0xff}, nextHop)},
		{"two octets left for an attribute (CVE-2026-42285)", update(nil, nlri, origin, asPath, nextHop, []byte{0x40, 1})},
		{"attributes longer than the message (CVE-2026-42285)", raw(0, 0, 0xff, 0xff, 0x40, 1, 1, 0)},
		{"ORIGIN that is not transitive", update(nil, nlri, []byte{0x00, 1, 1, 0}, asPath, nextHop)},
		{"NEXT_HOP of no length (CVE-2026-30405)", update(nil, nlri, origin, asPath, []byte{0x40, 3, 0})},
		{"NEXT_HOP of three octets (CVE-2026-30405)", update(nil, nlri, origin, asPath, []byte{0x40, 3, 3, 10, 0, 1})},
		{"NEXT_HOP of sixteen octets (CVE-2026-30405)", update(nil, nlri, origin, asPath, append([]byte{0x40, 3, 16}, make([]byte, 16)...))},
		{"IPv6 extended community cut short (CVE-2026-37461)", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 25, 3, 0, 2, 0x20})},
		{"IPv6 extended community of an unknown subtype, cut short (CVE-2026-37461)", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 25, 1, 0})},
		{"IPv6 extended community of 19 octets (CVE-2026-37461)", update(nil, nlri, origin, asPath, nextHop, append([]byte{0xc0, 25, 19}, make([]byte, 19)...))},
		{"extended community cut short", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 16, 7, 0, 2, 0, 0, 0, 0, 0})},
		{"withdrawn routes shorter than the first one (CVE-2026-37462)", raw(0, 1, 24, 203, 0, 113, 0, 0)},
		{"withdrawn routes of which the last is cut off (CVE-2026-37462)", raw(0, 6, 24, 203, 0, 113, 32, 10, 0, 0, 0, 0)},
		{"withdrawn routes longer than the message (CVE-2026-37462)", raw(0xff, 0xff, 24, 203, 0, 113)},
		{"NLRI cut off", update(nil, []byte{32, 203, 0}, origin, asPath, nextHop)},
		{"NLRI of 33 bits", update(nil, []byte{33, 203, 0, 113, 1, 128}, origin, asPath, nextHop)},
		{"NLRI of 255 bits", update(nil, []byte{255}, origin, asPath, nextHop)},
		{"MP_REACH_NLRI of two octets", update(nil, nil, origin, asPath, []byte{0x80, 14, 2, 0, 2})},
		{"MP_REACH_NLRI with a next hop beyond its end", update(nil, nil, origin, asPath, []byte{0x80, 14, 5, 0, 2, 1, 255, 0})},
		{"MP_REACH_NLRI without its last octet", update(nil, nil, origin, asPath, append([]byte{0x80, 14, 20, 0, 2, 1, 16}, make([]byte, 16)...))},
		{"MP_UNREACH_NLRI with a prefix cut off", update(nil, nil, []byte{0x80, 15, 5, 0, 2, 1, 128, 0x20})},
		{"MP_REACH_NLRI of flow specifications cut off", update(nil, nil, origin, asPath, []byte{0x80, 14, 7, 0, 1, 133, 0, 0, 0xf0, 1})},
		{"MP_REACH_NLRI of labelled routes without a label", update(nil, nil, origin, asPath, []byte{0x80, 14, 11, 0, 1, 4, 4, 10, 0, 0, 1, 0, 8, 1})},
		{"SRv6 L3 service cut off (CVE-2026-7734)", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 40, 4, 5, 0, 1, 0})},
		{"SRv6 L3 service with a sub-TLV beyond its end (CVE-2026-7734)", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 40, 8, 5, 0, 5, 0, 1, 0, 200, 0})},
		{"AGGREGATOR of seven octets", update(nil, nlri, origin, asPath, nextHop, append([]byte{0xc0, 7, 7}, make([]byte, 7)...))},
		{"large community of eleven octets", update(nil, nlri, origin, asPath, nextHop, append([]byte{0xc0, 32, 11}, make([]byte, 11)...))},
		{"tunnel encapsulation cut off", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 23, 5, 0, 8, 0, 200, 1})},
		{"BGP-LS attribute cut off", update(nil, nlri, origin, asPath, nextHop, []byte{0x80, 29, 3, 4, 0, 200})},
		{"PMSI tunnel cut off", update(nil, nlri, origin, asPath, nextHop, []byte{0xc0, 22, 3, 0, 6, 0})},
		{"4096 octets of ones", raw(ones()...)},
	}
}

func ones() []byte {
	b := make([]byte, 4096-headerLen)
	for i := range b {
		b[i] = 0xff
	}
	return b
}

const headerLen = 19

// update is an UPDATE with the given attributes.
func update(withdrawn, announced []byte, attributes ...[]byte) []byte {
	var all []byte
	for _, a := range attributes {
		all = append(all, a...)
	}
	body := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	body = append(body, withdrawn...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(all)))
	return raw(append(append(body, all...), announced...)...)
}

// raw is an UPDATE with any body.
func raw(body ...byte) []byte {
	var msg []byte
	for range 16 {
		msg = append(msg, 0xff)
	}
	msg = binary.BigEndian.AppendUint16(msg, uint16(headerLen+len(body)))
	return append(append(msg, 2), body...)
}
