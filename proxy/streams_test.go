package proxy

import (
	"bytes"
	"context"
	cryptotls "crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// eachEngine runs a test on each engine that works here.
func eachEngine(t *testing.T, test func(t *testing.T, options Options)) {
	proxytest.EachEngine(t, func(t *testing.T, kind choice.Kind) { test(t, Options{Engine: kind}) })
}

// datagramsOn answers each datagram with a name and the datagram.
func datagramsOn(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	at, _ := proxytest.UDP(t, anyPort.String(), name)
	return at
}

// flowTo is a client of UDP, which takes answers from the address alone that it
// asks.
func flowTo(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func askFlow(t *testing.T, c net.Conn, question string) string {
	t.Helper()
	if _, err := io.WriteString(c, question); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err != nil {
		t.Fatalf("waiting for the answer to %q: %v", question, err)
	}
	return string(b[:n])
}

func TestStreamsOnBothEngines(t *testing.T) {
	eachEngine(t, func(t *testing.T, options Options) {
		p := startWith(t, options, oneListener(TCP, Server{Name: "a", Address: proxytest.TCP(t, func(c *net.TCPConn) {
			b, _ := io.ReadAll(c) // until the client's half-close
			_, _ = fmt.Fprintf(c, "got %d bytes", len(b))
		}), Weight: 1}))
		var clients sync.WaitGroup
		for range 20 {
			c := dial(t, listening(p))
			clients.Go(func() {
				if _, err := c.Write(make([]byte, 3<<20)); err != nil {
					t.Error(err)
				}
				_ = c.CloseWrite()
				if b, err := io.ReadAll(c); err != nil || string(b) != "got 3145728 bytes" {
					t.Errorf("answer after half-close = %q, %v", b, err)
				}
			})
		}
		clients.Wait()
		proxytest.Eventually(t, "all ended", func() bool {
			st := p.Status()
			return st.Connections == 0 && st.Listeners[0].Requests == 20 && st.Listeners[0].Failed == 0 && st.Pools[0].Servers[0].InFlight == 0
		})
	})
}

// tlsServer answers each connection with a name, by TLS of its own.
func tlsServer(t *testing.T, name string) (address netip.AddrPort, certificate []byte) {
	t.Helper()
	own := selfSigned(t, name, name+".example", time.Hour)
	pair, err := cryptotls.X509KeyPair(own.Chain, own.Key)
	if err != nil {
		t.Fatal(err)
	}
	return proxytest.TCP(t, func(c *net.TCPConn) {
		s := cryptotls.Server(c, &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}})
		_, _ = io.WriteString(s, name)
		_ = s.Close()
	}), own.Chain
}

func TestTLSPassthroughByServerName(t *testing.T) {
	eachEngine(t, func(t *testing.T, options Options) {
		config := Config{Listeners: []Listener{{
			Name: "front", Addresses: []netip.AddrPort{anyPort}, Protocol: TLS,
			ServerNames: []ServerName{{[]string{"A.example"}, "a"}, {[]string{"*.b.example", "b.example"}, "b"}},
		}}}
		for _, name := range []string{"a", "b", "c"} {
			address, _ := tlsServer(t, name)
			config.Pools = append(config.Pools, Pool{Name: name, Servers: []Server{{Name: name, Address: address, Weight: 1}}})
		}
		p := startWith(t, options, config)
		askFor := func(name string) (string, error) {
			c, err := cryptotls.Dial("tcp", listening(p), &cryptotls.Config{ServerName: name, InsecureSkipVerify: true})
			if err != nil {
				return "", err
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(patience))
			b, err := io.ReadAll(c)
			if cn := c.ConnectionState().PeerCertificates[0].DNSNames[0]; cn != string(b)+".example" {
				t.Errorf("the certificate is of %s, and %q answers", cn, b)
			}
			return string(b), err
		}
		for name, want := range map[string]string{"a.example": "a", "x.y.b.example": "b", "b.example": "b"} {
			if got, err := askFor(name); got != want || err != nil {
				t.Errorf("asked for %s: %q, %v; want %q", name, got, err, want)
			}
		}
		for _, name := range []string{"nobody.example", ""} {
			if _, err := askFor(name); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("asked for %q: %v, want the alert unrecognized_name", name, err)
			}
		}
		// What no name takes has a pool from now on.
		config.Listeners[0].Pool = "c"
		if err := p.Apply(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"nobody.example", ""} {
			if got, err := askFor(name); got != "c" || err != nil {
				t.Errorf("asked for %q: %q, %v; want c", name, got, err)
			}
		}
	})
}

