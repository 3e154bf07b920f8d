package l7

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http2"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/site"
)

// introducing is a rig whose clients, all from 192.0.2.1, must begin with a PROXY
// header.
func introducing() *rig {
	r := newRig()
	r.serve(func(s *site.Site) { s.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	return r
}

func header2(t *testing.T, h proxyproto.Header, e proxyproto.Extra) string {
	t.Helper()
	b, err := proxyproto.AppendV2(nil, h, e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	told     = netip.MustParseAddrPort("203.0.113.7:4711")
	toldTo   = netip.MustParseAddrPort("198.51.100.1:443")
	told6    = netip.MustParseAddrPort("[2001:db8::7]:4711")
	told6To  = netip.MustParseAddrPort("[2001:db8::1]:443")
	toldLine = string(proxyproto.AppendV1(nil, told, toldTo))
)

func TestAPROXYHeaderSaysWhoTheClientIs(t *testing.T) {
	tests := []struct{ name, header, want string }{
		{"version 1", toldLine, "203.0.113.7"},
		{"version 1, IPv6", string(proxyproto.AppendV1(nil, told6, told6To)), "2001:db8::7"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "192.0.2.1"},
		{"version 2", header2(t, proxyproto.Header{Source: told, Destination: toldTo}, proxyproto.Extra{}), "203.0.113.7"},
		{"version 2, IPv6", header2(t, proxyproto.Header{Source: told6, Destination: told6To}, proxyproto.Extra{}), "2001:db8::7"},
		{"version 2, with TLVs", header2(t, proxyproto.Header{Source: told, Destination: toldTo}, proxyproto.Extra{Authority: []byte("x.example"), Checksum: true}), "203.0.113.7"},
		{"version 2, local", header2(t, proxyproto.Header{Local: true}, proxyproto.Extra{}), "192.0.2.1"},
		{"version 2, unspecified", header2(t, proxyproto.Header{}, proxyproto.Extra{}), "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for way, send := range map[string]func(*rig, func(string)){
				"at once": func(_ *rig, write func(string)) { write(tt.header + get) },
				"byte by byte": func(r *rig, write func(string)) {
					for _, c := range []byte(tt.header + get) {
						write(string([]byte{c}))
						r.loop.Run()
					}
				},
			} {
				r := introducing()
				c := r.client()
				send(r, c.Write)
				r.loop.Run()
				got := r.server(t, 0).Read()
				if !strings.Contains(got, "\r\nX-Forwarded-For: "+tt.want+"\r\nX-Real-IP: "+tt.want+"\r\n") {
					t.Errorf("%s: the server got %q, want %s as the client", way, got, tt.want)
				}
				if c, is := r.w.sessions[0].conn.(*introduced); is != (tt.want != "192.0.2.1") {
					t.Errorf("%s: it speaks for somebody else: %v", way, is)
				} else if is && c.Local() != toldTo && c.Local() != told6To {
					t.Errorf("%s: the client connected to %v", way, c.Local())
				}
				r.server(t, 0).Write(reply)
				r.loop.Run()
				c.Read()
				// The header is the connection's, not a request's.
				c.Write(get)
				r.loop.Run()
				if got := r.server(t, 0).Read(); !strings.Contains(got, "X-Real-IP: "+tt.want+"\r\n") {
					t.Errorf("%s: the second request came as %q", way, got)
				}
				r.server(t, 0).Write(reply)
				r.loop.Run()
				if len(r.w.introductions) != 0 || r.l.Open.Load() != 1 || r.l.Accepted.Load() != 1 {
					t.Errorf("%s: %d introductions, %d open, %d accepted", way, len(r.w.introductions), r.l.Open.Load(), r.l.Accepted.Load())
				}
				c.CloseWrite()
				r.loop.Run()
				if !c.EOF {
					t.Errorf("%s: the client's end did not end the connection", way)
				}
				r.settled(t)
			}
		})
	}
}

func TestConnectionsWithoutThePROXYHeaderTheyMustHave(t *testing.T) {
	long := header2(t, proxyproto.Header{Source: told, Destination: toldTo}, proxyproto.Extra{Authority: []byte(strings.Repeat("x", proxyproto.MaxLength))})
	datagram := header2(t, proxyproto.Header{Source: told, Destination: toldTo, Datagram: true}, proxyproto.Extra{})
	tests := []struct {
		name, sent string
		then       func(r *rig, c interface{ CloseWrite() })
	}{
		{"a request", get, nil},
		{"HTTP/2", http2.Preface, nil},
		{"TLS", "\x16\x03\x01\x02\x00\x01", nil},
		{"a malformed line", "PROXY TCP4 1.2.3.4\r\n" + get, nil},
		{"an endless line", "PROXY TCP4 " + strings.Repeat("1", 200), nil},
		{"a header that is too long", long + get, nil},
		{"only its length is too long", long[:16], nil},
		{"a datagram's", datagram + get, nil},
		{"a header that is wrong later", toldLine[:20] + "x" + toldLine[21:], nil},
		{"nothing", "", func(_ *rig, c interface{ CloseWrite() }) { c.CloseWrite() }},
		{"a part of a header", toldLine[:20], func(_ *rig, c interface{ CloseWrite() }) { c.CloseWrite() }},
		{"nothing, for long", "", func(r *rig, _ interface{ CloseWrite() }) { r.loop.Advance(site.DefaultHTTP().Header + time.Second) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := introducing()
			c := r.client()
			c.Write(tt.sent)
			r.loop.Run()
			if tt.then != nil {
				if c.EOF {
					t.Fatal("closed too early")
				}
				tt.then(r, c)
				r.loop.Run()
			}
			if got := c.Read(); got != "" || !c.EOF {
				t.Errorf("answer %q, closed %v; want closed without one", got, c.EOF)
			}
			if n := r.l.Unintroduced.Load(); n != 1 || r.l.Accepted.Load() != 1 {
				t.Errorf("%d counted as unintroduced of %d, want 1 of 1", n, r.l.Accepted.Load())
			}
			if len(r.servers) != 0 || len(r.w.introductions) != 0 {
				t.Errorf("%d connections to the server, %d introductions are left", len(r.servers), len(r.w.introductions))
			}
			r.settled(t)
		})
	}
}

// Each byte of a slow header does not wind the clock up.
func TestASlowPROXYHeaderIsCutOff(t *testing.T) {
	r := introducing()
	c := r.client()
	limit := site.DefaultHTTP().Header
	for i := range int(limit/time.Second) - 1 {
		c.Write(toldLine[i : i+1])
		r.loop.Advance(time.Second)
	}
	if c.EOF {
		t.Fatal("closed before the limit")
	}
	r.loop.Advance(time.Second + 50*time.Millisecond)
	if !c.EOF || r.l.Unintroduced.Load() != 1 {
		t.Errorf("closed %v, counted %d", c.EOF, r.l.Unintroduced.Load())
	}
	r.settled(t)
}

func TestAnIncompletePROXYHeaderHoldsLittle(t *testing.T) {
	r := introducing()
	c := r.client()
	whole := header2(t, proxyproto.Header{Source: told, Destination: toldTo}, proxyproto.Extra{Authority: []byte(strings.Repeat("x", proxyproto.MaxLength-40))})
	for _, b := range []byte(whole[:len(whole)-1]) {
		c.Write(string([]byte{b}))
		r.loop.Run()
	}
	if n := cap(r.w.introductions[0].in); n > 3*proxyproto.MaxLength {
		t.Errorf("%d bytes are held of a header of %d", n, len(whole))
	}
	c.Write(whole[len(whole)-1:] + get)
	r.loop.Run()
	if got := r.server(t, 0).Read(); !strings.Contains(got, "X-Real-IP: 203.0.113.7\r\n") {
		t.Errorf("the server got %q", got)
	}
}

// From a source that is not listed, it is no HTTP.
func TestAPROXYHeaderOfAStrangerIsMalformedHTTP(t *testing.T) {
	for name, header := range map[string]string{
		"version 1": toldLine,
		"version 2": header2(t, proxyproto.Header{Source: told, Destination: toldTo}, proxyproto.Extra{}),
	} {
		r := newRig()
		r.serve(func(s *site.Site) { s.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
		c := r.client()
		c.Write(header + get)
		r.loop.Run()
		if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !c.EOF || len(r.servers) != 0 {
			t.Errorf("%s: answer %q, closed %v", name, got, c.EOF)
		}
		if r.l.Unintroduced.Load() != 0 {
			t.Errorf("%s: counted as unintroduced", name)
		}
	}
}

func TestLimitsAndRoutesGoByTheToldAddress(t *testing.T) {
	r := introducing()
	r.serve(func(s *site.Site) {
		s.Clients = shed.NewClientLimiter(shed.ClientConfig{Connections: 2}, maphash.MakeSeed())
	})
	r.routes(t,
		site.Rule{Match: route.Rule{Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}, Respond: &site.Respond{Status: 403}},
		site.Rule{Respond: &site.Respond{Status: 204}})
	begin := func(source string) (status string, closed func() bool, abort func()) {
		c := r.client()
		c.Write(string(proxyproto.AppendV1(nil, netip.MustParseAddrPort(source), toldTo)) + get)
		r.loop.Run()
		status, _, _ = strings.Cut(strings.TrimPrefix(c.Read(), "HTTP/1.1 "), " ")
		return status, func() bool { return c.EOF }, func() { c.Abort(); r.loop.Run() }
	}
	one, _, _ := begin("203.0.113.7:1")
	two, _, leave := begin("203.0.113.7:2")
	three, closed, _ := begin("203.0.113.7:3")
	if one != "403" || two != "403" || three != "" || !closed() {
		t.Errorf("three connections of one client: %q, %q, %q, the last closed %v; want 403 twice, and no third", one, two, three, closed())
	}
	if other, _, _ := begin("203.0.113.8:1"); other != "403" {
		t.Errorf("another client by the same source: %q, want 403", other)
	}
	if elsewhere, _, _ := begin("198.51.100.9:1"); elsewhere != "204" {
		t.Errorf("a client of another network: %q, want 204", elsewhere)
	}
	leave()
	if again, _, _ := begin("203.0.113.7:4"); again != "403" {
		t.Errorf("after one has left: %q, want 403", again)
	}
	r.settled(t)
}

// Whoever sends X-Forwarded-For is believed for what the header says of them,
// not for who sent the header.
func TestForwardingFieldsAreJudgedByTheToldAddress(t *testing.T) {
	for trusted, want := range map[string]string{"192.0.2.0/24": "203.0.113.7", "203.0.113.0/24": "9.9.9.9"} {
		r := introducing()
		r.serve(func(s *site.Site) { s.HTTP.Trusted = []netip.Prefix{netip.MustParsePrefix(trusted)} })
		c := r.client()
		c.Write(toldLine + "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
		r.loop.Run()
		if got := r.server(t, 0).Read(); !strings.Contains(got, "X-Forwarded-For: 9.9.9.9, 203.0.113.7\r\nX-Real-IP: "+want+"\r\n") {
			t.Errorf("%s is trusted: the server got %q, want %s as the client", trusted, got, want)
		}
	}
}

func TestADrainDoesNotWaitForIntroductions(t *testing.T) {
	r := introducing()
	c := r.client()
	r.l.SetClosing(true)
	r.w.closeIdle(true, 0)
	if c.EOF {
		t.Error("closed at once: it was just made")
	}
	r.loop.Advance(2 * time.Second)
	r.w.closeIdle(true, 0)
	if !c.EOF || r.w.open.Load() != 0 {
		t.Errorf("closed %v, %d open", c.EOF, r.w.open.Load())
	}
	other := r.client()
	r.w.abortAll()
	if !other.EOF || r.w.open.Load() != 0 {
		t.Errorf("the end of a drain: closed %v, %d open", other.EOF, r.w.open.Load())
	}
}
