package enginetest

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var churnTests = map[string]func(*testing.T, Engine){
	"thousands of clients in every way":     testChurn,
	"thousands of dials in every way":       testChurnDials,
	"a thousand stand idle and are all fed": testManyIdle,
}

func clients(t *testing.T) int {
	if testing.Short() {
		return 500
	}
	return 4000
}

// descriptors counts the open ones of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func testChurn(t *testing.T, e Engine) {
	loops := e.loops(t, 2)
	ln, addr := listen(t)
	a := engine.NewAcceptor(descriptor(t, ln), loops, echoes(t, func(_ engine.Driver, c *check) {
		c.data = func(b []byte) {
			switch b[0] {
			case 'c':
				c.Send(b)
				c.Close()
			case 'a':
				c.Abort()
			default:
				c.Send(b)
			}
		}
	}), noFailure(t))
	a.Start()
	before := descriptors(t)
	var group sync.WaitGroup
	const workers = 32
	for w := range workers {
		group.Go(func() {
			dice := rand.New(rand.NewPCG(6, uint64(w)))
			for range clients(t) / workers {
				churn(t, addr, dice)
			}
		})
	}
	group.Wait()
	for _, l := range loops {
		eventually(t, "all connections are closed", func() bool { return l.Load() == 0 })
	}
	eventually(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
	a.Stop()
}

// churn is one client: it sends a little or much, and one of the two ends it.
func churn(t *testing.T, addr netip.AddrPort, dice *rand.Rand) {
	c, err := dialPeer(addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	b := make([]byte, 1+dice.IntN(1<<dice.IntN(16)))
	b[0] = 'e'
	for range dice.IntN(3) {
		if err := roundTrip(c, b); err != nil {
			t.Errorf("echo of %d bytes: %v", len(b), err)
			return
		}
	}
	switch dice.IntN(6) {
	case 0: // at once
	case 1:
		reset(c)
	case 2:
		_, _ = c.Write(b)
		reset(c)
	case 3:
		_ = c.CloseWrite()
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("%d bytes and %v after the end", len(rest), err)
		}
	case 4:
		_, _ = io.WriteString(c, "c")
		if rest, err := io.ReadAll(c); err != nil || string(rest) != "c" {
			t.Errorf("%q and %v before the end", rest, err)
		}
	case 5:
		_, _ = io.WriteString(c, "a")
		if err := drainPeer(c); !isReset(err) {
			t.Errorf("%v, want a reset", err)
		}
	}
}

func testChurnDials(t *testing.T, e Engine) {
	l := e.start(t)
	ln, addr := listen(t)
	before := descriptors(t)
	var group sync.WaitGroup
	n := clients(t) / 2
	dice := rand.New(rand.NewPCG(8, 9))
	group.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			})
		}
	})
	ended := make(chan struct{}, n)
	for range n {
		l.do(func() {
			c := newCheck(t)
			c.Conn = l.Dial(addr, c)
			b := make([]byte, 1+dice.IntN(40_000))
			left := len(b)
			pattern(b, 0)
			c.Send(b)
			var s stream
			c.data = func(b []byte) {
				if err := s.check(b); err != nil {
					t.Error(err)
				}
				if left -= len(b); left > 0 {
					return
				}
				if dice.IntN(2) == 0 {
					c.Close()
				} else {
					c.Abort()
				}
				ended <- struct{}{}
			}
		})
	}
	for range n {
		wait(t, "an echo", ended)
	}
	l.empty()
	_ = ln.Close()
	group.Wait()
	eventually(t, "all descriptors are closed", func() bool { return descriptors(t) < before })
}

func testManyIdle(t *testing.T, e Engine) {
	l := e.start(t)
	ln, addr := listen(t)
	a := engine.NewAcceptor(descriptor(t, ln), []engine.Driver{l.Driver}, echoes(t, nil), noFailure(t))
	a.Start()
	conns := make([]io.ReadWriteCloser, 1000)
	for i := range conns {
		c, err := dialPeer(addr)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	// All at once, and more than the loop has buffers for.
	b := make([]byte, 20_000)
	for _, c := range conns {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	l.empty()
	a.Stop()
}