// A client speaks in clear, and its server TLS; who is not whom he should be is
// not spoken to.
func TestTCPWithTLSToServers(t *testing.T) {
	eachEngine(t, func(t *testing.T, options Options) {
		address, ca := tlsServer(t, "a")
		config := oneListener(TCP, Server{Name: "a", Address: address, Weight: 1})
		config.Pools[0].TLS = &tls.ClientConfig{ServerName: "a.example", CA: ca}
		p := startWith(t, options, config)
		for range 3 {
			if got := ask(t, listening(p)); got != "a" {
				t.Errorf("answer %q", got)
			}
		}
		other := oneListener(TCP, config.Pools[0].Servers...)
		other.Pools[0].TLS = &tls.ClientConfig{ServerName: "b.example", CA: ca}
		if err := p.Apply(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		wantReset(t, "with a server of another name", listening(p), "")
	})
}

// udpAndTCP is a port that is free for both.
func udpAndTCP(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 20 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		a := ln.Addr().(*net.TCPAddr).AddrPort()
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
		_ = ln.Close()
		if err == nil {
			_ = c.Close()
			return a
		}
	}
	t.Fatal("no port is free for both")
	return netip.AddrPort{}
}

func TestUDPBesideTCPThroughChanges(t *testing.T) {
	at := udpAndTCP(t)
	config := Config{
		Listeners: []Listener{
			{Name: "dns", Addresses: []netip.AddrPort{at}, Protocol: UDP, Pool: "old"},
			{Name: "dns-tcp", Addresses: []netip.AddrPort{at}, Protocol: TCP, Pool: "tcp"},
		},
		Pools: []Pool{
			{Name: "old", Servers: []Server{{Name: "1", Address: datagramsOn(t, "1"), Weight: 1}}},
			{Name: "tcp", Servers: []Server{{Name: "t", Address: proxytest.TCP(t, naming("tcp")), Weight: 1}}},
		},
	}
	p := start(t, config)
	old := flowTo(t, at.String())
	if got := askFlow(t, old, "x"); got != "1x" {
		t.Fatalf("answer %q", got)
	}
	if got := ask(t, at.String()); got != "tcp" {
		t.Errorf("by TCP: %q", got)
	}
	proxytest.Eventually(t, "one flow is all that there is", func() bool {
		st := p.Status()
		return st.InFlight == 1 && st.Listeners[0].Connections == 1 && st.Listeners[0].Accepting && st.Listeners[1].Accepting
	})

	// Another pool, another name: the flow stays, new ones go by the new terms.
	next := config
	next.Listeners = []Listener{{Name: "renamed", Addresses: []netip.AddrPort{at}, Protocol: UDP, Pool: "new"}, config.Listeners[1]}
	next.Pools = []Pool{{Name: "new", Servers: []Server{{Name: "2", Address: datagramsOn(t, "2"), Weight: 1}}}, config.Pools[1]}
	if err := p.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if got := askFlow(t, old, "x"); got != "1x" {
		t.Errorf("the flow from before answers %q", got)
	}
	if got := askFlow(t, flowTo(t, at.String()), "x"); got != "2x" {
		t.Errorf("a new flow answers %q", got)
	}

	// Removed: flows live on, new ones are not taken; and back.
	if err := p.Apply(t.Context(), Config{}); err != nil {
		t.Fatal(err)
	}
	if got := askFlow(t, old, "x"); got != "1x" {
		t.Errorf("with the listener gone, the flow answers %q", got)
	}
	before := p.Status().Datagrams.Dropped
	stranger := flowTo(t, at.String())
	_, _ = io.WriteString(stranger, "x")
	proxytest.Eventually(t, "the stranger's datagram is dropped", func() bool { return p.Status().Datagrams.Dropped > before })
	if err := p.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if got := askFlow(t, stranger, "y"); got != "2y" {
		t.Errorf("back, it answers %q", got)
	}
	if got := askFlow(t, old, "x"); got != "1x" {
		t.Errorf("the flow from the beginning answers %q", got)
	}
}

func TestUDPIdleFollowsTheConfiguration(t *testing.T) {
	config := oneListener(UDP, Server{Name: "a", Address: datagramsOn(t, "a"), Weight: 1})
	p := start(t, config)
	askFlow(t, flowTo(t, listening(p)), "x")
	if n := p.Status().InFlight; n != 1 {
		t.Fatalf("%d flows, want 1", n)
	}
	config.Listeners[0].Idle = time.Millisecond
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(flowTo(t, listening(p)), "x") // something comes, and the new term is seen
	proxytest.Eventually(t, "both flows ended", func() bool { return p.Status().InFlight == 0 && p.Status().Listeners[0].Requests == 2 })
	if n := p.Status().Listeners[0].Failed; n != 0 {
		t.Errorf("%d failed", n)
	}
}

