package l4

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/sni"
)

const (
	testConnect = 2 * time.Second
	testIdle    = time.Minute
)

var (
	clientAddress = netip.MustParseAddrPort("203.0.113.7:40000")
	first         = netip.MustParseAddrPort("192.0.2.1:80")
	second        = netip.MustParseAddrPort("192.0.2.2:80")
)

// bench is a forwarder on a loop in memory.
type bench struct {
	t      *testing.T
	loop   *inmem.Loop
	f      *Forwarder
	l      *listener.Listener
	pool   *pool.Pool
	dialed []netip.AddrPort
	server *inmem.Peer // the last one connected
	dead   map[netip.AddrPort]bool
	log    *accesslog.Log // with logs
	out    *bytes.Buffer
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, loop: inmem.New(), dead: make(map[netip.AddrPort]bool)}
	quiet := slog.New(slog.DiscardHandler)
	b.pool = newPool("p", first, second)
	b.l = listener.New("front", &site.Site{Pool: b.pool, Stream: site.Stream{Idle: testIdle}})
	b.f = New(quiet, nil, []engine.Loop{b.loop})
	b.loop.Accept = func(address netip.AddrPort, p *inmem.Peer) error {
		b.dialed = append(b.dialed, address)
		if b.dead[address] {
			return inmem.ErrRefused
		}
		b.server = p
		return nil
	}
	return b
}

func newPool(name string, servers ...netip.AddrPort) *pool.Pool {
	p := pool.New(name, slog.New(slog.DiscardHandler), func() {})
	spec := pool.Spec{FailOpen: true}
	for i, a := range servers {
		spec.Servers = append(spec.Servers, pool.ServerSpec{Name: string(rune('a' + i)), Address: a, Weight: 1})
	}
	p.Update(spec)
	return p
}

func (b *bench) connect() *inmem.Peer {
	return b.loop.Connect(clientAddress, func(c engine.Conn) engine.Handler { return b.f.Accept(b.loop, c, b.l) })
}

// relayed is a connection whose both sides stand.
func (b *bench) relayed() (client, server *inmem.Peer) {
	b.t.Helper()
	client = b.connect()
	b.loop.Run()
	if b.server == nil {
		b.t.Fatal("no server was connected to")
	}
	return client, b.server
}

// ended checks the counts after the only connection's end.
func (b *bench) ended(failed uint64) {
	b.t.Helper()
	if n := b.l.Requests.Load(); n != 1 || b.l.Accepted.Load() != 1 {
		b.t.Errorf("%d accepted, %d ended, want 1 each", b.l.Accepted.Load(), n)
	}
	if n := b.l.Failed.Load(); n != failed {
		b.t.Errorf("%d failed, want %d", n, failed)
	}
	if b.l.Open.Load() != 0 || b.f.Open() != 0 {
		b.t.Errorf("%d and %d open, want none", b.l.Open.Load(), b.f.Open())
	}
	for _, m := range b.pool.Members() {
		if n := m.InFlight.Load(); n != 0 {
			b.t.Errorf("%d in flight at server %s, want none", n, m.Name)
		}
	}
	b.loop.Advance(2 * testIdle)
	if n := b.l.Requests.Load(); n != 1 {
		b.t.Error("a timer was left, and ended it again")
	}
}

func TestRelaysBothWaysAndHalfCloses(t *testing.T) {
	b := newBench(t)
	client := b.connect()
	client.Write("early ") // before there is a server
	b.loop.Run()
	server := b.server
	client.Write("question")
	client.CloseWrite()
	b.loop.Run()
	if got := server.Read(); got != "early question" || !server.EOF || server.Reset {
		t.Errorf("the server reads %q, end %v, reset %v", got, server.EOF, server.Reset)
	}
	if client.EOF {
		t.Error("the client's half-close ended its other half")
	}
	server.Write("answer")
	b.loop.Run()
	if got := client.Read(); got != "answer" || client.EOF {
		t.Errorf("the client reads %q, end %v", got, client.EOF)
	}
	if n := b.pool.Members()[0].InFlight.Load() + b.pool.Members()[1].InFlight.Load(); n != 1 {
		t.Errorf("%d in flight, want 1", n)
	}
	server.CloseWrite()
	b.loop.Run()
	if !client.EOF || client.Reset {
		t.Errorf("the client sees end %v, reset %v; want a clean end", client.EOF, client.Reset)
	}
	b.ended(0)
}

