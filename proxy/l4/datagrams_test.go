package l4

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/site"
)

// udpBench is a UDP listener on loopback.
type udpBench struct {
	t        *testing.T
	d        *Datagrams
	l        *listener.Listener
	socket   *listener.Socket
	acceptor *PacketAcceptor
}

func newUDPBench(t *testing.T, at string, idle time.Duration, most int, servers ...netip.AddrPort) *udpBench {
	t.Helper()
	b := &udpBench{t: t, d: NewDatagrams(slog.New(slog.DiscardHandler), nil, most)}
	b.l = listener.New("front", udpSite(newPool("p", servers...), idle))
	var err error
	b.socket, err = listener.BindUDP(netip.MustParseAddrPort(at))
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skip("no IPv6")
	}
	if err != nil {
		t.Fatal(err)
	}
	b.acceptor = b.accept(b.l)
	b.acceptor.Start()
	t.Cleanup(func() {
		b.acceptor.Stop()
		_ = b.socket.Close()
		b.d.Drain(noTime(), time.Now())
		if n := b.d.Open(); n != 0 {
			t.Errorf("%d flows are left after Drain", n)
		}
	})
	return b
}

func udpSite(p *pool.Pool, idle time.Duration) *site.Site {
	return &site.Site{Pool: p, Stream: site.Stream{Idle: idle}}
}

func noTime() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (b *udpBench) accept(l *listener.Listener) *PacketAcceptor {
	b.t.Helper()
	fd, err := b.socket.Dup()
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := b.d.Acceptor(fd, b.socket.Address(), l)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// client is a client's socket, connected to the listener: it takes answers
// from the address alone that it asked.
func (b *udpBench) client(at string) *net.UDPConn {
	b.t.Helper()
	c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(at), b.socket.Address().Port()).String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.UDPConn)
}

func exchange(t *testing.T, c *net.UDPConn, question string) string {
	t.Helper()
	if _, err := c.Write([]byte(question)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err != nil {
		t.Fatalf("waiting for the answer to %.20q: %v", question, err)
	}
	return string(b[:n])
}

// Answers come from the address that was asked, whichever the socket is bound
// to, and whichever family the server has.
func TestUDPAnswersFromTheAddressAsked(t *testing.T) {
	for name, row := range map[string]struct{ bind, ask, server string }{
		"IPv4":                            {"127.0.0.1:0", "127.0.0.1", "127.0.0.1:0"},
		"another address than the usual":  {"127.0.0.9:0", "127.0.0.9", "127.0.0.1:0"},
		"the unspecified address":         {"0.0.0.0:0", "127.0.0.7", "127.0.0.1:0"},
		"IPv6":                            {"[::1]:0", "::1", "[::1]:0"},
		"the unspecified address of IPv6": {"[::]:0", "::1", "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, row.bind, patience, DefaultFlows, netip.AddrPort{})
			server, _ := proxytest.UDP(t, row.server, "a")
			b.l.SetSite(udpSite(newPool("p", server), patience))
			c := b.client(row.ask)
			for _, question := range []string{"question", "", "another"} {
				if got := exchange(t, c, question); got != "a"+question {
					t.Errorf("the answer is %q, want %q", got, "a"+question)
				}
			}
			big := string(make([]byte, 60000))
			if got := exchange(t, c, big); got != "a"+big {
				t.Errorf("%d bytes came back of a large datagram, want %d", len(got), len(big)+1)
			}
			if n := b.l.Accepted.Load(); n != 1 {
				t.Errorf("%d flows, want 1", n)
			}
			proxytest.Eventually(t, "eight datagrams counted as passed on", func() bool { return b.d.Forwarded.Load() == 8 })
		})
	}
}

func TestUDPClientsAreKeptApart(t *testing.T) {
	one, _ := proxytest.UDP(t, "127.0.0.1:0", "1")
	two, _ := proxytest.UDP(t, "127.0.0.1:0", "2")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, one, two)
	got := map[string]int{}
	for i := range 20 {
		c := b.client("127.0.0.1")
		question := fmt.Sprint("-", i)
		answer := exchange(t, c, question)
		got[answer[:1]]++
		for range 3 { // the flow stays where it is
			if again := exchange(t, c, question); again != answer {
				t.Fatalf("answers %q and %q", answer, again)
			}
		}
	}
	if got["1"] != 10 || got["2"] != 10 {
		t.Errorf("clients by server: %v, want 10 each", got)
	}
	if b.d.Open() != 20 || b.l.Open.Load() != 20 {
		t.Errorf("%d and %d flows, want 20", b.d.Open(), b.l.Open.Load())
	}
}

