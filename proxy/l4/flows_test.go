package l4

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// What ICMP says of a server counts against it.
func TestUDPRefusalsTakeAServerOut(t *testing.T) {
	dead, conn := proxytest.UDP(t, "127.0.0.1:0", "dead")
	_ = conn.Close()
	alive, _ := proxytest.UDP(t, "127.0.0.1:0", "alive")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, dead, alive)
	p := b.l.Site().Pool
	p.Update(pool.Spec{FailOpen: true, Health: health.Config{MaxFails: 1, FailTimeout: time.Hour}, Servers: []pool.ServerSpec{
		{Name: "a", Address: dead, Weight: 1}, {Name: "b", Address: alive, Weight: 1},
	}})
	for range 2 { // one of them begins at the dead one
		c := b.client("127.0.0.1")
		proxytest.Eventually(t, "the flow is at the living server", func() bool {
			_, _ = c.Write([]byte("x"))
			return p.Members()[0].InFlight.Load() == 0 && p.Members()[1].InFlight.Load() == int64(b.d.Open())
		})
	}
	proxytest.Eventually(t, "the dead server is out", func() bool { return !p.Members()[0].Health().Healthy })
	if !p.Members()[1].Health().Healthy {
		t.Error("the living one is out, too")
	}
}

// A client that keeps on sending must not be lost to a server that checks have
// found dead, and of which no ICMP tells.
func TestUDPFlowLeavesAServerThatChecksFoundDead(t *testing.T) {
	one, _ := proxytest.UDP(t, "127.0.0.1:0", "1")
	two, _ := proxytest.UDP(t, "127.0.0.1:0", "2")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, one, two)
	b.d.lookEvery = 0
	p := b.l.Site().Pool
	spec := pool.Spec{Checked: true, FailOpen: true, Servers: []pool.ServerSpec{
		{Name: "1", Address: one, Weight: 1}, {Name: "2", Address: two, Weight: 1},
	}}
	p.Update(spec)
	checked := func(ok ...bool) {
		for i, ok := range ok {
			for range 10 {
				p.Observe(p.Members()[i].Server, ok, "", time.Now())
			}
		}
		p.Update(spec) // draws the consequences
	}
	checked(true, true)
	c := b.client("127.0.0.1")
	began := exchange(t, c, "x")
	for range 3 {
		if got := exchange(t, c, "x"); got != began {
			t.Fatalf("it moved from %q to %q, and all is well", began, got)
		}
	}
	checked(began == "2x", began == "1x")
	now := exchange(t, c, "x")
	if now == began {
		t.Errorf("it stays at %q", began)
	}
	checked(false, false)
	for range 3 {
		if got := exchange(t, c, "x"); got != now {
			t.Errorf("with nobody better it moved from %q to %q", now, got)
		}
	}
	for i, m := range p.Members() {
		want := int64(0)
		if m.Name == now[:1] {
			want = 1
		}
		if n := m.InFlight.Load(); n != want {
			t.Errorf("%d in flight at server %d, want %d", n, i, want)
		}
	}
	if b.l.Accepted.Load() != 1 || b.l.Failed.Load() != 0 {
		t.Errorf("%d flows, %d failed; want 1 and none", b.l.Accepted.Load(), b.l.Failed.Load())
	}
}

// Two processes have one socket: what clients send is the other one's once this
// one has yielded, and what servers still answer gets through.
func TestUDPYield(t *testing.T) {
	one, _ := proxytest.UDP(t, "127.0.0.1:0", "1")
	two, _ := proxytest.UDP(t, "127.0.0.1:0", "2")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, one)
	c := b.client("127.0.0.1")
	exchange(t, c, "x")

	fd, err := b.socket.Dup()
	if err != nil {
		t.Fatal(err)
	}
	successor, err := listener.AdoptUDP(b.socket.Address(), fd)
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = successor.Dup(); err != nil {
		t.Fatal(err)
	}
	next := NewDatagrams(slog.New(slog.DiscardHandler), nil, DefaultFlows)
	a, err := next.Acceptor(fd, successor.Address(), listener.New("front", udpSite(newPool("p", two), patience)))
	if err != nil {
		t.Fatal(err)
	}
	b.acceptor.Yield()
	a.Start()
	for range 5 {
		if got := exchange(t, c, "x"); got != "2x" {
			t.Errorf("after the first one yielded, the answer is %q", got)
		}
	}
	if b.d.Open() != 1 {
		t.Errorf("%d flows are left at the first one, want 1: its server may answer", b.d.Open())
	}
	// Should it come to be heard again, it is.
	a.Yield()
	b.acceptor = b.accept(b.l)
	b.acceptor.Start()
	if got := exchange(t, c, "y"); got != "1y" {
		t.Errorf("back at the first one, the answer is %q", got)
	}
	_ = successor.Close()
	next.Drain(noTime(), time.Now())
}

func TestAdoptUDPRefuses(t *testing.T) {
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows)
	for name, row := range map[string]struct {
		open    func() (int, error)
		address netip.AddrPort
	}{
		"another address": {b.socket.Dup, netip.MustParseAddrPort("127.0.0.1:81")},
		"no UDP":          {func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) }, netip.MustParseAddrPort("0.0.0.0:0")},
		"no socket":       {func() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY, 0) }, b.socket.Address()},
	} {
		fd, err := row.open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := listener.AdoptUDP(row.address, fd); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%s: the descriptor is left open (%v)", name, err)
		}
	}
}