func TestWalksToTheNextServer(t *testing.T) {
	for name, fail := range map[string]func(*bench){
		"refused": func(b *bench) { b.dead[first], b.dead[second] = true, false },
		"silent": func(b *bench) {
			b.loop.Mute = true
			b.loop.Post(func() { b.loop.Mute = false })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			fail(b)
			client := b.connect()
			client.Write("hello")
			b.loop.Advance(testConnect + time.Second)
			if b.server == nil || b.server.Read() != "hello" {
				t.Fatalf("dialled %v, and nobody was reached", b.dialed)
			}
			client.Abort()
			b.loop.Run()
			b.ended(1)
		})
	}
}

func TestNobodyTakesTheConnection(t *testing.T) {
	b := newBench(t)
	b.dead[first], b.dead[second] = true, true
	client := b.connect()
	b.loop.Run()
	if !client.Reset || len(b.dialed) != 2 {
		t.Errorf("reset %v after dialling %v; want a reset after both", client.Reset, b.dialed)
	}
	b.ended(1)
}

func TestClientLeavesWhileConnecting(t *testing.T) {
	b := newBench(t)
	b.loop.Mute = true
	client := b.connect()
	client.Abort()
	b.loop.Run()
	b.ended(1)
	if len(b.dialed) != 0 {
		t.Errorf("dialled %v", b.dialed)
	}
}

// Neither end takes a stream that was broken off for a complete one.
func TestResetIsPassedOn(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		b := newBench(t)
		client, server := b.relayed()
		ends := map[string]*inmem.Peer{"client": client, "server": server}
		ends[who].Write("half of")
		b.loop.Run()
		ends[who].Abort()
		b.loop.Run()
		delete(ends, who)
		for other, p := range ends {
			if !p.Reset {
				t.Errorf("the %s reset, and the %s was not reset", who, other)
			}
		}
		b.ended(1)
	}
}

// A receiver that takes nothing stops the sender, and what is held is bounded.
func TestSlowReceiverHoldsTheSender(t *testing.T) {
	b := newBench(t)
	client, server := b.relayed()
	client.Limit(1000)
	sent := strings.Repeat("0123456789abcdef", 64<<10)
	server.Write(sent)
	server.CloseWrite()
	b.loop.Run()
	if n := client.Unsent(); n == 0 || n > 128<<10 {
		t.Errorf("%d bytes are held for the client, want some, and at most 128 KiB", n)
	}
	var got strings.Builder
	for got.Len() < len(sent) {
		n := got.Len()
		got.WriteString(client.Read())
		b.loop.Run()
		if got.Len() == n {
			t.Fatalf("it stalled after %d of %d bytes", n, len(sent))
		}
	}
	if got.String() != sent || !client.EOF {
		t.Error("what arrived is not what was sent, or has no end")
	}
	client.CloseWrite()
	b.loop.Run()
	b.ended(0)
}

// The end of both streams is not the end while something is pending.
func TestPendingBytesOutliveBothEnds(t *testing.T) {
	b := newBench(t)
	client, server := b.relayed()
	client.Limit(0)
	server.Write("the last words")
	server.CloseWrite()
	client.CloseWrite()
	b.loop.Run()
	if b.f.Open() != 1 {
		t.Fatal("the relay ended with bytes pending")
	}
	client.Limit(100)
	got := client.Read()
	b.loop.Run()
	if got += client.Read(); got != "the last words" || client.Reset {
		t.Errorf("the client reads %q, reset %v", got, client.Reset)
	}
	b.loop.Run()
	b.ended(0)
}

func TestIdleRelayIsCut(t *testing.T) {
	b := newBench(t)
	client, server := b.relayed()
	for range 5 { // one way is enough
		b.loop.Advance(testIdle * 3 / 4)
		server.Write("tick")
		b.loop.Run()
	}
	if client.Reset {
		t.Fatal("cut, and it was not idle")
	}
	b.loop.Advance(testIdle - time.Second)
	if client.Reset {
		t.Fatal("cut before the timeout")
	}
	b.loop.Advance(testIdle/4 + 2*time.Second)
	if !client.Reset || !server.Reset {
		t.Errorf("reset: client %v, server %v; want both", client.Reset, server.Reset)
	}
	b.ended(1)
}

