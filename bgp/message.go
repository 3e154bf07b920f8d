package bgp

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// This file knows as much of the message format of RFC 4271 4 as is needed to
// say what goes on between GoBGP and a router: what a NOTIFICATION means, and
// which prefixes an UPDATE of ours carries. Framing and OPEN are guard's.

const (
	typeOpen         = guard.TypeOpen
	typeUpdate       = guard.TypeUpdate
	typeNotification = guard.TypeNotification
	typeKeepalive    = guard.TypeKeepalive

	headerLen  = guard.HeaderLen
	maxMessage = guard.MaxMessage
)

// errTruncated is a message whose inner lengths do not fit its outer one.
var errTruncated = guard.ErrTruncated

func readMessage(r io.Reader, buf []byte) ([]byte, error) { return guard.ReadMessage(r, buf) }

func typeOf(msg []byte) guard.Type { return guard.TypeOf(msg) }

func appendMessage(b []byte, t guard.Type, body ...byte) []byte {
	return guard.AppendMessage(b, t, body...)
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
