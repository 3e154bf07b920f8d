package proxyproto

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"testing"

	reference "github.com/pires/go-proxyproto"
)

func seeds(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n", "PROXY TCP6 ::1 ::ffff:1.2.3.4 0 65535\r\nGET", "PROXY UNKNOWN a b\r\n", "PROXY UNKNOWN\r\r\n", "PROXY TCP6 ::1%a ::1 1 2\r\n",
		raw(0x21, 0x11, block4), raw(0x21, 0x22, block6+"\x02\x00\x01a"), raw(0x20, 0x11, "abc"), raw(0x21, 0x00, "\x04\x00\x00"),
		raw(0x21, 0x31, string(make([]byte, 216))), raw(0x21, 0x11, block4+"\x03\x00\x04abcd"),
	} {
		f.Add([]byte(s))
	}
	sum, err := AppendV2(nil, four, Extra{Authority: []byte("a"), Checksum: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sum)
}

// Whatever the bytes: no panic, nothing is read beyond the header, a verdict
// does not change with what comes behind, and what is read can be written and
// read again.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b[:len(b):len(b)])
		for i := range b {
			h, m, early := Parse(b[:i])
			switch {
			case m > 0 && (m != n || i < n):
				t.Fatalf("%d bytes of the first %d, and %d of all", m, i, n)
			case early != nil && err == nil:
				t.Fatalf("refused at %d bytes (%v), and later taken: %+v", i, early, h)
			case i < n && m != 0:
				t.Fatalf("taken before it was there: %d of %d", i, n)
			}
		}
		if err != nil {
			if _, ours := err.(Error); !ours || n != 0 {
				t.Fatalf("%d, %T", n, err)
			}
			return
		}
		if n == 0 {
			if len(b) >= fixedSize+MaxLength || len(b) >= maxLine && b[0] == 'P' {
				t.Fatalf("%d bytes, and more is asked for", len(b))
			}
			return
		}
		if h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("one end of two: %+v", h)
		}
		again := AppendV1(nil, h.Source, h.Destination)
		if h.Version == 2 {
			if again, err = AppendV2(nil, h, Extra{}); err != nil {
				t.Fatal(err)
			}
		}
		g, m, err := Parse(again)
		source, destination, _ := addresses(h.Source, h.Destination)
		if m != len(again) || err != nil || g.Source != source || g.Destination != destination || g.Local != h.Local {
			t.Fatalf("%+v was written as %q, which reads as %+v, %v", h, again, g, err)
		}
	})
}

// An independent reading, github.com/pires/go-proxyproto, agrees but for what
// differs says.
func FuzzAgreesWithReference(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err == nil && n == 0 {
			return // the reference cannot ask for more
		}
		r := bufio.NewReaderSize(bytes.NewReader(b), len(b)+16)
		theirs, theirErr := reference.Read(r)
		if differs(h, err, b) {
			return
		}
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("%q: %+v, %v; theirs %+v, %v", b, h, err, theirs, theirErr)
		}
		if err != nil {
			return
		}
		if left := r.Buffered(); left != len(b)-n {
			t.Fatalf("%q: %d bytes are left, theirs %d", b, len(b)-n, left)
		}
		if int(theirs.Version) != h.Version {
			t.Fatalf("%q: version %d, theirs %d", b, h.Version, theirs.Version)
		}
		// They give addresses of LOCAL, which are not to be used, and count
		// UNKNOWN as LOCAL.
		if theirs.Command.IsLocal() {
			if !h.Local && h.Version == 2 || h.Source.IsValid() {
				t.Fatalf("%q: %+v, theirs %+v", b, h, theirs)
			}
			return
		}
		source, sourceOK := addrPort(theirs.SourceAddr)
		destination, destinationOK := addrPort(theirs.DestinationAddr)
		if h.Local || h.Source.IsValid() != sourceOK || h.Destination.IsValid() != destinationOK ||
			unmapped(h.Source) != source || unmapped(h.Destination) != destination || h.Datagram != theirs.TransportProtocol.IsDatagram() {
			t.Fatalf("%q: %+v, theirs %+v", b, h, theirs)
		}
		tlvs, err := theirs.TLVs()
		if err != nil {
			t.Fatalf("%q: their TLVs: %v", b, err)
		}
		i := 0
		for typ, value := range h.TLVs.All() {
			if i >= len(tlvs) || byte(tlvs[i].Type) != byte(typ) || typ != NoOp && !bytes.Equal(tlvs[i].Value, value) {
				t.Fatalf("%q: TLV %d is %v %q, theirs %v", b, i, typ, value, tlvs)
			}
			i++
		}
		if i != len(tlvs) {
			t.Fatalf("%q: %d TLVs, theirs %d", b, i, len(tlvs))
		}
	})
}

// differs are the known differences: we take PROXY with UNSPEC, which section
// 2.2 leaves to the receiver; we check TLVs and checksums, which they leave to
// the caller; we refuse a CR within UNKNOWN's line; and we refuse what is wrong
// before its rest came.
func differs(h Header, err error, b []byte) bool {
	unspecified := err == nil && h.Version == 2 && !h.Local && b[13] == unspec
	return unspecified || err == ErrTLV || err == ErrChecksum || err == ErrLine && bytes.HasPrefix(b, []byte("PROXY UNKNOWN "))
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmapped(a.AddrPort()), true
	case *net.UDPAddr:
		return unmapped(a.AddrPort()), true
	}
	return netip.AddrPort{}, false
}

// unmapped hides the form of IPv4 addresses, which net.IP does not keep.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
