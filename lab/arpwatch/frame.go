package arpwatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// MAC is a hardware address of Ethernet. It is comparable.
type MAC [6]byte

// String is the address as ip(8) writes it.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(text []byte) error {
	a, err := net.ParseMAC(string(text))
	if err != nil || len(a) != len(m) {
		return fmt.Errorf("%q is not a hardware address of Ethernet", text)
	}
	copy(m[:], a)
	return nil
}

// ParseMAC reads a hardware address.
func ParseMAC(text string) (MAC, error) {
	var m MAC
	err := m.UnmarshalText([]byte(text))
	return m, err
}

var broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Numbers of the protocols.
const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1 // RFC 826
	arpReply   = 2

	icmpv6           = 58  // next header
	icmpSolicit      = 135 // RFC 4861 section 4.3
	icmpAdvertise    = 136 // RFC 4861 section 4.4
	optionSourceLink = 1   // RFC 4861 section 4.6.1
	optionTargetLink = 2
	flagSolicited    = 1 << 6 // of the advertisement's first byte of flags
	flagOverride     = 1 << 5
	ndpHopLimit      = 255

	etherLength  = 14
	arpLength    = 28
	ipv6Length   = 40
	ndpLength    = 24 // of a solicitation or advertisement without options
	optionLength = 8
)

// ErrNotNeighbor is wrapped by every error about a frame that is no whole ARP
// packet, neighbor solicitation or advertisement.
var ErrNotNeighbor = errors.New("not of ARP or neighbor discovery")

// Message is what one frame says about who has an address.
type Message struct {
	// Claimed is the address that MAC says it has; not valid: none.
	Claimed netip.Addr
	MAC     MAC
	Kind    Kind
	// Asked is the address whose owner is asked for, and From who asks; not
	// valid: nothing is asked. From is unspecified in a probe (RFC 5227 section
	// 2.1.1, RFC 4862 section 5.4.2).
	Asked, From netip.Addr
}

// Kind is how an address is claimed.
type Kind string

// The kinds of claim.
const (
	Answer       Kind = "answer"       // to one who asked
	Announcement Kind = "announcement" // to everybody, unasked (RFC 5227 section 3, RFC 4861 section 7.2.6)
	Use          Kind = "use"          // as the sender of a question of its own, which neighbors also learn from
)

// Parse reads an Ethernet frame. Checksums are not looked at: between
// interfaces of one machine they are often left to be filled in. The error
// wraps ErrNotNeighbor.
func Parse(frame []byte) (Message, error) {
	if len(frame) < etherLength {
		return Message{}, fmt.Errorf("%w: %d bytes are no Ethernet frame", ErrNotNeighbor, len(frame))
	}
	to, from, rest := MAC(frame[0:6]), MAC(frame[6:12]), frame[etherLength:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return parseARP(to, rest)
	case etherIPv6:
		return parseNDP(from, rest)
	}
	return Message{}, fmt.Errorf("%w: another protocol", ErrNotNeighbor)
}

// parseARP reads an ARP packet for IPv4 on Ethernet (RFC 826).
func parseARP(to MAC, p []byte) (Message, error) {
	if len(p) < arpLength || binary.BigEndian.Uint16(p) != 1 || binary.BigEndian.Uint16(p[2:]) != 0x0800 || p[4] != 6 || p[5] != 4 {
		return Message{}, fmt.Errorf("%w: an ARP packet that is short, or not for IPv4 on Ethernet", ErrNotNeighbor)
	}
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	m := Message{MAC: MAC(p[8:14])}
	if !sender.IsUnspecified() {
		m.Claimed = sender
	}
	switch operation := binary.BigEndian.Uint16(p[6:]); {
	case sender == target:
		m.Kind = Announcement
	case operation == arpRequest:
		m.Asked, m.From = target, sender
		if m.Claimed.IsValid() {
			m.Kind = Use
		}
	case operation == arpReply && to == broadcast:
		m.Kind = Announcement
	case operation == arpReply:
		m.Kind = Answer
	default:
		return Message{}, fmt.Errorf("%w: ARP operation %d", ErrNotNeighbor, operation)
	}
	if !m.Claimed.IsValid() && !m.Asked.IsValid() {
		return Message{}, fmt.Errorf("%w: an ARP packet that says nothing", ErrNotNeighbor)
	}
	return m, nil
}

