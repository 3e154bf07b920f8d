package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file knows as much of the message format of RFC 4271 4 as is needed to
// stand between GoBGP and a router: where messages begin and end, what OPEN
// and NOTIFICATION say, and which prefixes an UPDATE of ours carries.

// messageType is the type octet of RFC 4271 4.1.
type messageType uint8

const (
	typeOpen         messageType = 1
	typeUpdate       messageType = 2
	typeNotification messageType = 3
	typeKeepalive    messageType = 4
	typeRouteRefresh messageType = 5 // RFC 2918
)

const (
	headerLen  = 19
	maxMessage = 4096
)

// Errors of framing; each has its NOTIFICATION subcode (RFC 4271 6.1).
var (
	errMarker = errors.New("the message header's marker is not all ones: not BGP, or out of step")
	errLength = errors.New("the message header's length is out of bounds for its type")
	errType   = errors.New("the message header's type is unknown")
)

// errTruncated is a message whose inner lengths do not fit its outer one.
var errTruncated = errors.New("message is shorter than its fields say")

// readMessage reads one whole message into buf, which holds maxMessage bytes,
// and returns the part used. It returns io.EOF only between messages.
func readMessage(r io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:headerLen]); err != nil {
		return nil, err
	}
	n, err := checkHeader(buf[:headerLen])
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, buf[headerLen:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf[:n], nil
}

// checkHeader returns the length of the message that h begins (RFC 4271 4.1, 6.1).
func checkHeader(h []byte) (int, error) {
	for _, b := range h[:16] {
		if b != 0xff {
			return 0, errMarker
		}
	}
	n := int(binary.BigEndian.Uint16(h[16:18]))
	var least, most int
	switch messageType(h[18]) {
	case typeOpen:
		least, most = headerLen+10, maxMessage
	case typeUpdate:
		least, most = headerLen+4, maxMessage
	case typeNotification:
		least, most = headerLen+2, maxMessage
	case typeKeepalive:
		least, most = headerLen, headerLen
	case typeRouteRefresh:
		least, most = headerLen+4, maxMessage
	default:
		return 0, errType
	}
	if n < least || n > most {
		return 0, errLength
	}
	return n, nil
}

// headerSubcode is the NOTIFICATION subcode for an error of checkHeader.
func headerSubcode(err error) (uint8, bool) {
	switch {
	case errors.Is(err, errMarker):
		return 1, true
	case errors.Is(err, errLength):
		return 2, true
	case errors.Is(err, errType):
		return 3, true
	}
	return 0, false
}

func typeOf(msg []byte) messageType { return messageType(msg[18]) }

// appendMessage appends a message of type t with the given body.
func appendMessage(b []byte, t messageType, body ...byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(headerLen+len(body)))
	b = append(b, byte(t))
	return append(b, body...)
}

// open is what we look at of an OPEN message (RFC 4271 4.2).
type open struct {
	asn      uint32 // from the four-octet capability where there is one (RFC 6793)
	holdTime uint16 // seconds
	routerID netip.Addr
	// ipv4 and ipv6 say whether the unicast family is offered (RFC 4760 8);
	// without any such capability, IPv4 is.
	ipv4, ipv6 bool
}

func parseOpen(msg []byte) (open, error) {
	b := msg[headerLen:]
	if len(b) < 10 {
		return open{}, errTruncated
	}
	o := open{
		asn:      uint32(binary.BigEndian.Uint16(b[1:3])),
		holdTime: binary.BigEndian.Uint16(b[3:5]),
		routerID: netip.AddrFrom4([4]byte(b[5:9])),
	}
	families := false
	params := b[10:]
	if len(params) != int(b[9]) {
		// RFC 9072's extended form too, which no speaker sends unless it must.
		return o, errTruncated
	}
	for len(params) > 0 {
		if len(params) < 2 || len(params) < 2+int(params[1]) {
			return o, errTruncated
		}
		kind, value := params[0], params[2:2+int(params[1])]
		params = params[2+len(value):]
		const capabilities = 2 // RFC 5492
		if kind != capabilities {
			continue
		}
		for len(value) > 0 {
			if len(value) < 2 || len(value) < 2+int(value[1]) {
				return o, errTruncated
			}
			code, capability := value[0], value[2:2+int(value[1])]
			value = value[2+len(capability):]
			const (
				multiprotocol = 1
				fourOctetASN  = 65
			)
			switch {
			case code == fourOctetASN && len(capability) == 4:
				o.asn = binary.BigEndian.Uint32(capability)
			case code == multiprotocol && len(capability) == 4:
				families = true
				o.ipv4 = o.ipv4 || [4]byte(capability) == [4]byte{0, 1, 0, 1}
				o.ipv6 = o.ipv6 || [4]byte(capability) == [4]byte{0, 2, 0, 1}
			}
		}
	}
	o.ipv4 = o.ipv4 || !families
	return o, nil
}

