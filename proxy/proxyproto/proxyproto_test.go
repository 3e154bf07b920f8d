package proxyproto

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var comparing = cmp.Options{cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty()}

func ends(source, destination string) Header {
	return Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

func v1(h Header) Header { h.Version = 1; return h }
func v2(h Header) Header { h.Version = 2; return h }

// raw makes a version 2 header of its 13th and 14th byte and its block.
func raw(command, family byte, block string) string {
	return signature2 + string([]byte{command, family, byte(len(block) >> 8), byte(len(block))}) + block
}

const (
	block4 = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb" // 192.0.2.1:12345 to 198.51.100.2:443
	block6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x30\x39\x01\xbb"
)

var (
	four = ends("192.0.2.1:12345", "198.51.100.2:443")
	six  = ends("[2001:db8::1]:12345", "[2001:db8::2]:443")
)

func datagram(h Header) Header { h.Datagram = true; return h }

func tlvs(h Header, t string) Header { h.TLVs = TLVs(t); return h }

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want Header
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", v1(four)},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:DB8:0:0::2 12345 443\r\n", v1(six)},
		{"v1 IPv4 in IPv6", "PROXY TCP6 ::ffff:1.2.3.4 ::1 0 65535\r\n", v1(ends("[::ffff:1.2.3.4]:0", "[::1]:65535"))},
		{"v1 unknown", "PROXY UNKNOWN\r\n", v1(Header{})},
		{"v1 unknown, with what is to be ignored", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", v1(Header{})},
		{"v2 IPv4", raw(0x21, 0x11, block4), v2(four)},
		{"v2 IPv4, UDP", raw(0x21, 0x12, block4), v2(datagram(four))},
		{"v2 IPv6", raw(0x21, 0x21, block6), v2(six)},
		{"v2 IPv6, UDP", raw(0x21, 0x22, block6), v2(datagram(six))},
		{"v2 UNIX", raw(0x21, 0x31, strings.Repeat("a", 216)), v2(Header{})},
		{"v2 UNIX datagram, TLV", raw(0x21, 0x32, strings.Repeat("a", 216)+"\x05\x00\x01x"), v2(tlvs(datagram(Header{}), "\x05\x00\x01x"))},
		{"v2 unspecified", raw(0x21, 0x00, ""), v2(Header{})},
		{"v2 unspecified, TLV", raw(0x21, 0x00, "\x05\x00\x01x"), v2(tlvs(Header{}, "\x05\x00\x01x"))},
		{"v2 local", raw(0x20, 0x00, ""), v2(Header{Local: true})},
		{"v2 local, with a block to skip", raw(0x20, 0x11, block4+"\x05"), v2(Header{Local: true})},
		{"v2 local, with a block too short for the family", raw(0x20, 0x11, "abc"), v2(Header{Local: true})},
		{"v2 TLVs", raw(0x21, 0x11, block4+"\x02\x00\x03a.b\x04\x00\x00\xee\x00\x01x"), v2(tlvs(four, "\x02\x00\x03a.b\x04\x00\x00\xee\x00\x01x"))},
		{"v2 as long as may be", raw(0x21, 0x11, block4+"\x04\x0f\xf1"+strings.Repeat("a", 4081)), v2(tlvs(four, "\x04\x0f\xf1"+strings.Repeat("a", 4081)))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, behind := range []string{"", "GET / HTTP/1.1\r\n"} {
				got, n, err := Parse([]byte(tt.in + behind))
				if err != nil || n != len(tt.in) {
					t.Fatalf("Parse = %d, %v; want %d", n, err, len(tt.in))
				}
				if diff := cmp.Diff(tt.want, got, comparing); diff != "" {
					t.Errorf("Parse (-want +got):\n%s", diff)
				}
			}
			for i := range len(tt.in) {
				if got, n, err := Parse([]byte(tt.in[:i])); n != 0 || err != nil {
					t.Fatalf("of its first %d bytes: %+v, %d, %v; want more to be asked for", i, got, n, err)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want Error
	}{
		{"another protocol", "GET / HTTP/1.1\r\n", ErrSignature},
		{"another protocol of the same letter", "PUT / HTTP/1.1\r\n", ErrSignature},
		{"lower case", "proxy UNKNOWN\r\n", ErrSignature},
		{"longer word", "PROXYUNKNOWN\r\n", ErrSignature},
		{"tab", "PROXY\tUNKNOWN\r\n", ErrSignature},
		{"first byte of version 2 alone", "\r\nGET", ErrSignature},
		{"v1 family", "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", ErrFamily},
		{"v1 family in lower case", "PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", ErrFamily},
		{"v1 unknown, and more of the word", "PROXY UNKNOWNS\r\n", ErrFamily},
		{"v1 no family", "PROXY \r\n", ErrFamily},
		{"v1 two spaces", "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n", ErrFamily},
		{"v1 two spaces later", "PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n", ErrLine},
		{"v1 trailing space", "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", ErrLine},
		{"v1 a field too many", "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n", ErrLine},
		{"v1 a field too few", "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n", ErrLine},
		{"v1 family alone", "PROXY TCP4\r\n", ErrLine},
		{"v1 LF alone", "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", ErrLine},
		{"v1 CR alone", "PROXY UNKNOWN\rx", ErrLine},
		{"v1 CR within what is to be ignored", "PROXY UNKNOWN a\rb\r\n", ErrLine},
		{"v1 other family's address", "PROXY TCP4 ::1 ::1 1 2\r\n", ErrAddress},
		{"v1 other family's address, reversed", "PROXY TCP6 192.0.2.1 192.0.2.1 1 2\r\n", ErrAddress},
		{"v1 address with a leading zero", "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", ErrAddress},
		{"v1 address of three parts", "PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n", ErrAddress},
		{"v1 address out of range", "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n", ErrAddress},
		{"v1 address with a zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", ErrAddress},
		{"v1 second address", "PROXY TCP4 198.51.100.2 x 1 2\r\n", ErrAddress},
		{"v1 port with a leading zero", "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", ErrPort},
		{"v1 port out of range", "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", ErrPort},
		{"v1 port with a sign", "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", ErrPort},
		{"v1 port of six digits", "PROXY TCP4 192.0.2.1 198.51.100.2 000001 2\r\n", ErrPort},
		{"v1 108 bytes", "PROXY UNKNOWN " + strings.Repeat("a", 92) + "\r\n", ErrTooLong},
		{"v1 endless", "PROXY UNKNOWN " + strings.Repeat("a", 92), ErrTooLong},
		{"v2 signature wrong at its end", signature2[:11] + "x", ErrSignature},
		{"v2 version 1", raw(0x11, 0x11, block4), ErrVersion},
		{"v2 version 3", raw(0x31, 0x11, block4), ErrVersion},
		{"v2 command", raw(0x22, 0x11, block4), ErrVersion},
		{"v2 family", raw(0x21, 0x41, block4), ErrFamily},
		{"v2 family, with local", raw(0x20, 0x41, block4), ErrFamily},
		{"v2 transport", raw(0x21, 0x13, block4), ErrFamily},
		{"v2 family without a transport", raw(0x21, 0x10, block4), ErrFamily},
		{"v2 transport without a family", raw(0x21, 0x01, block4), ErrFamily},
		{"v2 too short for IPv4", raw(0x21, 0x11, block4[1:]), ErrTooShort},
		{"v2 too short for IPv6", raw(0x21, 0x21, block6[1:]), ErrTooShort},
		{"v2 too short for UNIX", raw(0x21, 0x31, block6), ErrTooShort},
		{"v2 too long", raw(0x21, 0x11, block4+strings.Repeat("a", 4085)), ErrTooLong},
		{"v2 too long, with local", raw(0x20, 0x00, strings.Repeat("a", 4097)), ErrTooLong},
		{"v2 too long, told before it came", raw(0x21, 0x11, block4+strings.Repeat("a", 4085))[:16], ErrTooLong},
		{"v2 too short, told before it came", raw(0x21, 0x11, block4[1:])[:16], ErrTooShort},
		{"v2 TLV cut in its head", raw(0x21, 0x11, block4+"\x05\x00"), ErrTLV},
		{"v2 TLV cut in its value", raw(0x21, 0x11, block4+"\x05\x00\x02x"), ErrTLV},
		{"v2 TLV behind a good one", raw(0x21, 0x11, block4+"\x05\x00\x01x\x05"), ErrTLV},
		{"v2 checksum of the wrong size", raw(0x21, 0x11, block4+"\x03\x00\x03abc"), ErrTLV},
		{"v2 two checksums", raw(0x21, 0x11, block4+"\x03\x00\x04abcd\x03\x00\x04abcd"), ErrTLV},
		{"v2 wrong checksum", raw(0x21, 0x11, block4+"\x03\x00\x04abcd"), ErrChecksum},
		{"v2 unique ID of 129 bytes", raw(0x21, 0x11, block4+"\x05\x00\x81"+strings.Repeat("a", 129)), ErrTLV},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, n, err := Parse([]byte(tt.in))
			if err != tt.want || n != 0 {
				t.Errorf("Parse = %d, %v; want %v", n, err, tt.want)
			}
			if diff := cmp.Diff(Header{}, got, comparing); diff != "" {
				t.Errorf("a header came with the error: %s", diff)
			}
		})
	}
}