func TestUDPDrainWaitsAndCuts(t *testing.T) {
	p := start(t, oneListener(UDP, Server{Name: "a", Address: datagramsOn(t, "a"), Weight: 1}))
	c := flowTo(t, listening(p))
	askFlow(t, c, "x")
	p.BeginDrain()
	if n := p.Lingering(); n != 1 {
		t.Errorf("%d lingering, want 1", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	report := make(chan DrainReport, 1)
	go func() { report <- p.FinishDrain(ctx) }()
	proxytest.Eventually(t, "listener closed", func() bool { return !p.Status().Listeners[0].Accepting })
	if got := askFlow(t, c, "y"); got != "ay" {
		t.Errorf("while draining: %q", got)
	}
	cancel()
	if got, want := <-report, (DrainReport{Cut: 1}); got != want {
		t.Errorf("report = %+v, want %+v", got, want)
	}
}

// In comes a PROXY header, and out goes one: the server knows the client, and
// clients are told apart by what the header says.
func TestProxyProtocolThroughTCP(t *testing.T) {
	eachEngine(t, func(t *testing.T, options Options) {
		for _, version := range []string{"v1", "v2"} {
			told := make(chan proxyproto.Header, 3)
			config := oneListener(TCP, Server{Name: "a", Address: proxytest.TCP(t, func(c *net.TCPConn) {
				b := make([]byte, 0, 512)
				for {
					n, err := c.Read(b[len(b):cap(b)])
					b = b[:len(b)+n]
					h, size, parsed := proxyproto.Parse(b)
					switch {
					case parsed != nil || err != nil:
						return
					case size > 0:
						h.TLVs = nil
						told <- h
						_, _ = c.Write(b[size:])
						_, _ = io.Copy(c, c)
						return
					}
				}
			}), Weight: 1})
			config.Listeners[0].AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			config.Listeners[0].Clients = &shed.ClientConfig{Connections: 1}
			config.Pools[0].SendProxy = version
			config.Pools[0].Balance = balance.Config{Algorithm: balance.SourceHash}
			p := startWith(t, options, config)
			for _, source := range []string{"198.51.100.1:1000", "[2001:db8::1]:1000"} {
				h := proxyproto.Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort("198.51.100.2:443")}
				if h.Source.Addr().Is6() {
					h.Destination = netip.MustParseAddrPort("[2001:db8::2]:443")
				}
				c := dial(t, listening(p))
				_, _ = c.Write(proxyproto.AppendV1(nil, h.Source, h.Destination))
				roundTrip(t, c)
				if got := <-told; got.Source != h.Source || got.Destination != h.Destination || fmt.Sprint("v", got.Version) != version {
					t.Errorf("%s: the server is told %+v, want %+v", version, got, h)
				}
				wantReset(t, "a second connection of one client", listening(p), string(proxyproto.AppendV1(nil, h.Source, h.Destination)))
			}
			wantReset(t, "without a header", listening(p), "GET / HTTP/1.1\r\n\r\n")
			proxytest.Eventually(t, "it is counted", func() bool { return p.Status().Listeners[0].Unintroduced == 1 })
		}
	})
}

// wantReset connects, says something, and wants to be reset.
func wantReset(t *testing.T, who, address, says string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err == nil { // else the reset was here already
		_ = c.SetDeadline(time.Now().Add(patience))
		if says != "" {
			_, err = io.WriteString(c, says)
		}
		if err == nil { // a socket tells of its reset once
			_, err = io.ReadAll(c)
		}
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%s: %v, want a reset", who, err)
	}
}

func TestPoolLimitsHoldForTCPAndUDP(t *testing.T) {
	t.Run("tcp queues", func(t *testing.T) {
		config := oneListener(TCP, Server{Name: "a", Address: proxytest.TCP(t, proxytest.Echo), Weight: 1})
		config.Pools[0].Limits = shed.Config{MaxInFlight: 1, Queue: 1, QueueTimeout: patience}
		p := start(t, config)
		one := dial(t, listening(p))
		roundTrip(t, one)
		two := dial(t, listening(p))
		_, _ = io.WriteString(two, "ping")
		proxytest.Eventually(t, "the second one waits", func() bool { return p.state.pools["web"].pool.Gate().Waiting() == 1 })
		wantReset(t, "the third", listening(p), "")
		_ = one.Close()
		b := make([]byte, 4)
		if _, err := io.ReadFull(two, b); err != nil || string(b) != "ping" {
			t.Errorf("in its turn, the second one reads %q, %v", b, err)
		}
	})
	t.Run("udp drops", func(t *testing.T) {
		config := oneListener(UDP, Server{Name: "a", Address: datagramsOn(t, "a"), Weight: 1})
		config.Pools[0].Limits = shed.Config{MaxInFlight: 1}
		config.Listeners[0].Idle = 100 * time.Millisecond
		p := start(t, config)
		one := flowTo(t, listening(p))
		askFlow(t, one, "x")
		two := flowTo(t, listening(p))
		_, _ = io.WriteString(two, "x")
		proxytest.Eventually(t, "the second flow is refused", func() bool { return p.Status().Listeners[0].Failed == 1 })
		proxytest.Eventually(t, "the first one ended", func() bool { return p.Status().InFlight == 0 })
		if got := askFlow(t, two, "y"); got != "ay" {
			t.Errorf("with room, the second one gets %q", got)
		}
	})
	t.Run("udp clients", func(t *testing.T) {
		config := oneListener(UDP, Server{Name: "a", Address: datagramsOn(t, "a"), Weight: 1})
		config.Listeners[0].Clients = &shed.ClientConfig{Connections: 2}
		p := start(t, config)
		askFlow(t, flowTo(t, listening(p)), "x")
		askFlow(t, flowTo(t, listening(p)), "x")
		_, _ = io.WriteString(flowTo(t, listening(p)), "x")
		proxytest.Eventually(t, "the third flow is refused", func() bool { return p.Status().Listeners[0].Failed == 1 })
	})
}

// A server that is taken out of the configuration keeps what it has.
func TestRemovedServerKeepsItsConnections(t *testing.T) {
	eachEngine(t, func(t *testing.T, options Options) {
		old := Server{Name: "old", Address: proxytest.TCP(t, proxytest.Echo), Weight: 1}
		p := startWith(t, options, oneListener(TCP, old))
		c := dial(t, listening(p))
		roundTrip(t, c)
		next := oneListener(TCP, Server{Name: "new", Address: proxytest.TCP(t, naming("new")), Weight: 1})
		for range 3 {
			if err := p.Apply(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c)
			if got := ask(t, listening(p)); got != "new" {
				t.Errorf("a new connection is answered by %q", got)
			}
		}
		_ = c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
			t.Errorf("its end: %q, %v", b, err)
		}
	})
}