func TestUDPIdleFlowEnds(t *testing.T) {
	server, _ := proxytest.UDP(t, "127.0.0.1:0", "a")
	b := newUDPBench(t, "127.0.0.1:0", 20*time.Millisecond, DefaultFlows, server)
	_, _ = b.client("127.0.0.1").Write([]byte("x"))
	proxytest.Eventually(t, "the end of the flow", func() bool { return b.l.Requests.Load() == 1 && b.d.Open() == 0 })
	if b.l.Requests.Load() != 1 || b.l.Failed.Load() != 0 {
		t.Errorf("%d ended, %d failed; want 1 and none", b.l.Requests.Load(), b.l.Failed.Load())
	}
	if n, m := b.l.Site().Pool.Members()[0].InFlight.Load(), b.l.Site().Pool.Gate().InFlight(); n != 0 || m != 0 {
		t.Errorf("%d in flight, %d slots of the pool held, want none", n, m)
	}
}

func TestUDPLongestIdleFlowMakesRoom(t *testing.T) {
	server, _ := proxytest.UDP(t, "127.0.0.1:0", "a")
	b := newUDPBench(t, "127.0.0.1:0", patience, 2, server)
	one, two, three := b.client("127.0.0.1"), b.client("127.0.0.1"), b.client("127.0.0.1")
	exchange(t, one, "x")
	exchange(t, two, "x")
	exchange(t, one, "x")   // two is the longest idle one now
	exchange(t, three, "x") // in its place
	if b.d.Open() != 2 || b.d.Evicted.Load() != 1 {
		t.Errorf("%d flows, %d evicted; want 2 and 1", b.d.Open(), b.d.Evicted.Load())
	}
	exchange(t, one, "x")
	if n := b.l.Accepted.Load(); n != 3 {
		t.Errorf("%d flows were made, want 3: the one in use was evicted", n)
	}
}

// A port where nobody listens answers by ICMP: the flow moves on.
func TestUDPRefusedFlowMovesToTheNextServer(t *testing.T) {
	dead, conn := proxytest.UDP(t, "127.0.0.1:0", "dead")
	_ = conn.Close()
	alive, _ := proxytest.UDP(t, "127.0.0.1:0", "alive")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, dead, alive)
	for range 2 { // one of them begins at the dead one
		c := b.client("127.0.0.1")
		answer := make(chan string, 1)
		go func() {
			buffer := make([]byte, 100)
			n, _ := c.Read(buffer)
			answer <- string(buffer[:n])
		}()
		asking := time.NewTicker(5 * time.Millisecond)
		defer asking.Stop()
		for got := ""; got == ""; {
			_, _ = c.Write([]byte("x"))
			select {
			case got = <-answer:
				if got != "alivex" {
					t.Fatalf("answer %q", got)
				}
			case <-asking.C: // datagrams may be lost; clients ask again
			}
		}
	}
	for i, want := range []int64{0, 2} {
		if n := b.l.Site().Pool.Members()[i].InFlight.Load(); n != want {
			t.Errorf("%d in flight at server %d, want %d", n, i, want)
		}
	}
}

func TestUDPWithoutAServerDrops(t *testing.T) {
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows)
	_, _ = b.client("127.0.0.1").Write([]byte("x"))
	proxytest.Eventually(t, "the drop", func() bool { return b.d.Dropped.Load() == 1 })
	if b.l.Failed.Load() != 1 || b.d.Open() != 0 {
		t.Errorf("%d failed, %d open; want 1 and none", b.l.Failed.Load(), b.d.Open())
	}
}

// A drain leaves the flows that there are, and takes no others.
func TestUDPDrain(t *testing.T) {
	server, _ := proxytest.UDP(t, "127.0.0.1:0", "a")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, server)
	old := b.client("127.0.0.1")
	exchange(t, old, "x")
	began := time.Now()
	exchange(t, b.client("127.0.0.1"), "x")
	b.acceptor.Stop()
	if got := exchange(t, old, "y"); got != "ay" {
		t.Errorf("answer %q while draining", got)
	}
	_, _ = b.client("127.0.0.1").Write([]byte("x"))
	proxytest.Eventually(t, "the drop", func() bool { return b.d.Dropped.Load() == 1 })
	if n := b.d.OpenSince(began); n != 1 {
		t.Errorf("%d flows are from before, want 1", n)
	}
	if cut, older := b.d.Drain(noTime(), began); cut != 2 || older != 1 {
		t.Errorf("Drain cut %d, %d of them older; want 2 and 1", cut, older)
	}
	if _, ok := b.d.Dup(b.socket.Address()); ok {
		t.Error("the socket is left after Drain")
	}
	b.acceptor = b.accept(b.l) // for the end of the test
}

