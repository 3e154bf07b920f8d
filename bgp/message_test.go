package bgp

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// openMessage is an OPEN of version 4 with the given capabilities.
func openMessage(asn uint16, holdTime uint16, capabilities ...byte) []byte {
	body := []byte{4, byte(asn >> 8), byte(asn), byte(holdTime >> 8), byte(holdTime), 10, 0, 0, 1}
	if len(capabilities) == 0 {
		return appendMessage(nil, typeOpen, append(body, 0)...)
	}
	body = append(body, byte(2+len(capabilities)), 2, byte(len(capabilities)))
	return appendMessage(nil, typeOpen, append(body, capabilities...)...)
}

func TestNotificationInWords(t *testing.T) {
	for _, test := range []struct {
		body []byte
		want string
	}{
		{[]byte{2, 2}, "OPEN message error, bad peer AS"},
		{[]byte{4, 0}, "hold timer expired"},
		{[]byte{6, 2}, "cease, administrative shutdown"},
		{[]byte("\x06\x02\x05maint"), `cease, administrative shutdown ("maint")`},
		{[]byte("\x06\x04\x03a\x1bb"), `cease, administrative reset ("ab")`}, // no escape sequences for the log
		{[]byte("\x06\x02\x09short"), "cease, administrative shutdown"},
		{[]byte("\x06\x02\x02\xff\xfe"), "cease, administrative shutdown"},
		{[]byte{6, 99}, "cease, subcode 99"},
		{[]byte{42, 7}, "error code 42, subcode 7"},
	} {
		n, err := parseNotification(appendMessage(nil, typeNotification, test.body...))
		if err != nil || n.String() != test.want {
			t.Errorf("%x: %q, %v; want %q", test.body, n, err, test.want)
		}
	}
}

func TestParseUpdate(t *testing.T) {
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, s := range texts {
			list = append(list, netip.MustParsePrefix(s))
		}
		return list
	}
	six := []byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1}
	mpReach := append([]byte{0x80, 14, 5 + 16 + 9, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 64}, six...)
	mpUnreach := append([]byte{0x90, 15, 0, 3 + 9, 0, 2, 1, 64}, six...)
	labelled := []byte{0x80, 15, 4, 0, 1, 4, 24}
	update := func(withdrawn, attributes, nlri []byte) []byte {
		body := append([]byte{0, byte(len(withdrawn))}, withdrawn...)
		body = append(append(body, 0, byte(len(attributes))), attributes...)
		return appendMessage(nil, typeUpdate, append(body, nlri...)...)
	}
	for _, test := range []struct {
		name                 string
		msg                  []byte
		withdrawn, announced []netip.Prefix
		err                  error
	}{
		{name: "end of RIB", msg: update(nil, nil, nil)},
		{name: "announcement", msg: update(nil, []byte{0x40, 1, 1, 0}, []byte{32, 198, 51, 100, 1, 0}), announced: prefixes("198.51.100.1/32", "0.0.0.0/0")},
		{name: "withdrawal, with stray bits", msg: update([]byte{20, 198, 51, 0xff}, nil, nil), withdrawn: prefixes("198.51.240.0/20")},
		{name: "IPv6 announcement", msg: update(nil, mpReach, nil), announced: prefixes("2001:db8:0:1::/64")},
		{name: "IPv6 withdrawal, extended length", msg: update(nil, mpUnreach, nil), withdrawn: prefixes("2001:db8:0:1::/64")},
		{name: "another address family is passed over", msg: update(nil, labelled, nil)},
		{name: "prefix too long", msg: update([]byte{33, 1, 2, 3, 4, 5}, nil, nil), err: errTruncated},
		{name: "prefix cut off", msg: update(nil, nil, []byte{32, 198}), err: errTruncated},
		{name: "attribute cut off", msg: update(nil, []byte{0x40, 1, 9, 0}, nil), err: errTruncated},
		{name: "next hop cut off", msg: update(nil, []byte{0x80, 14, 4, 0, 2, 1, 16}, nil), err: errTruncated},
	} {
		t.Run(test.name, func(t *testing.T) {
			withdrawn, announced, err := parseUpdate(test.msg)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			same := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
			if diff := cmp.Diff([][]netip.Prefix{test.withdrawn, test.announced}, [][]netip.Prefix{withdrawn, announced}, same); err == nil && diff != "" {
				t.Errorf("withdrawn, announced (-want +got):\n%s", diff)
			}
		})
	}
}

func TestObserver(t *testing.T) {
	p := params{asn: 65000, localASN: 65010, holdTime: 3e9}
	opened := openMessage(65000, 9, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1)
	keepalive := appendMessage(nil, typeKeepalive)
	update := appendMessage(nil, typeUpdate, 0, 0, 0, 0, 32, 198, 51, 100, 1)
	withdrawal := appendMessage(nil, typeUpdate, 0, 5, 32, 198, 51, 100, 1, 0, 0)

	o := newObserver(p)
	if o.received(opened); o.state != stateOpenConfirm {
		t.Errorf("after OPEN: %s", o.state)
	}
	if o.received(keepalive); o.state != stateEstablished {
		t.Errorf("after KEEPALIVE: %s", o.state)
	}
	prefix := netip.MustParsePrefix("198.51.100.1/32")
	o.sent(update)
	if !o.told[prefix] || o.announced[prefix] != 1 {
		t.Errorf("after our UPDATE: %v, %v", o.told, o.announced)
	}
	o.sent(withdrawal)
	if o.told[prefix] || o.withdrawn[prefix] != 1 {
		t.Errorf("after our withdrawal: %v, %v", o.told, o.withdrawn)
	}
	o.received(appendMessage(nil, typeNotification, 6, 3))
	o.end("the router closed the connection")
	if o.reason != "the router ended the session: cease, peer de-configured" {
		t.Errorf("reason: %q", o.reason)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(appendMessage(nil, typeKeepalive))
	f.Add(openMessage(65000, 9, 1, 4, 0, 1, 0, 1, 65, 4, 0, 1, 0, 0))
	f.Add(appendMessage(nil, typeUpdate, 0, 5, 32, 198, 51, 100, 1, 0, 0))
	f.Add(appendMessage(nil, typeUpdate, 0, 0, 0, 4, 0x40, 1, 1, 0, 32, 198, 51, 100, 1))
	f.Add(appendMessage(nil, typeNotification, append([]byte{6, 2, 5}, "maint"...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		o := newObserver(params{asn: 65000, localASN: 65010, holdTime: 3e9})
		for {
			msg, err := readMessage(r, make([]byte, maxMessage))
			if err != nil {
				return
			}
			if !bytes.Equal(msg, appendMessage(nil, typeOf(msg), msg[headerLen:]...)) {
				t.Fatalf("not as written: %x", msg)
			}
			o.received(msg)
			o.sent(msg)
			for p := range o.told {
				if p != p.Masked() {
					t.Fatalf("prefix %s", p)
				}
			}
		}
	})
}
