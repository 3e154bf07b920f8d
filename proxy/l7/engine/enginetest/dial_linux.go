package enginetest

import (
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var dialTests = map[string]func(*testing.T, Engine){
	"refused":                        testRefused,
	"peer and opened":                testOpened,
	"what was sent before it opened": testSendBeforeOpen,
	"cancelled at once":              testDialCancelled,
	"hangs, and is given up":         testDialHangs,
	"without a descriptor":           testDialNoDescriptor,
}

func errorsIsAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func testRefused(t *testing.T, e Engine) {
	l := e.start(t)
	ln, addr := listen(t)
	_ = ln.Close()
	c := newCheck(t)
	l.do(func() {
		c.inside = true // "never from within Dial"
		c.Conn = l.Dial(addr, c)
		c.inside = false
	})
	if err := wait(t, "the refusal", c.closed); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed with %v, want refused", err)
	}
	l.do(func() { // all of this does nothing
		c.Conn.Send([]byte("x"))
		c.Conn.Pause()
		c.Conn.Resume()
		c.Conn.CloseWrite()
		c.Conn.Close()
		c.Conn.Abort()
	})
	l.empty()
}

func testOpened(t *testing.T, e Engine) {
	l := e.start(t)
	for _, network := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := listenOn(t, network)
		if err != nil {
			t.Logf("not tested on %s: %v", network, err)
			continue
		}
		addr := ln.Addr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
		c := newCheck(t)
		l.do(func() { c.Conn = l.Dial(addr, c) })
		peer := accept(t, ln)
		wait(t, "the connection to open", c.opened)
		l.do(func() {
			if c.Peer() != addr {
				t.Errorf("peer %v, want %v", c.Peer(), addr)
			}
			if l.Load() != 1 {
				t.Errorf("load %d, want 1", l.Load())
			}
			c.Close()
		})
		if b, err := io.ReadAll(peer); err != nil || len(b) > 0 {
			t.Errorf("read %q, %v", b, err)
		}
		l.empty()
	}
}

func testSendBeforeOpen(t *testing.T, e Engine) {
	for _, size := range []int{1, 1000, 100_000, 10 << 20} {
		l := e.start(t)
		ln, addr := listen(t)
		c := newCheck(t)
		payload := make([]byte, size)
		pattern(payload, 0)
		l.do(func() {
			c.Conn = l.Dial(addr, c)
			c.Send(payload[:1])
			c.Send(payload[1:])
			c.Send(nil)
			if n := c.Pending(); n != size {
				t.Errorf("%d bytes pending before the connection stands, want %d", n, size)
			}
			clear(payload) // Send has kept no reference
			c.CloseWrite()
		})
		peer := accept(t, ln)
		wait(t, "the connection to open", c.opened)
		if err := readStream(peer, size); err != nil {
			t.Error(err)
		}
		wait(t, "to be drained", c.drained)
	}
}

func testDialCancelled(t *testing.T, e Engine) {
	l := e.start(t)
	_, addr := listen(t)
	l.do(func() {
		for i := range 100 {
			c := newCheck(t)
			c.Conn = l.Dial(addr, c)
			if i%3 > 0 {
				c.Send([]byte("never sent"))
			}
			if i%2 == 0 {
				c.Close()
			} else {
				c.Abort()
			}
		}
	})
	l.settle()
	l.empty()
}

// testDialHangs dials a socket whose queue is full: the kernel drops what it
// gets.
func testDialHangs(t *testing.T, e Engine) {
	l := e.start(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	checks := make([]*check, 8)
	gaveUp := make(chan int, len(checks))
	l.do(func() {
		for i := range checks {
			c := newCheck(t)
			checks[i] = c
			c.Conn = l.Dial(addr, c)
			tm := &engine.Timer{}
			tm.Fire = func() {
				if i%2 == 0 {
					c.Abort()
				} else {
					c.Close()
				}
				gaveUp <- i
			}
			l.Arm(tm, 100*time.Millisecond)
		}
	})
	for range checks {
		wait(t, "giving up", gaveUp)
	}
	l.settle()
	l.empty()
	hung := 0
	for _, c := range checks {
		select {
		case <-c.opened:
		default:
			hung++
		}
	}
	if hung == 0 {
		t.Error("no dial hung: the test tests nothing")
	}
}

func testDialNoDescriptor(t *testing.T, e Engine) {
	l := e.start(t)
	_, addr := listen(t)
	c := newCheck(t)
	withoutDescriptors(t, func() {
		l.do(func() {
			c.inside = true
			c.Conn = l.Dial(addr, c)
			c.inside = false
		})
		if err := wait(t, "the failure", c.closed); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("closed with %v, want too many open files", err)
		}
	})
	l.empty()
}

// withoutDescriptors runs f while the process can open no file.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	f()
}
