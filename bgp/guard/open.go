package guard

import (
	"encoding/binary"
	"net/netip"
)

// Open is what there is to know of an OPEN message (RFC 4271 4.2).
type Open struct {
	Version  uint8
	ASN      uint32 // from the four-octet capability where there is one (RFC 6793)
	HoldTime uint16 // seconds
	RouterID netip.Addr
	// IPv4 and IPv6 say whether the unicast family is offered (RFC 4760 8);
	// without any such capability, IPv4 is.
	IPv4, IPv6 bool

	shortASN uint16  // as the two octets have it
	fourByte bool    // there is a four-octet capability
	refresh  bool    // RFC 2918
	families bool    // there is a capability of an address family
	other    [4]byte // the first address family that is neither
}

// Numbers of what is in an OPEN.
const (
	capabilities = 2 // of optional parameters: RFC 5492
	extended     = 255

	multiprotocol = 1 // of capabilities
	routeRefresh  = 2
	fourOctetASN  = 65
)

var ipv4Unicast, ipv6Unicast = [4]byte{0, 1, 0, 1}, [4]byte{0, 2, 0, 1}

// ParseOpen reads a whole OPEN message, which CheckHeader has taken.
// Capabilities that make no difference to us are passed over, as are those
// whose length is not theirs. An error wraps ErrTruncated.
func ParseOpen(msg []byte) (Open, error) {
	b := msg[HeaderLen:]
	if len(b) < 10 {
		return Open{}, ErrTruncated
	}
	o := Open{
		Version:  b[0],
		shortASN: binary.BigEndian.Uint16(b[1:3]),
		HoldTime: binary.BigEndian.Uint16(b[3:5]),
		RouterID: netip.AddrFrom4([4]byte(b[5:9])),
	}
	o.ASN = uint32(o.shortASN)
	said, params, width := int(b[9]), b[10:], 1
	if len(params) >= 3 && said != 0 && params[0] == extended {
		// RFC 9072 2: the lengths are of two octets.
		said, params, width = int(binary.BigEndian.Uint16(params[1:])), params[3:], 2
	}
	if len(params) != said {
		return o, ErrTruncated
	}
	for len(params) > 0 {
		kind, value, rest, err := cutField(params, width)
		if err != nil {
			return o, err
		}
		params = rest
		if kind != capabilities {
			continue
		}
		for len(value) > 0 {
			code, capability, rest, err := cutField(value, 1)
			if err != nil {
				return o, err
			}
			value = rest
			o.note(code, capability)
		}
	}
	o.IPv4 = o.IPv4 || !o.families
	return o, nil
}

// cutField takes a field off b: a kind, a length of so many octets, a value.
func cutField(b []byte, width int) (kind byte, value, rest []byte, err error) {
	if len(b) < 1+width {
		return 0, nil, nil, ErrTruncated
	}
	n := int(b[1])
	if width == 2 {
		n = int(binary.BigEndian.Uint16(b[1:]))
	}
	if len(b) < 1+width+n {
		return 0, nil, nil, ErrTruncated
	}
	return b[0], b[1+width : 1+width+n], b[1+width+n:], nil
}

func (o *Open) note(code byte, capability []byte) {
	switch {
	case code == fourOctetASN && len(capability) == 4:
		o.ASN, o.fourByte = binary.BigEndian.Uint32(capability), true
	case code == routeRefresh && len(capability) == 0:
		o.refresh = true
	case code == multiprotocol && len(capability) == 4:
		o.families = true
		switch family := [4]byte(capability); family {
		case ipv4Unicast:
			o.IPv4 = true
		case ipv6Unicast:
			o.IPv6 = true
		default:
			if o.other == [4]byte{} {
				o.other = family
			}
		}
	}
}

// message is an OPEN that says what o does, and nothing more: what the engine
// is given in place of the router's own, so that no capability which we have no
// use for reaches a parser.
func (o Open) message() []byte {
	var c []byte
	family := func(f [4]byte) { c = append(append(c, multiprotocol, 4), f[:]...) }
	if o.IPv4 && o.families {
		family(ipv4Unicast)
	}
	if o.IPv6 {
		family(ipv6Unicast)
	}
	if o.families && !o.IPv4 && !o.IPv6 {
		family(o.other) // with none at all, IPv4 would be meant
	}
	if o.refresh {
		c = append(c, routeRefresh, 0)
	}
	if o.fourByte {
		c = binary.BigEndian.AppendUint32(append(c, fourOctetASN, 4), o.ASN)
	}
	body := append([]byte{o.Version}, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(body[1:], o.shortASN)
	binary.BigEndian.PutUint16(body[3:], o.HoldTime)
	id := o.RouterID.As4()
	body = append(body, id[:]...)
	if len(c) == 0 {
		return AppendMessage(nil, TypeOpen, append(body, 0)...)
	}
	body = append(body, byte(2+len(c)), capabilities, byte(len(c)))
	return AppendMessage(nil, TypeOpen, append(body, c...)...)
}
