package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// patience is how long a test waits for an event before it fails. Long,
// because it is spent only by a test that fails.
const patience = proxytest.Patience

// start runs a proxy with config until the test ends, then checks that it
// left no descriptor behind.
func start(t *testing.T, config Config) *Proxy {
	t.Helper()
	return startWith(t, Options{}, config)
}

// startWith is start with options of the test's.
func startWith(t *testing.T, opts Options, config Config) *Proxy {
	t.Helper()
	before := descriptors(t)
	_, others := running.LoadOrStore(t, true)
	p, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Run did not return after its context ended")
		}
		if others {
			return // the first one, which ends last, looks for all
		}
		running.Delete(t)
		proxytest.Eventually(t, "descriptors closed", func() bool { return descriptors(t) <= before })
	})
	if err := p.Apply(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return p
}

// running are the tests that have a proxy.
var running sync.Map // *testing.T -> true

// descriptors counts this process's sockets, the ones that leak.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

// naming answers each connection with a name and closes.
func naming(name string) func(*net.TCPConn) {
	return func(c *net.TCPConn) { _, _ = io.WriteString(c, name) }
}

// deadAddress is an address that refuses connections.
func deadAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func oneListener(protocol Protocol, servers ...Server) Config {
	return Config{
		Listeners: []Listener{{Name: "front", Addresses: []netip.AddrPort{anyPort}, Protocol: protocol, Pool: "web"}},
		Pools:     []Pool{{Name: "web", Servers: servers}},
	}
}

func listening(p *Proxy) string { return p.Status().Listeners[0].Addresses[0].String() }

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func ask(t *testing.T, address string) string {
	t.Helper()
	c := dial(t, address)
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("reading from %s: %v", address, err)
	}
	return string(b)
}

func TestTCPSharesFollowWeights(t *testing.T) {
	p := start(t, oneListener(TCP,
		Server{Name: "a", Address: proxytest.TCP(t, naming("a")), Weight: 3},
		Server{Name: "b", Address: proxytest.TCP(t, naming("b")), Weight: 1},
		Server{Name: "c", Address: proxytest.TCP(t, naming("c")), Weight: 0},
	))
	got := map[string]int{}
	for range 80 {
		got[ask(t, listening(p))]++
	}
	if got["a"] != 60 || got["b"] != 20 || got["c"] != 0 {
		t.Errorf("connections = %v, want a:60 b:20", got)
	}
	proxytest.Eventually(t, "counters settle", func() bool {
		st := p.Status()
		l := st.Listeners[0]
		return l.Accepted == 80 && l.Requests == 80 && l.Failed == 0 && l.Connections == 0 && st.InFlight == 0 && st.Pools[0].Servers[0].Connections == 60
	})
}

func TestTCPDeadServerCostsClientsNothing(t *testing.T) {
	p := start(t, oneListener(TCP,
		Server{Name: "dead", Address: deadAddress(t), Weight: 9},
		Server{Name: "b", Address: proxytest.TCP(t, naming("b")), Weight: 1},
	))
	for range 20 {
		if got := ask(t, listening(p)); got != "b" {
			t.Fatalf("answer = %q, want b", got)
		}
	}
}

func TestTCPNoServerResetsTheClient(t *testing.T) {
	p := start(t, oneListener(TCP, Server{Name: "dead", Address: deadAddress(t), Weight: 1}))
	c, err := net.Dial("tcp", listening(p))
	if err == nil { // else the reset was here already
		_, err = io.ReadAll(c)
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connect and read = %v, want connection reset", err)
	}
	proxytest.Eventually(t, "failure counted", func() bool { return p.Status().Listeners[0].Failed == 1 })
}

func TestTCPHalfCloseIsHonoured(t *testing.T) {
	server := proxytest.TCP(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // until the client's half-close
		_, _ = fmt.Fprintf(c, "got %d bytes", len(b))
	})
	p := start(t, oneListener(TCP, Server{Name: "a", Address: server, Weight: 1}))
	c := dial(t, listening(p))
	if _, err := c.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "got 3145728 bytes" {
		t.Errorf("answer after half-close = %q, %v", b, err)
	}
}

func TestApplyWithATakenPortChangesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	config := oneListener(TCP, Server{Name: "a", Address: proxytest.TCP(t, naming("a")), Weight: 1})
	p := start(t, config)
	address := listening(p)
	next := oneListener(TCP, Server{Name: "b", Address: proxytest.TCP(t, naming("b")), Weight: 1})
	next.Listeners = append(next.Listeners,
		Listener{Name: "free", Addresses: []netip.AddrPort{anyPort}, Protocol: TCP, Pool: "web"},
		Listener{Name: "second", Addresses: []netip.AddrPort{taken.Addr().(*net.TCPAddr).AddrPort()}, Protocol: TCP, Pool: "web"})
	sockets := descriptors(t)
	err = p.Apply(t.Context(), next)
	var bind *BindError
	if !errors.As(err, &bind) || bind.Listener != "second" || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "port taken") {
		t.Fatalf("Apply = %v, want a BindError of listener second that says port taken", err)
	}
	if n := descriptors(t); n != sockets {
		t.Errorf("the failed Apply left %d sockets more", n-sockets)
	}
	if got := ask(t, address); got != "a" {
		t.Errorf("answer after the failed Apply = %q, want a", got)
	}
	if st := p.Status(); len(st.Listeners) != 1 || st.Pools[0].Servers[0].Name != "a" {
		t.Errorf("status after the failed Apply: %+v", st)
	}
}