func TestParseMax(t *testing.T) {
	in := []byte(raw(0x21, 0x11, block4))
	if _, n, err := ParseMax(in, len(block4)); n != len(in) || err != nil {
		t.Errorf("at the bound: %d, %v", n, err)
	}
	if _, n, err := ParseMax(in, len(block4)-1); n != 0 || err != ErrTooLong {
		t.Errorf("above the bound: %d, %v; want %v", n, err, ErrTooLong)
	}
}

// The checksum is CRC32C (RFC 3720 section 12.1) over the whole header, in
// which it counts as zero itself (section 2.2.3).
func TestChecksum(t *testing.T) {
	h, err := AppendV2(nil, four, Extra{Checksum: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := Parse(h); n != len(h) || err != nil {
		t.Fatalf("Parse = %d, %v", n, err)
	}
	for i := range h {
		for bit := range 8 {
			bad := bytes.Clone(h)
			bad[i] ^= 1 << bit
			got, n, err := Parse(bad)
			if err != nil || n == 0 || got.Local {
				continue
			}
			// A changed type hides the checksum itself; nothing else may pass.
			if _, there := got.TLVs.Get(CRC32C); there {
				t.Fatalf("bit %d of byte %d changed, and nobody noticed", bit, i)
			}
		}
	}
	if got, want := checksum([]byte("123456789\x00\x00\x00\x00"), 9), bitwise([]byte("123456789\x00\x00\x00\x00")); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}
	if got, want := bitwise([]byte("123456789")), uint32(0xe3069283); got != want {
		t.Errorf("CRC32C check value %#x, want %#x", got, want)
	}
}

// bitwise is CRC32C as it is defined.
func bitwise(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0x82f63b78*(c&1)
		}
	}
	return ^c
}