// A receiver that takes a little from time to time is not idle.
func TestSlowReceiverIsNotIdle(t *testing.T) {
	b := newBench(t)
	client, server := b.relayed()
	client.Limit(10)
	server.Write(strings.Repeat("x", 60<<10))
	for range 12 {
		b.loop.Advance(testIdle / 2)
		client.Read()
		b.loop.Run()
	}
	if client.Reset {
		t.Error("cut, and it took something all the time")
	}
	b.loop.Advance(3 * testIdle)
	if !client.Reset {
		t.Error("it takes nothing any more, and was not cut")
	}
}

// said is what crypto/tls sends first.
func said(t *testing.T, name string) string {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
		_ = near.Close()
	}()
	defer func() { _ = far.Close() }()
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return string(b[:n])
}

// connectTLS connects to a listener of TLS, with pools by name.
func (b *bench) connectTLS(by map[string]*pool.Pool, otherwise *pool.Pool) *inmem.Peer {
	b.l.SetSite(&site.Site{Stream: site.Stream{Idle: testIdle, Log: true, Names: sni.NewNames(by, otherwise)}})
	return b.loop.Connect(clientAddress, func(c engine.Conn) engine.Handler { return b.f.Accept(b.loop, c, b.l) })
}

func TestTLSIsPassedOnByName(t *testing.T) {
	for _, name := range []string{"a.example", ""} {
		b := newBench(t)
		b.logs()
		by, otherwise := map[string]*pool.Pool{"A.example": b.pool}, (*pool.Pool)(nil)
		if name == "" {
			by, otherwise = map[string]*pool.Pool{"a.example": newPool("empty")}, b.pool
		}
		client := b.connectTLS(by, otherwise)
		hello := said(t, name)
		for i := range len(hello) {
			client.Write(hello[i : i+1])
			b.loop.Run()
			if i < len(hello)-1 && len(b.dialed) > 0 {
				t.Fatal("a server was dialled before the name was known")
			}
		}
		client.Write("and more")
		b.loop.Run()
		if got := b.server.Read(); got != hello+"and more" {
			t.Errorf("the server reads %d bytes, want the hello and more, unchanged", len(got))
		}
		b.server.Write("answer")
		b.loop.Run()
		if got := client.Read(); got != "answer" {
			t.Errorf("the client reads %q", got)
		}
		client.Abort()
		b.loop.Run()
		b.ended(1)
		line := b.lines()[0]
		if host, _ := line["host"].(string); host != name || line["protocol"] != "tls" || line["why"] != "client-gone" ||
			line["bytes_in"] != float64(len(hello)+len("and more")) || line["bytes_out"] != 6.0 {
			t.Errorf("logged %v", line)
		}
	}
}

func TestTLSRefusals(t *testing.T) {
	hello := said(t, "a.example")
	for name, row := range map[string]struct {
		say    string
		wait   time.Duration
		finish bool
		alert  string
		reset  bool
	}{
		"a name that nobody takes": {say: hello, alert: string(unrecognized)},
		"not TLS":                  {say: "GET / HTTP/1.1\r\n", reset: true},
		"silence":                  {wait: openingTimeout + time.Second, reset: true},
		"a hello that trickles":    {say: hello[:40], wait: openingTimeout + time.Second, reset: true},
		"a hello without an end":   {say: hello[:40], finish: true, reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			client := b.connectTLS(nil, nil)
			client.Write(row.say)
			if row.finish {
				client.CloseWrite()
			}
			b.loop.Advance(row.wait)
			if got := client.Read(); got != row.alert || client.Reset != row.reset || !client.EOF {
				t.Errorf("the client reads %q, reset %v, end %v; want %q, reset %v", got, client.Reset, client.EOF, row.alert, row.reset)
			}
			if len(b.dialed) > 0 {
				t.Errorf("dialled %v", b.dialed)
			}
			b.ended(1)
		})
	}
}