func TestApplyReportsEveryFault(t *testing.T) {
	p := start(t, Config{})
	err := p.Apply(t.Context(), Config{
		Listeners: []Listener{{Name: "x", Protocol: "smtp", Pool: "nowhere"}},
		Pools:     []Pool{{Name: "p", Balance: balance.Config{Algorithm: "guess"}, Servers: []Server{{Name: "s", Address: anyPort, Weight: 999}}}},
	})
	for _, want := range []string{
		"listeners[0].protocol", "listeners[0].pool", "listeners[0].addresses",
		"pools[0].balance", "pools[0].servers[0].address", "pools[0].servers[0].weight",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply = %v, want a fault of %s", err, want)
		}
	}
}

func TestApplySwapsPoolsAndKeepsConnectionsAndSockets(t *testing.T) {
	echo := proxytest.TCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	fixed := netip.MustParseAddrPort(deadAddress(t).String())
	config := Config{
		Listeners: []Listener{{Name: "front", Addresses: []netip.AddrPort{fixed}, Protocol: TCP, Pool: "old"}},
		Pools:     []Pool{{Name: "old", Servers: []Server{{Name: "echo", Address: echo, Weight: 1}}}},
	}
	p := start(t, config)
	c := dial(t, fixed.String())
	roundTrip(t, c)
	// The listener is renamed and gets another pool: the socket must stay.
	next := Config{
		Listeners: []Listener{{Name: "renamed", Addresses: []netip.AddrPort{fixed}, Protocol: TCP, Pool: "new"}},
		Pools:     []Pool{{Name: "new", Servers: []Server{{Name: "b", Address: proxytest.TCP(t, naming("b")), Weight: 1}}}},
	}
	if err := p.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, fixed.String()); got != "b" {
		t.Errorf("new connection = %q, want b", got)
	}
	roundTrip(t, c) // the established one lives on
	// Removed altogether: refused from now on, and the old one still lives.
	if err := p.Apply(t.Context(), Config{}); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", fixed.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to a removed listener = %v, want refused", err)
	}
	roundTrip(t, c)
}

func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
		t.Fatalf("echo = %q, %v", b, err)
	}
}

func TestDrainOfTCP(t *testing.T) {
	echo := proxytest.TCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	p := start(t, oneListener(TCP, Server{Name: "echo", Address: echo, Weight: 1}))
	address := listening(p)
	finishes, stays := dial(t, address), dial(t, address)
	roundTrip(t, finishes)
	roundTrip(t, stays)
	p.BeginDrain()
	late := dial(t, address) // the router has not converged yet: still served
	roundTrip(t, late)
	ctx, cancel := context.WithCancel(t.Context())
	report := make(chan DrainReport, 1)
	go func() { report <- p.FinishDrain(ctx) }()
	proxytest.Eventually(t, "listener closed", func() bool { return !p.Status().Listeners[0].Accepting })
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("a connection was accepted after FinishDrain closed the listener")
	}
	roundTrip(t, finishes)
	_ = finishes.Close()
	_ = late.Close()
	proxytest.Eventually(t, "two ended", func() bool { return p.Status().InFlight == 1 })
	cancel()
	if got, want := <-report, (DrainReport{Finished: 1, Cut: 1}); got != want {
		t.Errorf("report = %+v, want %+v", got, want)
	}
	if _, err := io.ReadAll(stays); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the cut connection reads %v, want a reset", err)
	}
	// Apply serves again.
	if err := p.Apply(t.Context(), oneListener(TCP, Server{Name: "echo", Address: echo, Weight: 1})); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, dial(t, listening(p)))
}

func TestChecksTakeADeadServerOutAndBack(t *testing.T) {
	config := oneListener(TCP,
		Server{Name: "a", Address: proxytest.TCP(t, naming("a")), Weight: 1},
		Server{Name: "b", Address: deadAddress(t), Weight: 1})
	config.Pools[0].Check = &check.Spec{}
	config.Pools[0].Health = health.Config{Interval: 10 * time.Millisecond, Fall: 2, Rise: 2}
	p := start(t, config)
	proxytest.Eventually(t, "both checked", func() bool {
		pool := p.Status().Pools[0]
		return pool.Checked && pool.Healthy == 1 && pool.Servers[1].Failures >= 2
	})
	if got := p.Status().Pools[0].Servers[1]; got.Healthy || got.LastReason != "connect: connection refused" {
		t.Errorf("status of the dead server = %+v", got)
	}
	ln, err := net.Listen("tcp", config.Pools[0].Servers[1].Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	proxytest.Eventually(t, "the server rises", func() bool { return p.Status().Pools[0].Healthy == 2 })
	select {
	case <-p.Changes():
	default:
		t.Error("no change was announced")
	}
}

func TestApplyWaitsForRunAndFailsAfterIt(t *testing.T) {
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Apply(ended, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply before Run = %v, want context canceled", err)
	}
	p.BeginDrain() // must not block
	if err := p.Run(ended); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(context.Background(), Config{}); !errors.Is(err, ErrStopped) {
		t.Errorf("Apply after Run = %v, want ErrStopped", err)
	}
}