// parseNDP reads a neighbor solicitation or advertisement (RFC 4861).
func parseNDP(from MAC, p []byte) (Message, error) {
	if len(p) < ipv6Length+ndpLength || p[0]>>4 != 6 || p[6] != icmpv6 || p[7] != ndpHopLimit {
		return Message{}, fmt.Errorf("%w: no ICMPv6 message of this link", ErrNotNeighbor)
	}
	source, body := netip.AddrFrom16([16]byte(p[8:24])), p[ipv6Length:]
	if length := int(binary.BigEndian.Uint16(p[4:])); length < ndpLength || length > len(body) {
		return Message{}, fmt.Errorf("%w: a length of %d in %d bytes", ErrNotNeighbor, length, len(body))
	} else {
		body = body[:length]
	}
	target := netip.AddrFrom16([16]byte(body[8:24]))
	switch body[0] {
	case icmpSolicit:
		m := Message{Asked: target, From: source}
		if mac, ok := linkOption(body[ndpLength:], optionSourceLink); ok && !source.IsUnspecified() {
			m.Claimed, m.MAC, m.Kind = source, mac, Use
		}
		return m, nil
	case icmpAdvertise:
		m := Message{Claimed: target, MAC: from, Kind: Announcement}
		if mac, ok := linkOption(body[ndpLength:], optionTargetLink); ok {
			m.MAC = mac
		}
		if body[4]&flagSolicited != 0 {
			m.Kind = Answer
		}
		return m, nil
	}
	return Message{}, fmt.Errorf("%w: ICMPv6 type %d", ErrNotNeighbor, body[0])
}

// linkOption finds an option that carries a hardware address.
func linkOption(options []byte, kind byte) (MAC, bool) {
	for len(options) >= optionLength {
		length := 8 * int(options[1])
		if length == 0 || length > len(options) {
			break
		}
		if options[0] == kind && length == optionLength {
			return MAC(options[2:8]), true
		}
		options = options[length:]
	}
	return MAC{}, false
}

// Identity is who asks: an address of each family that is asked for, and the
// hardware address that they are answered at.
type Identity struct {
	MAC  MAC
	IPv4 netip.Addr
	IPv6 netip.Addr
}

// of is the identity's address of the family of another.
func (i Identity) of(a netip.Addr) netip.Addr {
	if a.Is4() {
		return i.IPv4
	}
	return i.IPv6
}

// Question is the frame by which one asks everybody on the segment who has an
// address: an ARP request, or a neighbor solicitation. It never claims the
// address, so nobody takes it for a conflict.
func Question(from Identity, a netip.Addr) []byte {
	if a.Is4() {
		return arpFrame(broadcast, arpRequest, from.MAC, from.IPv4, MAC{}, a)
	}
	b := a.As16()
	// RFC 4291 section 2.7.1 and RFC 2464 section 7: the group of those whose
	// addresses end alike.
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
	to := MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
	return ndpFrame(to, from.MAC, from.IPv6, group, icmpSolicit, 0, a, optionSourceLink)
}

// Reply is the frame that answers the question who has one of our own
// addresses, to whom asked it from there.
func Reply(own Identity, m Message, asker MAC) []byte {
	if m.Asked.Is4() {
		return arpFrame(asker, arpReply, own.MAC, m.Asked, asker, m.From)
	}
	return ndpFrame(asker, own.MAC, m.Asked, m.From, icmpAdvertise, flagSolicited|flagOverride, m.Asked, optionTargetLink)
}

func arpFrame(to MAC, operation uint16, sender MAC, senderIP netip.Addr, target MAC, targetIP netip.Addr) []byte {
	f := ether(to, sender, etherARP, arpLength)
	f = append(f, 0, 1, 8, 0, 6, 4)
	f = binary.BigEndian.AppendUint16(f, operation)
	f = append(append(f, sender[:]...), senderIP.AsSlice()...)
	return append(append(f, target[:]...), targetIP.AsSlice()...)
}

func ndpFrame(to, from MAC, source, destination netip.Addr, kind, flags byte, target netip.Addr, option byte) []byte {
	const length = ndpLength + optionLength
	f := ether(to, from, etherIPv6, ipv6Length+length)
	f = append(f, 0x60, 0, 0, 0, 0, length, icmpv6, ndpHopLimit)
	f = append(append(f, source.AsSlice()...), destination.AsSlice()...)
	f = append(f, kind, 0, 0, 0, flags, 0, 0, 0)
	f = append(f, target.AsSlice()...)
	f = append(append(f, option, 1), from[:]...)
	sum := checksum(f[etherLength:])
	binary.BigEndian.PutUint16(f[etherLength+ipv6Length+2:], sum)
	return f
}

func ether(to, from MAC, protocol uint16, length int) []byte {
	f := make([]byte, 0, etherLength+length)
	f = append(append(f, to[:]...), from[:]...)
	return binary.BigEndian.AppendUint16(f, protocol)
}

// checksum is that of the ICMPv6 message in an IPv6 packet, whose own field for
// it is zero (RFC 4443 section 2.3, RFC 8200 section 8.1).
func checksum(packet []byte) uint16 {
	body := packet[ipv6Length:]
	sum := uint32(len(body)) + icmpv6
	for _, part := range [][]byte{packet[8:ipv6Length], body} {
		for i := 0; i < len(part); i++ {
			sum += uint32(part[i]) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
