package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var acceptTests = map[string]func(*testing.T, Engine){
	"connections are spread":                testAcceptSpread,
	"stopping loses nobody":                 testAcceptStop,
	"what waits stays in the queue":         testAcceptQueue,
	"stopped as soon as started":            testAcceptStopAtOnce,
	"goes on after a lack of descriptors":   testAcceptNoDescriptor,
	"the peer's address is the client's":    testAcceptPeer,
	"the loop's end ends accepting as well": testAcceptEnd,
}

// echoes makes handlers that send back what they get, and close when the
// client does.
func echoes(t *testing.T, made func(d engine.Driver, c *check)) func(engine.Driver) func(engine.Conn) engine.Handler {
	return func(d engine.Driver) func(engine.Conn) engine.Handler {
		return func(conn engine.Conn) engine.Handler {
			c := newCheck(t)
			c.Conn = conn
			c.data = func(b []byte) { c.Send(b) }
			c.onEOF = func() { c.Close() }
			if made != nil {
				made(d, c)
			}
			return c
		}
	}
}

func (e Engine) loops(t *testing.T, n int) []engine.Driver {
	loops := make([]engine.Driver, n)
	for i := range loops {
		loops[i] = e.start(t).Driver
	}
	return loops
}

func noFailure(t *testing.T) func(error) {
	return func(err error) { t.Errorf("accepting failed: %v", err) }
}

func dialPeer(addr netip.AddrPort) (*net.TCPConn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), nil
}

func testAcceptSpread(t *testing.T, e Engine) {
	loops := e.loops(t, 3)
	ln, addr := listen(t)
	a := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, nil), noFailure(t))
	a.Start()
	const conns = 60
	for range conns {
		c, err := dialPeer(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := roundTrip(c, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range loops {
		if n := l.Load(); n < conns/3-6 || n > conns/3+6 {
			t.Errorf("a loop has %d connections of %d", n, conns)
		}
	}
	a.Stop()
}

// testAcceptStop hands one socket from acceptor to acceptor while clients
// connect: each is answered.
func testAcceptStop(t *testing.T, e Engine) {
	loops := e.loops(t, 2)
	ln, addr := listen(t)
	next := func() *engine.Acceptor {
		fd := descriptor(t, ln)
		a := engine.NewAcceptor(fd, loops, echoes(t, nil), noFailure(t))
		a.Start()
		return a
	}
	a := next()
	var stop atomic.Bool
	var served atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for !stop.Load() {
				c, err := dialPeer(addr)
				if err == nil {
					err = roundTrip(c, []byte("x"))
					_ = c.Close()
				}
				if err != nil {
					t.Errorf("a client was lost: %v", err)
					return
				}
				served.Add(1)
			}
		})
	}
	for i := range 20 {
		want := served.Load() + 50
		eventually(t, "50 clients more are served", func() bool { return served.Load() >= want || t.Failed() })
		if i%2 == 0 {
			b := next()
			a.Stop()
			a = b
		} else {
			a.Stop() // nobody accepts for a moment: they wait
			a = next()
		}
	}
	stop.Store(true)
	group.Wait()
	a.Stop()
	for _, l := range loops {
		eventually(t, "all connections are closed", func() bool { return l.Load() == 0 })
	}
}

func testAcceptQueue(t *testing.T, e Engine) {
	loops := e.loops(t, 2)
	ln, addr := listen(t)
	a := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, nil), noFailure(t))
	a.Start()
	a.Stop()
	c, err := dialPeer(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	server := accept(t, ln) // it waits in the queue still
	_ = server.Close()
}

func testAcceptStopAtOnce(t *testing.T, e Engine) {
	loops := e.loops(t, 2)
	for range 50 {
		ln, _ := listen(t)
		a := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, nil), noFailure(t))
		a.Start()
		a.Stop()
		b := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, nil), noFailure(t))
		b.Stop() // never started
		_ = ln.Close()
	}
}

func testAcceptNoDescriptor(t *testing.T, e Engine) {
	loops := e.loops(t, 1)
	ln, addr := listen(t)
	failed := make(chan error, 100)
	a := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, nil), func(err error) {
		select {
		case failed <- err:
		default:
		}
	})
	// A socket made before the limit, connected after it.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	withoutDescriptors(t, func() {
		a.Start() // io_uring looks at the limit once, as accepting begins
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(addr.Port())}); err != nil {
			t.Error(err)
		}
		if err := wait(t, "the failure", failed); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("failed with %v, want too many open files", err)
		}
	})
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if n, err := unix.Read(fd, b[:]); n != 1 || b[0] != 'x' {
		t.Errorf("read %d bytes, %v: the client that waited was not served", n, err)
	}
	if n := len(failed); n > 90 {
		t.Errorf("it failed %d times: it spins", n)
	}
	a.Stop()
}

func testAcceptPeer(t *testing.T, e Engine) {
	loops := e.loops(t, 2)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := listenOn(t, address)
		if err != nil {
			t.Logf("not tested on %s: %v", address, err)
			continue
		}
		peers := make(chan netip.AddrPort, 1)
		a := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, func(_ engine.Driver, c *check) { peers <- c.Peer() }), noFailure(t))
		a.Start()
		c, err := dialPeer(ln.Addr().(*net.TCPAddr).AddrPort())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(wait(t, "the connection", peers)), c.LocalAddr().String(); got != want {
			t.Errorf("peer %s, want %s", got, want)
		}
		_ = c.Close()
		a.Stop()
	}
}

// testAcceptEnd: whoever waits for an acceptor's end is not left waiting when
// the loop ends first.
func testAcceptEnd(t *testing.T, e Engine) {
	d, err := e()
	if err != nil {
		t.Fatal(err)
	}
	ln, _ := listen(t)
	a := engine.NewAcceptor(descriptor(t, ln), []engine.Driver{d}, echoes(t, nil), noFailure(t))
	var done atomic.Bool
	ended := make(chan error, 1)
	go func() { ended <- d.Run(done.Load) }()
	a.Start()
	l := &loop{d, t}
	l.do(func() {})
	stopped := make(chan struct{})
	l.do(func() {
		done.Store(true)
		go func() { a.Stop(); close(stopped) }()
	})
	if err := wait(t, "the loop's end", ended); err != nil {
		t.Error(err)
	}
	wait(t, "the acceptor's end", stopped)
}