func TestAppend(t *testing.T) {
	mapped := ends("[::ffff:192.0.2.1]:12345", "[::ffff:198.51.100.2]:443")
	mixed := ends("192.0.2.1:12345", "[2001:db8::2]:443")
	zoned := ends("[fe80::1%eth0]:1", "[fe80::2%eth0]:2")
	tests := []struct {
		name   string
		h      Header
		v1, v2 string
	}{
		{"IPv4", four, "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", raw(0x21, 0x11, block4)},
		{"IPv6", six, "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n", raw(0x21, 0x21, block6)},
		{"IPv4 in IPv6 goes as IPv4", mapped, "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", raw(0x21, 0x11, block4)},
		{
			"mixed goes as IPv6", mixed, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 12345 443\r\n",
			raw(0x21, 0x21, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"+block6[16:]),
		},
		{
			"zones stay here", zoned, "PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
			raw(0x21, 0x21, "\xfe\x80"+strings.Repeat("\x00", 13)+"\x01\xfe\x80"+strings.Repeat("\x00", 13)+"\x02\x00\x01\x00\x02"),
		},
		{"unknown", Header{Source: four.Source}, "PROXY UNKNOWN\r\n", raw(0x21, 0x00, "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := AppendV1([]byte("x"), tt.h.Source, tt.h.Destination); string(got) != "x"+tt.v1 {
				t.Errorf("AppendV1 = %q, want %q", got[1:], tt.v1)
			}
			got, err := AppendV2([]byte("x"), tt.h, Extra{})
			if string(got) != "x"+tt.v2 || err != nil {
				t.Errorf("AppendV2 = %q, %v; want %q", got[1:], err, tt.v2)
			}
		})
	}
	local := four
	local.Local = true
	if got, err := AppendV2(nil, local, Extra{UniqueID: []byte("a")}); string(got) != raw(0x20, 0, "") || err != nil {
		t.Errorf("AppendV2 of local = %q, %v", got, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    Extra
		want Error
	}{
		{"unique ID of 129 bytes", Extra{UniqueID: make([]byte, 129)}, ErrTLV},
		{"authority that does not fit", Extra{Authority: make([]byte, 65535)}, ErrTooLong},
	} {
		if got, err := AppendV2([]byte("x"), four, tt.e); err != tt.want || string(got) != "x" {
			t.Errorf("%s: %d bytes, %v; want %v", tt.name, len(got), err, tt.want)
		}
	}
	if got, err := AppendV2(nil, six, Extra{Authority: make([]byte, 65535-36-9-4-128), UniqueID: make([]byte, 128), Checksum: true}); err != nil {
		t.Errorf("the longest authority: %v", err)
	} else if _, n, err := ParseMax(got, 65535); n != len(got) || err != nil {
		t.Errorf("the longest header: %d of %d, %v", n, len(got), err)
	}
}

func TestTLVs(t *testing.T) {
	h, err := AppendV2(nil, four, Extra{Authority: []byte("a.example"), UniqueID: []byte("id-1"), Checksum: true})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Parse(h)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := got.TLVs.Get(Authority); string(v) != "a.example" || !ok {
		t.Errorf("authority %q, %v", v, ok)
	}
	if v, ok := got.TLVs.Get(ALPN); v != nil || ok {
		t.Errorf("ALPN %q, %v", v, ok)
	}
	var types []Type
	for typ := range got.TLVs.All() {
		types = append(types, typ)
	}
	if diff := cmp.Diff([]Type{Authority, UniqueID, CRC32C}, types); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	// Made by hand, they may be cut short.
	if v, ok := TLVs("\x02\x00\x05a").Get(Authority); v != nil || ok {
		t.Errorf("of a TLV that is cut short: %q, %v", v, ok)
	}
}

func drawAddr(t *rapid.T, label string) netip.AddrPort {
	var a netip.Addr
	switch rapid.IntRange(0, 3).Draw(t, label+" kind") {
	case 0:
		return netip.AddrPort{}
	case 1:
		a = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, label)))
	case 2:
		a = netip.AddrFrom16(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, label))).As16())
	case 3:
		a = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)))
	}
	return netip.AddrPortFrom(a, rapid.Uint16().Draw(t, label+" port"))
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Header{Source: drawAddr(t, "source"), Destination: drawAddr(t, "destination"), Datagram: rapid.Bool().Draw(t, "datagram")}
		e := Extra{
			Authority: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "authority"),
			UniqueID:  rapid.SliceOfN(rapid.Byte(), 0, 128).Draw(t, "id"),
			Checksum:  rapid.Bool().Draw(t, "checksum"),
		}
		behind := rapid.SliceOf(rapid.Byte()).Draw(t, "behind")
		source, destination, ok := addresses(h.Source, h.Destination)

		one := AppendV1(nil, h.Source, h.Destination)
		got, n, err := Parse(append(one[:len(one):len(one)], behind...))
		if n != len(one) || err != nil {
			t.Fatalf("version 1: %d of %d, %v", n, len(one), err)
		}
		if diff := cmp.Diff(Header{Version: 1, Source: source, Destination: destination}, got, comparing); diff != "" {
			t.Fatalf("version 1 (-want +got):\n%s", diff)
		}

		two, err := AppendV2(nil, h, e)
		if err != nil {
			t.Fatal(err)
		}
		got, n, err = Parse(append(two[:len(two):len(two)], behind...))
		if n != len(two) || err != nil {
			t.Fatalf("version 2: %d of %d, %v", n, len(two), err)
		}
		authority, _ := got.TLVs.Get(Authority)
		id, _ := got.TLVs.Get(UniqueID)
		if _, sum := got.TLVs.Get(CRC32C); !bytes.Equal(authority, e.Authority) || !bytes.Equal(id, e.UniqueID) || sum != e.Checksum {
			t.Fatalf("TLVs %q of %+v", got.TLVs, e)
		}
		got.TLVs = nil
		if diff := cmp.Diff(Header{Version: 2, Source: source, Destination: destination, Datagram: h.Datagram && ok}, got, comparing); diff != "" {
			t.Fatalf("version 2 (-want +got):\n%s", diff)
		}
	})
}
