// Package enginetest holds an engine to what package engine promises, over
// real sockets: each documented property of a loop and its connections is a
// test, which every engine passes.
package enginetest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

// patience bounds every wait for something that must happen.
const patience = 60 * time.Second

// Engine makes loops of the engine under test.
type Engine func() (engine.Driver, error)

// Run runs all tests.
func Run(t *testing.T, e Engine) {
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, Engine)
	}{
		{"loop", loopTests},
		{"dial", dialTests},
		{"stream", streamTests},
		{"pause", pauseTests},
		{"close", closeTests},
		{"accept", acceptTests},
		{"churn", churnTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) { test(t, e) })
			}
		})
	}
}

// loop is a loop that runs until the test ends.
type loop struct {
	engine.Driver
	t *testing.T
}

func (e Engine) start(t *testing.T) *loop {
	t.Helper()
	d, err := e()
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	ended := make(chan error, 1)
	go func() { ended <- d.Run(done.Load) }()
	t.Cleanup(func() {
		done.Store(true)
		d.Post(func() {})
		if err := wait(t, "the loop's end", ended); err != nil {
			t.Errorf("Run = %v", err)
		}
		if d.Post(func() {}) {
			t.Error("a loop that has ended takes posts")
		}
		if n := d.Load(); n != 0 {
			t.Errorf("%d connections are counted on a loop that has ended", n)
		}
	})
	return &loop{d, t}
}

// do runs f on the loop and waits for it.
func (l *loop) do(f func()) {
	l.t.Helper()
	ran := make(chan struct{})
	if !l.Post(func() { f(); close(ran) }) {
		l.t.Fatal("the loop has ended")
	}
	wait(l.t, "the loop to run something", ran)
}

// settle lets the loop go round a few times: what would happen wrongly has
// had its chance then.
func (l *loop) settle() {
	l.t.Helper()
	for range 5 {
		l.do(func() {})
	}
	ran := make(chan struct{})
	tm := &engine.Timer{Fire: func() { close(ran) }}
	l.do(func() { l.Arm(tm, 30*time.Millisecond) })
	wait(l.t, "a timer", ran)
}

// empty waits until the loop has no connection.
func (l *loop) empty() {
	l.t.Helper()
	eventually(l.t, "no connection is counted", func() bool { return l.Load() == 0 })
}

func wait[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case v = <-c:
	case <-timeout.C:
		t.Fatalf("waited %v in vain: %s", patience, what)
	}
	return v
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// check is a connection and its handler, which holds the engine to the order
// of callbacks that it promises. All of it is the loop's, except the
// channels.
type check struct {
	engine.Conn
	t *testing.T

	inside bool // a callback is running
	over   bool // none may come any more
	ended  bool // EOF came
	paused bool

	data    func(b []byte)
	onEOF   func()
	drain   func()
	opened  chan struct{}
	eof     chan struct{}
	drained chan struct{} // of one place: the last time is enough
	closed  chan error
}

func newCheck(t *testing.T) *check {
	return &check{
		t: t, data: func([]byte) {}, onEOF: func() {}, drain: func() {},
		opened: make(chan struct{}, 1), eof: make(chan struct{}, 1), drained: make(chan struct{}, 1), closed: make(chan error, 1),
	}
}

func (c *check) enter(what string) func() {
	if c.over {
		c.t.Errorf("%s was called after the end", what)
	}
	if c.inside {
		c.t.Errorf("%s was called from within another callback", what)
	}
	c.inside = true
	return func() { c.inside = false }
}

// Opened implements [engine.Handler].
func (c *check) Opened() {
	defer c.enter("Opened")()
	c.opened <- struct{}{}
}

// Data implements [engine.Handler].
func (c *check) Data(b []byte) {
	defer c.enter("Data")()
	if len(b) == 0 || c.ended || c.paused {
		c.t.Errorf("Data(%d bytes) after EOF: %v, while paused: %v", len(b), c.ended, c.paused)
	}
	c.data(b)
}

