// Package guard stands between a router and the BGP engine. It owns the TCP
// session: who may have one (TCP-MD5, TTL security), and how it comes about
// (dialled, or accepted for a passive neighbor). And it decides which of a
// router's messages the engine gets to see, which no UPDATE is among: see "The
// deaf speaker" in the design.
package guard

import (
	"encoding/binary"
	"errors"
	"io"
)

// Type is the type octet of a message (RFC 4271 4.1).
type Type uint8

// The types of messages that there are.
const (
	TypeOpen         Type = 1
	TypeUpdate       Type = 2
	TypeNotification Type = 3
	TypeKeepalive    Type = 4
	TypeRouteRefresh Type = 5 // RFC 2918
)

// HeaderLen and MaxMessage are the least and the most octets of a message (RFC
// 4271 4.1). Longer ones (RFC 8654) are not negotiated.
const (
	HeaderLen  = 19
	MaxMessage = 4096
)

// Errors of framing; each has its NOTIFICATION subcode (RFC 4271 6.1).
var (
	ErrMarker = errors.New("the message header's marker is not all ones: not BGP, or out of step")
	ErrLength = errors.New("the message header's length is out of bounds for its type")
	ErrType   = errors.New("the message header's type is unknown")
)

// ErrTruncated is for a message whose inner lengths do not fit its outer one.
var ErrTruncated = errors.New("message is shorter than its fields say")

// ReadMessage reads one whole message into buf, which holds MaxMessage octets,
// and returns the part used. It returns io.EOF only between messages.
func ReadMessage(r io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:HeaderLen]); err != nil {
		return nil, err
	}
	n, err := CheckHeader(buf[:HeaderLen])
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, buf[HeaderLen:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf[:n], nil
}

// CheckHeader returns the length of the message that h begins (RFC 4271 4.1, 6.1).
func CheckHeader(h []byte) (int, error) {
	for _, b := range h[:16] {
		if b != 0xff {
			return 0, ErrMarker
		}
	}
	n := int(binary.BigEndian.Uint16(h[16:18]))
	var least, most int
	switch TypeOf(h) {
	case TypeOpen:
		least, most = HeaderLen+10, MaxMessage
	case TypeUpdate:
		least, most = HeaderLen+4, MaxMessage
	case TypeNotification:
		least, most = HeaderLen+2, MaxMessage
	case TypeKeepalive:
		least, most = HeaderLen, HeaderLen
	case TypeRouteRefresh:
		least, most = HeaderLen+4, MaxMessage
	default:
		return 0, ErrType
	}
	if n < least || n > most {
		return 0, ErrLength
	}
	return n, nil
}

// HeaderSubcode is the NOTIFICATION subcode for an error of CheckHeader.
func HeaderSubcode(err error) (uint8, bool) {
	switch {
	case errors.Is(err, ErrMarker):
		return 1, true
	case errors.Is(err, ErrLength):
		return 2, true
	case errors.Is(err, ErrType):
		return 3, true
	}
	return 0, false
}

// TypeOf is the type of a message, or of its header.
func TypeOf(msg []byte) Type { return Type(msg[18]) }

// AppendMessage appends a message of type t with the given body.
func AppendMessage(b []byte, t Type, body ...byte) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(HeaderLen+len(body)))
	b = append(b, byte(t))
	return append(b, body...)
}
