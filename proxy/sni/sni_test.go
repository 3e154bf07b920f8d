package sni

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// hello records what crypto/tls sends first.
func hello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	go func() {
		_ = tls.Client(near, config).Handshake()
		_ = near.Close()
	}()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(far, head); err != nil {
		t.Fatal(err)
	}
	b := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	if _, err := io.ReadFull(far, b[recordHeader:]); err != nil {
		t.Fatal(err)
	}
	return b
}

// split spreads the message of one record over several.
func split(record []byte, size int) []byte {
	var out []byte
	for m := record[recordHeader:]; len(m) > 0; {
		n := min(size, len(m))
		out = append(out, typeHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, m[:n]...)
		m = m[n:]
	}
	return out
}

// asked is what crypto/tls reads out of b: the name, and whether it took b for
// a ClientHello.
func asked(t testing.TB, b []byte) (name string, ok bool) {
	t.Helper()
	conn := &script{in: bytes.NewReader(b)}
	err := tls.Server(conn, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = h.ServerName, true
		return nil, errStop
	}}).HandshakeContext(context.Background())
	if err == nil {
		t.Fatal("a handshake without an answer succeeded")
	}
	return name, ok
}

var errStop = errors.New("that is enough")

// script is a connection of which all is known beforehand.
type script struct {
	net.Conn
	in *bytes.Reader
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return len(b), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// Every ClientHello that crypto/tls makes is read as crypto/tls reads it, at
// once, byte by byte, and spread over records.
func TestReadsWhatCryptoTLSReads(t *testing.T) {
	protocols := [][]string{nil, {"h2", "http/1.1"}}
	for _, name := range []string{"", "a.example", "WWW.Example.COM", "xn--bcher-kva.example", "under_score.example", "192.0.2.1", "2001:db8::1", "localhost"} {
		for _, versions := range [][2]uint16{{tls.VersionTLS10, tls.VersionTLS12}, {tls.VersionTLS12, tls.VersionTLS12}, {tls.VersionTLS12, tls.VersionTLS13}, {tls.VersionTLS13, tls.VersionTLS13}} {
			for _, next := range protocols {
				for _, curves := range [][]tls.CurveID{nil, {tls.X25519}} {
					b := hello(t, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: versions[0], MaxVersion: versions[1], NextProtos: next, CurvePreferences: curves})
					want, ok := asked(t, b)
					if !ok {
						t.Fatal("crypto/tls does not take its own ClientHello")
					}
					want = lower(want)
					state := Named
					if want == "" {
						state = Unnamed
					}
					for _, bytes := range [][]byte{b, split(b, 100), append(split(b, 200), "more"...)} {
						if got, s := Parse(bytes); got != want || s != state {
							t.Errorf("name %q: Parse = %q, %v; want %q, %v", name, got, s, want, state)
						}
					}
					for n := range b {
						if got, s := Parse(b[:n]); s != More {
							t.Fatalf("%d of %d bytes: %q, %v; want more", n, len(b), got, s)
						}
					}
				}
			}
		}
	}
}

func lower(s string) string { return string(bytes.ToLower([]byte(s))) }

func TestRefuses(t *testing.T) {
	good := hello(t, &tls.Config{ServerName: "a.example"})
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	at := bytes.Index(good, []byte("a.example"))
	for name, b := range map[string][]byte{
		"HTTP":                         []byte("GET / HTTP/1.1\r\n"),
		"an alert":                     {21, 3, 1, 0, 2, 2, 0},
		"SSL 2":                        {0x80, 0x2e, 1, 0, 2},
		"another version":              changed(1, 2),
		"an empty record":              {22, 3, 1, 0, 0},
		"a record that is too long":    {22, 3, 1, 0x40, 1},
		"a ServerHello":                {22, 3, 1, 0, 1, 2},
		"a message that is too long":   {22, 3, 1, 0, 4, 1, 0, 0x40, 0},
		"a message that is short":      changed(8, good[8]-1),
		"a name with a space":          changed(at, ' '),
		"a name with a NUL":            changed(at, 0),
		"a name that begins with .":    changed(at, '.'),
		"a name that ends with .":      changed(at+8, '.'),
		"a type of name that is none":  changed(at-3, 1),
		"a name that is too long":      changed(at-1, 200),
		"a list that is too long":      changed(at-4, 200),
		"a session ID of 33 bytes":     changed(43, 33),
		"too many records":             split(good, 2),
		"SSL 2's version in the hello": changed(9, 2),
	} {
		if got, s := Parse(b); s != NotTLS {
			t.Errorf("%s: Parse = %q, %v; want not TLS", name, got, s)
		}
	}
}

func TestAddressesAreNoNames(t *testing.T) {
	for _, name := range []string{"192.0.2.1", "1.2.3.4"} {
		if got, ok := hostName([]byte(name)); ok {
			t.Errorf("%q is taken for the name %q", name, got)
		}
	}
	for _, name := range []string{"1.2.3", "example.7", "a.1b"} {
		if _, ok := hostName([]byte(name)); !ok {
			t.Errorf("%q is not taken for a name", name)
		}
	}
}

func TestParseAllocatesTheNameAlone(t *testing.T) {
	b := hello(t, &tls.Config{ServerName: "a.example"})
	if n := testing.AllocsPerRun(100, func() { Parse(b) }); n > 1 {
		t.Errorf("%v allocations, want at most the name", n)
	}
	if n := testing.AllocsPerRun(100, func() { Parse(b[:len(b)-1]) }); n > 0 {
		t.Errorf("%v allocations of an incomplete message, want none", n)
	}
}

// FuzzParse: what is taken here crypto/tls reads alike, if it takes it; more
// bytes never change a verdict; how a message is spread over records doesn't
// matter.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"", "a.example", "WWW.Example.com"} {
		b := hello(f, &tls.Config{ServerName: name, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}})
		f.Add(b)
		f.Add(split(b, 60))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, state := Parse(b)
		if (name != "") != (state == Named) {
			t.Fatalf("Parse = %q, %v", name, state)
		}
		for _, n := range []int{len(b) / 3, len(b) / 2, max(len(b)-1, 0)} {
			early, s := Parse(b[:n])
			if s != More && (s != state || early != name) {
				t.Fatalf("%d bytes: %q, %v; all %d: %q, %v", n, early, s, len(b), name, state)
			}
		}
		if state == More || state == NotTLS {
			return
		}
		if want, ok := asked(t, b); ok && lower(want) != name {
			t.Fatalf("Parse = %q, crypto/tls reads %q", name, want)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	m := hello(b, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}})
	b.ReportAllocs()
	for b.Loop() {
		Parse(m)
	}
}
