package l4

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// trying gives p servers that failures take out at once, and for a moment; two
// of them, since an only one is never given up.
func trying(t *testing.T, p *pool.Pool, servers ...pool.ServerSpec) {
	t.Helper()
	p.Update(pool.Spec{FailOpen: true, Health: health.Config{MaxFails: 1, FailTimeout: 50 * time.Millisecond}, Servers: servers})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// A server is back as soon as a connection to it stands: this one lasts for as
// long as the test does.
func TestTCPServerIsBackWhileItsConnectionLasts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().(*net.TCPAddr).AddrPort()
	_ = ln.Close()
	_, l, front := serve(t, choice.Epoll, patience, address)
	p := l.Site().Pool
	trying(t, p, pool.ServerSpec{Name: "a", Address: address, Weight: 1}, pool.ServerSpec{Name: "b", Address: proxytest.TCP(t, proxytest.Echo), Weight: 1})
	connect := func() {
		c, err := net.Dial("tcp", front)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	proxytest.Eventually(t, "the dead server is out", func() bool { connect(); return !p.Members()[0].Health().Healthy })
	if ln, err = net.Listen("tcp", address.String()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	proxytest.Eventually(t, "it is back", func() bool { connect(); return p.Members()[0].Health().Healthy })
	if n := l.Requests.Load(); n != 0 {
		t.Errorf("%d connections have ended, and it was to be back before", n)
	}
}

// A flow tells by its first answer.
func TestUDPServerIsBackWhileItsFlowLasts(t *testing.T) {
	dead, conn := proxytest.UDP(t, "127.0.0.1:0", "a")
	_ = conn.Close()
	alive, _ := proxytest.UDP(t, "127.0.0.1:0", "b")
	b := newUDPBench(t, "127.0.0.1:0", patience, DefaultFlows, dead, alive)
	p := b.l.Site().Pool
	trying(t, p, pool.ServerSpec{Name: "a", Address: dead, Weight: 1}, pool.ServerSpec{Name: "b", Address: alive, Weight: 1})
	proxytest.Eventually(t, "the dead server is out", func() bool {
		_, _ = b.client("127.0.0.1").Write([]byte("x"))
		return !p.Members()[0].Health().Healthy
	})
	proxytest.UDP(t, dead.String(), "a")
	proxytest.Eventually(t, "it is back", func() bool {
		_, _ = b.client("127.0.0.1").Write([]byte("x"))
		return p.Members()[0].Health().Healthy
	})
	if n := b.l.Failed.Load(); n != 0 {
		t.Errorf("%d flows failed", n)
	}
}
