package l7

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// mirrorRig is a rig whose only route mirrors everything to the server 10.9.9.9.
func mirrorRig(t *testing.T) (r *rig, shadow func(i int) *inmem.Peer) {
	r = newRig()
	p := pool.New("shadow", slog.New(slog.DiscardHandler), func() {})
	address := netip.MustParseAddrPort("10.9.9.9:80")
	p.Update(pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{{Name: "s", Address: address, Weight: 1}}})
	r.routes(t, site.Rule{Targets: r.targets(), Mirror: &site.Mirror{Pool: p, Percent: 100}})
	var shadows []*inmem.Peer
	accept := r.loop.Accept
	r.loop.Accept = func(a netip.AddrPort, peer *inmem.Peer) error {
		if a != address {
			return accept(a, peer)
		}
		shadows = append(shadows, peer)
		return nil
	}
	return r, func(i int) *inmem.Peer {
		t.Helper()
		if i >= len(shadows) {
			t.Fatalf("%d connections to the mirror, want at least %d", len(shadows), i+1)
		}
		return shadows[i]
	}
}

func TestMirrorGetsTheRequestAndItsAnswerGoesNowhere(t *testing.T) {
	r, shadow := mirrorRig(t)
	c := r.client()
	c.Write("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
	r.loop.Run()
	c.Write("llo")
	r.loop.Run()
	want := r.server(t, 0).Read()
	if got := shadow(0).Read(); got != want || !strings.HasSuffix(got, "hello") {
		t.Errorf("the mirror got %q, the server %q", got, want)
	}
	shadow(0).Write("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
	r.loop.Run()
	if got := c.Read(); got != "" {
		t.Fatalf("the client got %q of the mirror", got)
	}
	r.server(t, 0).Write(reply)
	r.loop.Run()
	if got := c.Read(); !strings.HasSuffix(got, "ok") {
		t.Errorf("answer = %q", got)
	}
	if len(r.w.mirrors) != 0 {
		t.Error("a copy is left")
	}
	if n := r.l.Requests.Load(); n != 1 {
		t.Errorf("%d requests are counted, want 1", n)
	}
	r.settled(t)
}

// A mirror that takes nothing is given up, and the original never waits.
func TestSlowMirrorIsGivenUp(t *testing.T) {
	r, shadow := mirrorRig(t)
	accept := r.loop.Accept
	r.loop.Accept = func(a netip.AddrPort, p *inmem.Peer) error {
		if a.Addr() == netip.MustParseAddr("10.9.9.9") {
			p.Limit(10)
		}
		return accept(a, p)
	}
	c := r.client()
	const size = 1 << 20
	c.Write("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n")
	r.loop.Run()
	for range size / 4096 {
		c.Write(strings.Repeat("x", 4096))
		r.loop.Run()
	}
	if got := strings.Count(r.server(t, 0).Read(), "x"); got < size {
		t.Errorf("the server got %d bytes of %d", got, size)
	}
	if !shadow(0).Reset || len(r.w.mirrors) != 0 {
		t.Errorf("reset %v, %d copies left; want the slow copy given up", shadow(0).Reset, len(r.w.mirrors))
	}
	r.server(t, 0).Write(reply)
	r.loop.Run()
	if got := c.Read(); !strings.HasSuffix(got, "ok") {
		t.Errorf("answer = %q", got)
	}
	r.settled(t)
}

func TestMirrorOfAClientThatLeavesInItsBodyIsReset(t *testing.T) {
	r, shadow := mirrorRig(t)
	c := r.client()
	c.Write("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
	r.loop.Run()
	c.Abort()
	r.loop.Run()
	if !shadow(0).Reset || len(r.w.mirrors) != 0 {
		t.Error("the copy of half a request was left")
	}
	r.settled(t)
}
