package enginetest

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

var closeTests = map[string]func(*testing.T, Engine){
	"what is pending is sent":          testClosePending,
	"a small answer and the end":       testCloseAfterSend,
	"from every callback":              testCloseInCallbacks,
	"within a bounded time":            testCloseBounded,
	"abort resets":                     testAbort,
	"abort drops what is pending":      testAbortPending,
	"half-close, ours":                 testCloseWrite,
	"half-close, the peer's":           testPeerCloseWrite,
	"an answer before a reset is read": testAnswerBeforeReset,
	"much before a reset is read":      testDataBeforeReset,
	"closed is told in the end":        testClosedInTheEnd,
	"no more is taken after the end":   testNothingAfterClose,
}

func testClosePending(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		const n = 10 << 20
		b := make([]byte, n)
		pattern(b, 0)
		l.do(func() {
			c.Send(b[:100])
			c.Send(b[100:])
			c.Close()
			clear(b)
		})
		if err := readStream(peer, n); err != nil {
			t.Error(err)
		}
		l.empty()
	}, nil)
}

func testCloseAfterSend(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() { c.data = func(b []byte) { c.Send(b); c.Close() } })
		_, _ = io.WriteString(peer, "request")
		if b, err := io.ReadAll(peer); err != nil || string(b) != "request" {
			t.Errorf("read %q, %v", b, err)
		}
		l.empty()
	}, nil)
}

// testCloseInCallbacks relies on check: nothing may be called afterwards.
func testCloseInCallbacks(t *testing.T, e Engine) {
	ends := map[string]func(c *check){
		"close": func(c *check) { c.Close() },
		"abort": func(c *check) { c.Abort() },
	}
	for name, end := range ends {
		for _, when := range []string{"data", "eof", "drained"} {
			t.Run(name+" in "+when, func(t *testing.T) {
				both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
					done := make(chan struct{})
					l.do(func() {
						finish := func() {
							c.Send([]byte("bye"))
							end(c)
							close(done)
						}
						switch when {
						case "data":
							c.data = func([]byte) { finish() }
						case "eof":
							c.onEOF = finish
						case "drained":
							c.drain = finish
							c.Send(make([]byte, 16<<20))
						}
					})
					go func() { _, _ = io.Copy(io.Discard, peer) }()
					_, _ = peer.Write(make([]byte, 500_000))
					_ = peer.CloseWrite()
					wait(t, when, done)
					l.empty()
					l.settle()
				}, nil)
			})
		}
	}
}

func testCloseBounded(t *testing.T, e Engine) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	l, c := e.start(t), newCheck(t)
	peer := l.adopted(c)
	l.do(func() { c.Send(make([]byte, 32<<20)); c.Close() })
	l.empty() // the peer has read nothing
	if err := drainPeer(peer); !isReset(err) {
		t.Errorf("ended with %v, want a reset", err)
	}
}

func testAbort(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() { c.Abort() })
		if err := drainPeer(peer); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended with %v, want a reset", err)
		}
		l.empty()
	}, nil)
}

func testAbortPending(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() { c.Send(make([]byte, 32<<20)) })
		l.settle()
		l.do(func() {
			if c.Pending() == 0 {
				t.Error("nothing is pending: the test tests nothing")
			}
			c.Abort()
			if n := c.Pending(); n != 0 {
				t.Errorf("%d bytes are pending after Abort", n)
			}
		})
		if err := drainPeer(peer); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended with %v, want a reset", err)
		}
		l.empty()
	}, nil)
}

func testCloseWrite(t *testing.T, e Engine) {
	for _, n := range []int{0, 1, 1000, 8 << 20} {
		both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
			b := make([]byte, n)
			pattern(b, 0)
			came := make(chan string, 1)
			l.do(func() {
				c.data = func(b []byte) { came <- string(b) }
				c.Send(b)
				c.CloseWrite()
				c.CloseWrite()
				c.Send([]byte("too late"))
			})
			if err := readStream(peer, n); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(peer, "still heard")
			if got := wait(t, "data after the end was sent", came); got != "still heard" {
				t.Errorf("got %q", got)
			}
			_ = peer.Close()
			wait(t, "the peer's end", c.eof)
			l.do(func() { c.Close() })
			l.empty()
		}, nil)
	}
}

func testPeerCloseWrite(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		const n = 8 << 20
		b := make([]byte, n)
		pattern(b, 0)
		_, _ = io.WriteString(peer, "last words")
		_ = peer.CloseWrite()
		wait(t, "the peer's end", c.eof)
		l.settle()
		l.do(func() {
			c.Send(b[:10])
			c.Send(b[10:])
			c.Close()
		})
		if err := readStream(peer, n); err != nil {
			t.Error(err)
		}
		l.empty()
	}, nil)
}

// testAnswerBeforeReset: a server may answer and close before it has read
// all: the answer must be read although sending fails.
func testAnswerBeforeReset(t *testing.T, e Engine) {
	for _, size := range []int{1000, 100_000} {
		both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
			got := ""
			held, free := make(chan struct{}), make(chan struct{})
			l.do(func() { c.data = func(b []byte) { got += string(b) } })
			l.Post(func() { // is held up while the peer answers and resets
				close(held)
				<-free
				c.Send(make([]byte, size))
			})
			wait(t, "the loop", held)
			_, _ = io.WriteString(peer, "answer")
			reset(peer)
			close(free)
			if err := wait(t, "the reset", c.closed); !isReset(err) {
				t.Errorf("closed with %v, want a reset", err)
			}
			l.do(func() {
				if got != "answer" {
					t.Errorf("read %q, want the answer", got)
				}
			})
		}, nil)
	}
}

func testDataBeforeReset(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		var s stream
		held, free := make(chan struct{}), make(chan struct{})
		l.do(func() {
			c.data = func(b []byte) {
				if err := s.check(b); err != nil {
					t.Error(err)
				}
			}
		})
		l.Post(func() { close(held); <-free })
		wait(t, "the loop", held)
		const n = 50_000 // fits the socket's buffer
		if err := writeStream(peer, n); err != nil {
			t.Fatal(err)
		}
		reset(peer)
		close(free)
		if err := wait(t, "the reset", c.closed); !isReset(err) {
			t.Errorf("closed with %v, want a reset", err)
		}
		l.do(func() {
			if s.off != n {
				t.Errorf("read %d bytes before the reset, want %d", s.off, n)
			}
		})
	}, nil)
}

// testClosedInTheEnd: a failure is told at the end of a round, never from
// within a call.
func testClosedInTheEnd(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		held, free := make(chan struct{}), make(chan struct{})
		l.Post(func() {
			close(held)
			<-free
			c.inside = true // a callback from within is seen
			for range 3 {
				c.Send(make([]byte, 100_000))
				c.Send([]byte("small"))
			}
			c.inside = false
		})
		wait(t, "the loop", held)
		reset(peer)
		close(free)
		if err := wait(t, "the reset", c.closed); !isReset(err) {
			t.Errorf("closed with %v, want a reset", err)
		}
		l.empty()
	}, nil)
}

func testNothingAfterClose(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		l.do(func() {
			c.Send([]byte("all"))
			c.Close()
			c.Conn.Send([]byte("more"))
			c.Conn.Pause()
			c.Conn.Resume()
			c.Conn.CloseWrite()
			c.Conn.Close()
		})
		if b, err := io.ReadAll(peer); err != nil || string(b) != "all" {
			t.Errorf("read %q, %v", b, err)
		}
		l.empty()
	}, nil)
}
