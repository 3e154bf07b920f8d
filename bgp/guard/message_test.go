package guard

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/iotest"
)

func TestReadMessage(t *testing.T) {
	keepalive := AppendMessage(nil, TypeKeepalive)
	header := func(change func([]byte)) []byte {
		b := AppendMessage(nil, TypeKeepalive)
		change(b)
		return b
	}
	for _, test := range []struct {
		name    string
		in      []byte
		err     error
		subcode uint8 // RFC 4271 6.1
	}{
		{"whole", keepalive, nil, 0},
		{"nothing", nil, io.EOF, 0},
		{"end within the header", keepalive[:7], io.ErrUnexpectedEOF, 0},
		{"end within the body", AppendMessage(nil, TypeOpen, make([]byte, 10)...)[:20], io.ErrUnexpectedEOF, 0},
		{"end right after the header", AppendMessage(nil, TypeOpen, make([]byte, 10)...)[:19], io.ErrUnexpectedEOF, 0},
		{"marker", header(func(b []byte) { b[15] = 0 }), ErrMarker, 1},
		{"too short for a header", header(func(b []byte) { b[17] = 18 }), ErrLength, 2},
		{"too long", header(func(b []byte) { b[16], b[17] = 0x10, 0x01 }), ErrLength, 2},
		{"KEEPALIVE with a body", header(func(b []byte) { b[17] = 20 }), ErrLength, 2},
		{"OPEN without its fields", AppendMessage(nil, TypeOpen, 4), ErrLength, 2},
		{"NOTIFICATION without a subcode", AppendMessage(nil, TypeNotification, 6), ErrLength, 2},
		{"UPDATE without its lengths", AppendMessage(nil, TypeUpdate, 0, 0, 0), ErrLength, 2},
		{"type 0", header(func(b []byte) { b[18] = 0 }), ErrType, 3},
		{"type 6", header(func(b []byte) { b[18] = 6 }), ErrType, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Octet by octet, as TCP may bring it.
			got, err := ReadMessage(iotest.OneByteReader(bytes.NewReader(test.in)), make([]byte, MaxMessage))
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err == nil && !bytes.Equal(got, test.in) {
				t.Errorf("got %x", got)
			}
			if subcode, _ := HeaderSubcode(err); subcode != test.subcode {
				t.Errorf("subcode %d, want %d", subcode, test.subcode)
			}
		})
	}
}

// openMessage is an OPEN of version 4 with the given capabilities.
func openMessage(asn uint16, holdTime uint16, capabilities ...byte) []byte {
	body := []byte{4, byte(asn >> 8), byte(asn), byte(holdTime >> 8), byte(holdTime), 10, 0, 0, 1}
	if len(capabilities) == 0 {
		return AppendMessage(nil, TypeOpen, append(body, 0)...)
	}
	body = append(body, byte(2+len(capabilities)), 2, byte(len(capabilities)))
	return AppendMessage(nil, TypeOpen, append(body, capabilities...)...)
}

func TestParseOpen(t *testing.T) {
	id := netip.MustParseAddr("10.0.0.1")
	for _, test := range []struct {
		name string
		msg  []byte
		want Open
		err  error
	}{
		{"bare: IPv4 alone, RFC 4760 8", openMessage(65000, 9), Open{Version: 4, ASN: 65000, HoldTime: 9, RouterID: id, IPv4: true, IPv6: false}, nil},
		{"four-octet ASN, RFC 6793", openMessage(23456, 9, 65, 4, 0, 1, 0, 0), Open{Version: 4, ASN: 65536, HoldTime: 9, RouterID: id, IPv4: true, IPv6: false}, nil},
		{"IPv6 alone", openMessage(65000, 9, 1, 4, 0, 2, 0, 1), Open{Version: 4, ASN: 65000, HoldTime: 9, RouterID: id, IPv4: false, IPv6: true}, nil},
		{"both families, among others", openMessage(65000, 9, 2, 0, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 1, 4, 0, 1, 0, 128), Open{Version: 4, ASN: 65000, HoldTime: 9, RouterID: id, IPv4: true, IPv6: true}, nil},
		{"extended lengths, RFC 9072", AppendMessage(nil, TypeOpen, 4, 0, 1, 0, 9, 10, 0, 0, 1, 255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 1, 0, 0), Open{Version: 4, ASN: 65536, HoldTime: 9, RouterID: id, IPv4: true}, nil},
		{"extended lengths that lie", AppendMessage(nil, TypeOpen, 4, 0, 1, 0, 9, 10, 0, 0, 1, 255, 255, 0, 9, 2, 0, 7, 65, 4, 0, 1, 0, 0), Open{}, ErrTruncated},
		{"capability beyond the end", openMessage(65000, 9, 65, 4, 0, 1), Open{}, ErrTruncated},
		{"parameters shorter than said", AppendMessage(nil, TypeOpen, 4, 0, 1, 0, 9, 10, 0, 0, 1, 5), Open{}, ErrTruncated},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseOpen(test.msg)
			got.shortASN, got.fourByte, got.refresh, got.families, got.other = 0, false, false, false, [4]byte{}
			if !errors.Is(err, test.err) || err == nil && got != test.want {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
		})
	}
}
