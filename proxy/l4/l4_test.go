package l4

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/site"
)

const patience = proxytest.Patience

func serve(t testing.TB, kind choice.Kind, idle time.Duration, server netip.AddrPort) (f *Forwarder, l *listener.Listener, address string) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	p := newPool("p", server)
	l = listener.New("front", &site.Site{Pool: p, Stream: site.Stream{Idle: idle}})
	s, err := listener.Bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := s.Dup()
	if err != nil {
		t.Fatal(err)
	}
	loops, err := l7.New(quiet, l7.DefaultTimeouts(), 2, l7.WithEngine(kind))
	if err != nil {
		t.Fatal(err)
	}
	f = New(quiet, nil, loops.Loops())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loops.Run(ctx) }()
	acceptor := loops.AcceptorFor(fd, l.Name, func(loop engine.Loop, c engine.Conn) engine.Handler { return f.Accept(loop, c, l) })
	acceptor.Start()
	t.Cleanup(func() {
		acceptor.Stop()
		_ = s.Close()
		now, cancelNow := context.WithCancel(context.Background())
		cancelNow()
		f.Drain(now, time.Now())
		if f.Open() != 0 {
			t.Errorf("%d connections are left after Drain", f.Open())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		f.Close()
	})
	return f, l, s.Address().String()
}

func TestIdleConnectionIsCut(t *testing.T) { proxytest.EachEngine(t, testIdleConnectionIsCut) }

func testIdleConnectionIsCut(t *testing.T, kind choice.Kind) {
	_, l, address := serve(t, kind, 50*time.Millisecond, proxytest.TCP(t, proxytest.Echo))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an idle connection reads %v, want a reset", err)
	}
	proxytest.Eventually(t, "the end of the connection counted", func() bool { return l.Requests.Load() > 0 })
	if l.Failed.Load() != 1 {
		t.Errorf("%d failed, want 1", l.Failed.Load())
	}
}

// One direction moves, the other is silent: that is not idle.
func TestOneWayTrafficKeepsAConnection(t *testing.T) {
	proxytest.EachEngine(t, testOneWayTrafficKeepsAConnection)
}

func testOneWayTrafficKeepsAConnection(t *testing.T, kind choice.Kind) {
	const idle = 300 * time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		for range 15 {
			if _, err := io.WriteString(c, "tick"); err != nil {
				return
			}
			time.Sleep(idle / 5) // the pace of the traffic is what is tested
		}
	}()
	_, _, address := serve(t, kind, idle, ln.Addr().(*net.TCPAddr).AddrPort())
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil || len(b) != 60 {
		t.Errorf("%d bytes, %v; want 60 and a clean end", len(b), err)
	}
}

// Enough to be spliced, both ways at once, with a slow reader, and a half-close
// at the end of each.
func TestBulkArrivesWhole(t *testing.T) { proxytest.EachEngine(t, testBulkArrivesWhole) }

func testBulkArrivesWhole(t *testing.T, kind choice.Kind) {
	_, l, address := serve(t, kind, patience, proxytest.TCP(t, proxytest.Echo))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	sent := make([]byte, 24<<20)
	for i := range sent {
		sent[i] = byte(i * i >> 7)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		wrote <- err
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v; want %d unchanged", len(got), err, len(sent))
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	proxytest.Eventually(t, "the connection ended", func() bool { return l.Open.Load() == 0 })
	if l.Failed.Load() != 0 {
		t.Errorf("%d failed, want none", l.Failed.Load())
	}
}

// A server that breaks off in the middle of a stream that is spliced: the
// client must see a reset, not an end.
func TestResetOfABulkStreamIsAReset(t *testing.T) {
	proxytest.EachEngine(t, testResetOfABulkStreamIsAReset)
}

func testResetOfABulkStreamIsAReset(t *testing.T, kind choice.Kind) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write(make([]byte, 16<<20))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}()
	_, _, address := serve(t, kind, patience, ln.Addr().(*net.TCPAddr).AddrPort())
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v; want a reset", n, err)
	}
}
