package l4

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/sni"
)

var (
	realClient = netip.MustParseAddrPort("198.51.100.9:50000")
	realTarget = netip.MustParseAddrPort("198.51.100.1:443")
)

// introduces makes b's listener want PROXY headers of its client.
func (b *bench) introduces(more func(*site.Site)) {
	s := &site.Site{
		Pool: b.pool, AcceptProxy: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		Stream: site.Stream{Idle: testIdle},
	}
	if more != nil {
		more(s)
	}
	b.l.SetSite(s)
}

func header(t *testing.T, version int, h proxyproto.Header) string {
	t.Helper()
	if version == 1 {
		return string(proxyproto.AppendV1(nil, h.Source, h.Destination))
	}
	v2, err := proxyproto.AppendV2(nil, h, proxyproto.Extra{Checksum: true})
	if err != nil {
		t.Fatal(err)
	}
	return string(v2)
}

// A header is taken off, however it arrives, and what it says goes on to a
// server that wants to know.
func TestProxyHeaderGoesThrough(t *testing.T) {
	told := proxyproto.Header{Source: realClient, Destination: realTarget}
	itself := proxyproto.Header{Source: clientAddress, Destination: netip.MustParseAddrPort("192.0.2.200:443")}
	for name, row := range map[string]struct {
		said string
		want proxyproto.Header
	}{
		"version 1": {header(t, 1, told), told},
		"version 2": {header(t, 2, told), told},
		"UNKNOWN":   {"PROXY UNKNOWN\r\n", itself},
		"LOCAL":     {header(t, 2, proxyproto.Header{Local: true}), itself},
	} {
		for version := 1; version <= 2; version++ {
			for _, pieces := range []bool{false, true} {
				b := newBench(t)
				b.introduces(nil)
				terms := pool.DefaultTerms()
				terms.SendProxy = version
				b.pool.SetTerms(&terms)
				client := b.connect()
				said := row.said + "hello"
				if pieces {
					for i := range len(said) {
						client.Write(said[i : i+1])
						b.loop.Run()
					}
				} else {
					client.Write(said)
				}
				b.loop.Run()
				if b.server == nil {
					t.Fatalf("%s: no server was dialled", name)
				}
				client.Write(" and more")
				b.loop.Run()
				got := []byte(b.server.Read())
				h, n, err := proxyproto.Parse(got)
				if err != nil || h.Version != version || h.Source != row.want.Source || h.Destination != row.want.Destination {
					t.Errorf("%s, sent on as %d: the server is told %+v, %v; want %+v", name, version, h, err, row.want)
				}
				if rest := string(got[n:]); rest != "hello and more" {
					t.Errorf("%s: then the server reads %q", name, rest)
				}
				client.CloseWrite()
				b.server.CloseWrite()
				b.loop.Run()
				b.ended(0)
			}
		}
	}
}

func TestProxyHeaderRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		say    string
		wait   time.Duration
		finish bool
		abort  bool
	}{
		"no header":                 {say: "GET / HTTP/1.1\r\n"},
		"a malformed one":           {say: "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n"},
		"one of datagrams":          {say: header(t, 2, proxyproto.Header{Source: realClient, Destination: realTarget, Datagram: true})},
		"silence":                   {wait: openingTimeout + time.Second},
		"a part of one":             {say: "PROXY TC", wait: openingTimeout + time.Second},
		"a part of one, and an end": {say: "PROXY TC", finish: true},
		"a reset":                   {abort: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.introduces(nil)
			client := b.connect()
			client.Write(row.say)
			if row.finish {
				client.CloseWrite()
			}
			if row.abort {
				client.Abort()
			}
			b.loop.Advance(row.wait)
			if !client.Reset || len(b.dialed) > 0 || b.l.Unintroduced.Load() != 1 {
				t.Errorf("reset %v, dialled %v, %d counted", client.Reset, b.dialed, b.l.Unintroduced.Load())
			}
			b.ended(1)
		})
	}
}