// notification is a NOTIFICATION message (RFC 4271 4.5).
type notification struct {
	code, subcode uint8
	data          []byte
}

// Codes that we act on.
const (
	codeHeader      = 1
	codeOpen        = 2
	codeHoldExpired = 4
	codeCease       = 6

	openBadPeerAS      = 2
	ceaseAdminShutdown = 2
	ceaseAdminReset    = 4
)

func parseNotification(msg []byte) (notification, error) {
	b := msg[headerLen:]
	if len(b) < 2 {
		return notification{}, errTruncated
	}
	return notification{code: b[0], subcode: b[1], data: b[2:]}, nil
}

// String gives the notification in the words of the RFCs.
func (n notification) String() string {
	names := map[uint8]string{
		1: "message header error", 2: "OPEN message error", 3: "UPDATE message error",
		4: "hold timer expired", 5: "finite state machine error", 6: "cease", 7: "ROUTE-REFRESH message error",
	}
	subnames := map[[2]uint8]string{
		{1, 1}: "connection not synchronized", {1, 2}: "bad message length", {1, 3}: "bad message type",
		{2, 1}: "unsupported version number", {2, 2}: "bad peer AS", {2, 3}: "bad BGP identifier",
		{2, 4}: "unsupported optional parameter", {2, 6}: "unacceptable hold time", {2, 7}: "unsupported capability",
		{3, 1}: "malformed attribute list", {3, 2}: "unrecognized well-known attribute", {3, 3}: "missing well-known attribute",
		{3, 4}: "attribute flags error", {3, 5}: "attribute length error", {3, 6}: "invalid ORIGIN attribute",
		{3, 8}: "invalid NEXT_HOP attribute", {3, 9}: "optional attribute error", {3, 10}: "invalid network field", {3, 11}: "malformed AS_PATH",
		{5, 1}: "unexpected message in OpenSent", {5, 2}: "unexpected message in OpenConfirm", {5, 3}: "unexpected message in Established",
		// RFC 4486
		{6, 1}: "maximum number of prefixes reached", {6, 2}: "administrative shutdown", {6, 3}: "peer de-configured",
		{6, 4}: "administrative reset", {6, 5}: "connection rejected", {6, 6}: "other configuration change",
		{6, 7}: "connection collision resolution", {6, 8}: "out of resources", {6, 9}: "hard reset", {6, 10}: "BFD down",
	}
	text, ok := names[n.code]
	if !ok {
		text = fmt.Sprintf("error code %d", n.code)
	}
	if sub, ok := subnames[[2]uint8{n.code, n.subcode}]; ok {
		text += ", " + sub
	} else if n.subcode != 0 {
		text += fmt.Sprintf(", subcode %d", n.subcode)
	}
	if c := n.communication(); c != "" {
		text += fmt.Sprintf(" (%q)", c)
	}
	return text
}

// communication is the operator's text in an administrative shutdown or reset
// (RFC 9003), made safe to print; empty if there is none.
func (n notification) communication() string {
	if n.code != codeCease || n.subcode != ceaseAdminShutdown && n.subcode != ceaseAdminReset {
		return ""
	}
	if len(n.data) < 1 || len(n.data) < 1+int(n.data[0]) {
		return ""
	}
	text := n.data[1 : 1+int(n.data[0])]
	if !utf8.Valid(text) {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(text))
}
