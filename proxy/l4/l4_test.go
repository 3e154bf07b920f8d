package l4

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

const patience = 20 * time.Second

func serve(t *testing.T, timeouts Timeouts, server netip.AddrPort) (f *Forwarder, l *listener.Listener, address string) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	p := pool.New("p", quiet, func() {})
	p.Update(pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{{Name: "a", Address: server, Weight: 1}}})
	l = listener.New("front", &site.Site{Pool: p})
	s, err := listener.Bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listener()
	if err != nil {
		t.Fatal(err)
	}
	f = New(quiet, timeouts)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Accept(ln, l)
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		_ = s.Close()
		<-done
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Drain(ctx, time.Now())
		if f.Open() != 0 {
			t.Errorf("%d connections are left after Drain", f.Open())
		}
	})
	return f, l, s.Address().String()
}

func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
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
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestIdleConnectionIsCut(t *testing.T) {
	_, l, address := serve(t, Timeouts{Connect: patience, Idle: 50 * time.Millisecond}, echo(t))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an idle connection reads %v, want a reset", err)
	}
	for deadline := time.Now().Add(patience); l.Requests.Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the end of the connection was not counted")
		}
		time.Sleep(time.Millisecond)
	}
	if l.Failed.Load() != 1 {
		t.Errorf("%d failed, want 1", l.Failed.Load())
	}
}

// One direction moves, the other is silent: that is not idle.
func TestOneWayTrafficKeepsAConnection(t *testing.T) {
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
	_, _, address := serve(t, Timeouts{Connect: patience, Idle: idle}, ln.Addr().(*net.TCPAddr).AddrPort())
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