// A header of somebody who is not listed is what any bytes would be: nobody may
// say that he is another.
func TestProxyHeaderOfOthersIsPassedOn(t *testing.T) {
	b := newBench(t)
	b.introduces(func(s *site.Site) { s.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	client := b.connect()
	client.Write(header(t, 1, proxyproto.Header{Source: realClient, Destination: realTarget}))
	b.loop.Run()
	if got := b.server.Read(); !strings.HasPrefix(got, "PROXY TCP4 198.51.100.9") {
		t.Errorf("the server reads %q", got)
	}
	client.Abort()
	b.loop.Run()
	b.ended(1)
}

// Behind the header comes TLS, in one piece with it or not; the name goes on.
func TestProxyHeaderThenTLS(t *testing.T) {
	b := newBench(t)
	b.introduces(func(s *site.Site) { s.Stream.Names = sni.NewNames(map[string]*pool.Pool{"a.example": b.pool}, nil) })
	terms := pool.DefaultTerms()
	terms.SendProxy = 2
	b.pool.SetTerms(&terms)
	hello := said(t, "a.example")
	client := b.connect()
	client.Write(header(t, 2, proxyproto.Header{Source: realClient, Destination: realTarget}) + hello)
	b.loop.Run()
	if b.server == nil {
		t.Fatal("no server was dialled")
	}
	got := []byte(b.server.Read())
	h, n, err := proxyproto.Parse(got)
	if err != nil || h.Source != realClient || string(got[n:]) != hello {
		t.Errorf("the server is told %+v, %v, and then %d bytes; want %d", h, err, len(got)-n, len(hello))
	}
	name, ok := h.TLVs.Get(proxyproto.Authority)
	if !ok || string(name) != "a.example" {
		t.Errorf("the authority is %q", name)
	}
	client.Abort()
	b.loop.Run()
	b.ended(1)
}

// Limits count who is told, not who tells.
func TestClientLimits(t *testing.T) {
	for name, row := range map[string]struct {
		limits shed.ClientConfig
		why    string
	}{
		"connections": {shed.ClientConfig{Connections: 1}, "client-connections"},
		"rate":        {shed.ClientConfig{Rate: 0.001, Burst: 1}, "client-rate"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.logs()
			b.introduces(func(s *site.Site) { s.Clients, s.Stream.Log = shed.NewClientLimiter(row.limits, seed), true })
			another := netip.AddrPortFrom(realTarget.Addr().Next(), 1)
			var ends []string
			for _, from := range []netip.AddrPort{realClient, another, realClient} {
				client := b.connect()
				client.Write(header(t, 1, proxyproto.Header{Source: from, Destination: realTarget}))
				b.loop.Run()
				ends = append(ends, map[bool]string{true: "reset", false: "open"}[client.Reset])
			}
			if got := strings.Join(ends, " "); got != "open open reset" {
				t.Errorf("three connections, of two clients: %s", got)
			}
			lines := b.lines()
			if len(lines) != 1 || lines[0]["why"] != row.why || lines[0]["client"] != realClient.String() || lines[0]["proxied_by"] != "203.0.113.7" {
				t.Errorf("logged %v, want one line that says %s", lines, row.why)
			}
		})
	}
}

// What a client held is given back at the end.
func TestClientConnectionsAreGivenBack(t *testing.T) {
	b := newBench(t)
	limiter := shed.NewClientLimiter(shed.ClientConfig{Connections: 1}, seed)
	b.l.SetSite(&site.Site{Pool: b.pool, Clients: limiter, Stream: site.Stream{Idle: testIdle}})
	for range 3 {
		client := b.connect()
		b.loop.Run()
		if client.Reset {
			t.Fatal("refused, with none open")
		}
		client.Abort()
		b.loop.Run()
	}
}

// Who is hashed is the client that is told of, not who tells.
func TestSourceHashGoesByWhoIsTold(t *testing.T) {
	b := newBench(t)
	b.introduces(nil)
	spec := pool.Spec{FailOpen: true, Balance: balance.Config{Algorithm: balance.SourceHash}}
	for i := range 8 {
		spec.Servers = append(spec.Servers, pool.ServerSpec{
			Name: string(rune('a' + i)), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 80), Weight: 1,
		})
	}
	b.pool.Update(spec)
	of := make(map[netip.AddrPort]bool)
	for i := range 20 {
		source := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		b.dialed = nil
		for port := range 3 {
			client := b.connect()
			client.Write(header(t, 1, proxyproto.Header{Source: netip.AddrPortFrom(source, uint16(1000+port)), Destination: realTarget}))
			b.loop.Run()
			client.Abort() // a bound on each server's share would send others elsewhere
			b.loop.Run()
		}
		if len(b.dialed) != 3 || b.dialed[0] != b.dialed[1] || b.dialed[1] != b.dialed[2] {
			t.Errorf("%v came to %v", source, b.dialed)
		}
		of[b.dialed[0]] = true
	}
	if len(of) < 4 {
		t.Errorf("20 clients came to %d servers of 8", len(of))
	}
}
