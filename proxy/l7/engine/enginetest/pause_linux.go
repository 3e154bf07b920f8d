package enginetest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var pauseTests = map[string]func(*testing.T, Engine){
	"holds data and the end back":          testPauseHolds,
	"within data, after every call":        testPauseInData,
	"storm":                                testPauseStorm,
	"bounds what is read":                  testPauseBounds,
	"resumed before anything came":         testPauseIdle,
	"a reset is told while paused":         testResetWhilePaused,
	"a reset is told after the end":        testResetAfterEOF,
	"the peer's end while paused is quiet": testEOFWhilePaused,
}

func testPauseHolds(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		got := 0
		first := make(chan struct{}, 1)
		l.do(func() {
			c.data = func(b []byte) {
				if got += len(b); got == len(b) {
					c.Pause()
					first <- struct{}{}
				}
			}
		})
		_, _ = io.WriteString(peer, "a")
		wait(t, "the first byte", first)
		_, _ = peer.Write(make([]byte, 100_000))
		_ = peer.CloseWrite()
		l.settle()
		l.do(func() {
			if got != 1 {
				t.Errorf("%d bytes came while paused, want 1", got)
			}
			c.Resume()
		})
		wait(t, "the end", c.eof)
		l.do(func() {
			if got != 100_001 {
				t.Errorf("%d bytes came, want 100001", got)
			}
		})
	}, nil)
}

func testPauseInData(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		const n = 3 << 20
		var s stream
		l.do(func() {
			c.data = func(b []byte) {
				if err := s.check(b); err != nil {
					t.Error(err)
				}
				c.Pause()
				l.Post(func() { c.Resume() })
			}
		})
		if err := errors.Join(writeStream(peer, n), peer.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		wait(t, "the end", c.eof)
		l.do(func() {
			if s.off != n {
				t.Errorf("%d bytes came, want %d", s.off, n)
			}
		})
	}, nil)
}

// testPauseStorm pauses and resumes at random, within and without Data, while
// much comes.
func testPauseStorm(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		const n = 8 << 20
		dice := rand.New(rand.NewPCG(4, 5)) // the loop's
		var s stream
		throw := func() {
			for range dice.IntN(4) {
				if dice.IntN(2) == 0 {
					c.Pause()
				} else {
					c.Resume()
				}
			}
		}
		var tm engine.Timer
		tm.Fire = func() {
			if !c.over {
				c.Resume()
				throw()
				l.Arm(&tm, 0)
			}
		}
		l.do(func() {
			l.Arm(&tm, 0)
			c.data = func(b []byte) {
				if err := s.check(b); err != nil {
					t.Error(err)
				}
				throw()
				if dice.IntN(3) == 0 {
					l.Post(func() { c.Resume(); throw() })
				}
			}
		})
		if err := errors.Join(writeStream(peer, n), peer.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		wait(t, "the end", c.eof)
		l.do(func() {
			if s.off != n {
				t.Errorf("%d bytes came, want %d", s.off, n)
			}
			c.Close()
		})
	}, nil)
}

// testPauseBounds: a peer that writes to a paused connection is held up.
func testPauseBounds(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() { c.Pause() })
		_ = peer.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := peer.Write(make([]byte, 256<<20))
		if err == nil {
			t.Errorf("%d bytes were taken by a paused connection", n)
		}
	}, nil)
}

// testPauseIdle is what a released connection to a server goes through.
func testPauseIdle(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		came := make(chan string, 10)
		l.do(func() { c.data = func(b []byte) { came <- string(b) } })
		for range 3 {
			l.do(func() { c.Pause() })
			l.settle()
			l.do(func() { c.Resume() })
			_, _ = io.WriteString(peer, "x")
			wait(t, "data after a pause", came)
			l.do(func() { c.Pause(); c.Resume(); c.Pause(); c.Resume() })
			_, _ = io.WriteString(peer, "y")
			wait(t, "data after two pauses", came)
		}
	}, nil)
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func testResetWhilePaused(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() { c.Pause() })
		_, _ = io.WriteString(peer, "never read")
		l.settle()
		reset(peer)
		if err := wait(t, "the reset", c.closed); !isReset(err) {
			t.Errorf("closed with %v, want a reset", err)
		}
	}, nil)
}

func testResetAfterEOF(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		_ = peer.CloseWrite()
		wait(t, "the end", c.eof)
		l.settle()
		l.do(func() { c.Send([]byte("unread")) }) // so that closing resets
		l.settle()
		reset(peer)
		if err := wait(t, "the reset", c.closed); !isReset(err) {
			t.Errorf("closed with %v, want a reset", err)
		}
	}, nil)
}

func testEOFWhilePaused(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() { c.Pause() })
		_ = peer.CloseWrite()
		for range 5 {
			l.settle()
		}
		select {
		case err := <-c.closed:
			t.Fatalf("closed with %v", err)
		default:
		}
		var before, after syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
		began := time.Now()
		for range 5 {
			l.settle()
		}
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
		if took := time.Since(began); used > took*9/10 {
			t.Errorf("%v of %v were busy: it spins", used, took)
		}
		l.do(func() { c.Resume() })
		wait(t, "the end", c.eof)
		l.do(func() { c.Close() })
	}, nil)
}