// A listener that is replaced hands its socket over: flows live on, and those
// that begin are the new one's.
func TestUDPSocketChangesHands(t *testing.T) {
	one, _ := proxytest.UDP(t, "127.0.0.1:0", "1")
	two, _ := proxytest.UDP(t, "127.0.0.1:0", "2")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, one)
	old := b.client("127.0.0.1")
	exchange(t, old, "x")
	next := listener.New("next", udpSite(newPool("q", two), patience))
	a := b.accept(next)
	b.acceptor.Stop()
	a.Start()
	b.acceptor = a
	if got := exchange(t, old, "x"); got != "1x" {
		t.Errorf("the old flow answers %q", got)
	}
	if got := exchange(t, b.client("127.0.0.1"), "x"); got != "2x" {
		t.Errorf("the new flow answers %q", got)
	}
	if b.l.Open.Load() != 1 || next.Open.Load() != 1 {
		t.Errorf("%d and %d flows, want 1 each", b.l.Open.Load(), next.Open.Load())
	}
}

// An address that was removed and comes back while flows live on is not taken.
func TestUDPAddressComesBackWhileFlowsLiveOn(t *testing.T) {
	server, _ := proxytest.UDP(t, "127.0.0.1:0", "a")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, server)
	old := b.client("127.0.0.1")
	exchange(t, old, "x")
	b.acceptor.Stop()
	_ = b.socket.Close()
	if _, err := listener.BindUDP(b.socket.Address()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("binding beside the flows = %v, want address in use", err)
	}
	fd, ok := b.d.Dup(b.socket.Address())
	if !ok {
		t.Fatal("the socket is gone, and a flow lives on")
	}
	var err error
	if b.socket, err = listener.AdoptUDP(b.socket.Address(), fd); err != nil {
		t.Fatal(err)
	}
	b.acceptor = b.accept(b.l)
	b.acceptor.Start()
	exchange(t, old, "x")
	exchange(t, b.client("127.0.0.1"), "x")
}

// An acceptor that never started leaves nothing.
func TestUDPAcceptorThatWasNotStarted(t *testing.T) {
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows)
	b.accept(b.l).Stop() // beside one that runs
	d := NewDatagrams(slog.New(slog.DiscardHandler), nil, DefaultFlows)
	fd, _ := b.socket.Dup()
	a, err := d.Acceptor(fd, b.socket.Address(), b.l)
	if err != nil {
		t.Fatal(err)
	}
	a.Stop()
	if _, ok := d.Dup(b.socket.Address()); ok {
		t.Error("the socket is left")
	}
}

// 10,000 flows cost at most 8 KiB each, of this process.
func TestUDPMemoryOfAFlow(t *testing.T) {
	const flows = 10000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < flows+1000 || testing.Short() {
		t.Skipf("%d descriptors are allowed", limit.Cur)
	}
	sink, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	b := newUDPBench(t, "127.0.0.1:0", time.Hour, DefaultFlows, sink.LocalAddr().(*net.UDPAddr).AddrPort())
	var batch [16]int
	debug.FreeOSMemory() // what other tests have left could be used again, unseen
	before := resident(t)
	for i := range flows {
		// From addresses of 127/8, so that ports do not run out.
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 40000)
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(b.socket.Address()))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		_ = c.Close()
		if batch[i%len(batch)] = i; i%len(batch) == 0 {
			proxytest.Eventually(t, "the flows", func() bool { return b.d.Open() >= i })
		}
	}
	proxytest.Eventually(t, "all flows", func() bool { return b.d.Open() == flows })
	runtime.GC()
	each := (resident(t) - before) / flows
	t.Logf("%d bytes for each flow", each)
	if each > 8<<10 {
		t.Errorf("%d bytes for each flow, want at most 8 KiB", each)
	}
}

// resident is this process's resident memory, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func BenchmarkUDPExchange(b *testing.B) {
	server, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	var answered atomic.Int64
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			answered.Add(1)
			_, _ = server.WriteToUDPAddrPort(buffer[:n], from)
		}
	}()
	d := NewDatagrams(slog.New(slog.DiscardHandler), nil, DefaultFlows)
	socket, err := listener.BindUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	fd, err := socket.Dup()
	if err != nil {
		b.Fatal(err)
	}
	p := pool.New("p", slog.New(slog.DiscardHandler), func() {})
	p.Update(pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{{Name: "a", Address: server.LocalAddr().(*net.UDPAddr).AddrPort(), Weight: 1}}})
	a, err := d.Acceptor(fd, socket.Address(), listener.New("front", udpSite(p, patience)))
	if err != nil {
		b.Fatal(err)
	}
	a.Start()
	c, err := net.Dial("udp", socket.Address().String())
	if err != nil {
		b.Fatal(err)
	}
	question, answer := make([]byte, 100), make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Write(question)
		if _, err := c.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
	a.Stop()
	_ = socket.Close()
	d.Drain(noTime(), time.Now())
}