// lockedBuffer is what a log's goroutine writes to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range strings.Split(strings.TrimSpace(l.b.String()), "\n") {
		if text == "" {
			continue
		}
		line := make(map[string]any)
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestStreamsAreLogged(t *testing.T) {
	for _, protocol := range []Protocol{TCP, UDP, TLS} {
		t.Run(string(protocol), func(t *testing.T) {
			var server netip.AddrPort
			switch protocol {
			case TCP:
				server = proxytest.TCP(t, naming("tcp"))
			case UDP:
				server = datagramsOn(t, "udp")
			case TLS:
				server, _ = tlsServer(t, "a")
			}
			out := new(lockedBuffer)
			config := oneListener(protocol, Server{Name: "a", Address: server, Weight: 1})
			config.Listeners[0].Log = true
			config.Listeners[0].Idle = 500 * time.Millisecond
			p := startWith(t, Options{AccessLog: accesslog.New(out)}, config)
			var client string
			want := map[string]any{"listener": "front", "protocol": string(protocol), "pool": "web", "server": "a", "why": nil, "host": nil}
			switch protocol {
			case TCP:
				c := dial(t, listening(p))
				client = c.LocalAddr().String()
				_, _ = io.ReadAll(c)
				_ = c.Close()
				want["bytes_in"], want["bytes_out"] = 0.0, 3.0
			case UDP:
				c := flowTo(t, listening(p))
				client = c.LocalAddr().String()
				askFlow(t, c, "12345")
				want["bytes_in"], want["bytes_out"] = 5.0, 8.0
			case TLS:
				c, err := cryptotls.Dial("tcp", listening(p), &cryptotls.Config{ServerName: "A.example", InsecureSkipVerify: true})
				if err != nil {
					t.Fatal(err)
				}
				client = c.LocalAddr().String()
				_, _ = io.ReadAll(c)
				_ = c.Close()
				want["host"] = "a.example"
			}
			want["client"] = client
			var lines []map[string]any
			proxytest.Eventually(t, "a line", func() bool { lines = out.lines(t); return len(lines) > 0 })
			for field, value := range want {
				if lines[0][field] != value {
					t.Errorf("%s is %v, want %v", field, lines[0][field], value)
				}
			}
			if _, ok := lines[0]["total_ms"]; !ok || len(lines) != 1 {
				t.Errorf("lines %v, want one with a duration", lines)
			}
		})
	}
}