// Drained implements [engine.Handler].
func (c *check) Drained() {
	defer c.enter("Drained")()
	if n := c.Pending(); n != 0 {
		c.t.Errorf("Drained with %d bytes pending", n)
	}
	select {
	case c.drained <- struct{}{}:
	default:
	}
	c.drain()
}

// EOF implements [engine.Handler].
func (c *check) EOF() {
	defer c.enter("EOF")()
	if c.ended || c.paused {
		c.t.Errorf("EOF after EOF: %v, while paused: %v", c.ended, c.paused)
	}
	c.ended = true
	c.eof <- struct{}{}
	c.onEOF()
}

// Closed implements [engine.Handler].
func (c *check) Closed(err error) {
	defer c.enter("Closed")()
	if err == nil {
		c.t.Error("Closed without an error")
	}
	c.over = true
	c.closed <- err
}

func (c *check) Pause()  { c.paused = true; c.Conn.Pause() }
func (c *check) Resume() { c.paused = false; c.Conn.Resume() }
func (c *check) Close()  { c.over = true; c.Conn.Close() }
func (c *check) Abort()  { c.over = true; c.Conn.Abort() }

// listen returns a listener on loopback.
func listen(t *testing.T) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener), ln.Addr().(*net.TCPAddr).AddrPort()
}

// dialled has the loop dial, and returns the peer's end.
func (l *loop) dialled(c *check) *net.TCPConn {
	l.t.Helper()
	ln, addr := listen(l.t)
	l.do(func() { c.Conn = l.Dial(addr, c) })
	peer := accept(l.t, ln)
	wait(l.t, "the connection to open", c.opened)
	return peer
}

// adopted gives the loop an accepted connection, and returns the peer's end.
func (l *loop) adopted(c *check) *net.TCPConn {
	l.t.Helper()
	ln, addr := listen(l.t)
	peer, err := net.Dial("tcp", addr.String())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = peer.Close() })
	fd := descriptor(l.t, accept(l.t, ln))
	l.do(func() {
		l.Adopt(fd, addr, func(conn engine.Conn) engine.Handler {
			c.Conn = conn
			return c
		})
	})
	return peer.(*net.TCPConn)
}

// both runs a test for dialled and for adopted connections.
func both(t *testing.T, e Engine, test func(t *testing.T, l *loop, c *check, peer *net.TCPConn), prepare func(l *loop, c *check)) {
	for _, dialled := range []bool{true, false} {
		t.Run(map[bool]string{true: "dialled", false: "adopted"}[dialled], func(t *testing.T) {
			l, c := e.start(t), newCheck(t)
			if prepare != nil {
				prepare(l, c)
			}
			if dialled {
				test(t, l, c, l.dialled(c))
			} else {
				test(t, l, c, l.adopted(c))
			}
		})
	}
}

func accept(t *testing.T, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	_ = ln.SetDeadline(time.Now().Add(patience))
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// descriptor takes the socket out of Go's hands.
func descriptor(t *testing.T, c interface{ File() (*os.File, error) }) int {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if closer, ok := c.(net.Conn); ok {
		_ = closer.Close()
	}
	return fd
}

// pattern fills b with the bytes at off of an endless stream that repeats
// itself in no distance that anything has.
func pattern(b []byte, off int) {
	for i := range b {
		n := off + i
		b[i] = byte(n*7 + n>>8 + n>>13*11)
	}
}

// stream checks that bytes come in pattern's order.
type stream struct{ off int }

func (s *stream) check(b []byte) error {
	for i, got := range b {
		n := s.off + i
		if want := byte(n*7 + n>>8 + n>>13*11); got != want {
			return fmt.Errorf("byte %d of the stream is %#x, want %#x", n, got, want)
		}
	}
	s.off += len(b)
	return nil
}
