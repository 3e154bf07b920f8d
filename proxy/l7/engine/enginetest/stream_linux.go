package enginetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var streamTests = map[string]func(*testing.T, Engine){
	"echo of much":                      testEcho,
	"both ways at once through a relay": testRelay,
	"pieces keep their order":           testPieces,
	"a peer that does not read":         testStuck,
	"data is good for the call only":    testDataOwnership,
	"ping-pong of many":                 testPingPong,
}

func listenOn(t *testing.T, address string) (*net.TCPListener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener), nil
}

func roundTrip(c net.Conn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// writeStream writes n bytes of the pattern in pieces of changing size.
func writeStream(c net.Conn, n int) error {
	sizes := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, 200_000)
	for off := 0; off < n; {
		piece := b[:min(1+sizes.IntN(1<<sizes.IntN(18)), n-off)]
		pattern(piece, off)
		if _, err := c.Write(piece); err != nil {
			return fmt.Errorf("at byte %d: %w", off, err)
		}
		off += len(piece)
	}
	return nil
}

// readStream reads the pattern to the end, which must be after n bytes.
func readStream(c net.Conn, n int) error {
	var s stream
	b := make([]byte, 64<<10)
	for {
		k, err := c.Read(b)
		if bad := s.check(b[:k]); bad != nil {
			return bad
		}
		switch {
		case err == io.EOF && s.off == n:
			return nil
		case err != nil:
			return fmt.Errorf("after %d bytes of %d: %w", s.off, n, err)
		}
	}
}

// relay passes what c gets on to other, as a session does: it pauses c while
// other takes nothing.
func relay(t *testing.T, c, other *check, most int) {
	c.data = func(b []byte) {
		other.Send(b)
		if n := other.Pending(); n > 0 {
			if n > most {
				t.Errorf("%d bytes are held, want at most %d", n, most)
			}
			c.Pause()
		}
	}
	other.drain = func() { c.Resume() }
	c.onEOF = func() { other.CloseWrite() }
}

const much = 24 << 20

// held bounds what a relay may hold. An engine may have received a batch
// before it hears of the pause.
const held = 2 << 20

func testEcho(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		written := make(chan error, 1)
		go func() { written <- errors.Join(writeStream(peer, much), peer.CloseWrite()) }()
		if err := readStream(peer, much); err != nil {
			t.Error(err)
		}
		if err := wait(t, "writing", written); err != nil {
			t.Error(err)
		}
		wait(t, "the peer's end", c.eof)
	}, func(_ *loop, c *check) { relay(t, c, c, held) })
}

func testRelay(t *testing.T, e Engine) {
	l := e.start(t)
	const pairs = 4
	var group sync.WaitGroup
	for range pairs {
		client, server := newCheck(t), newCheck(t)
		relay(t, client, server, held)
		relay(t, server, client, held)
		// Neither is read from until the other end stands.
		ln, addr := listen(t)
		from := l.adoptedPaused(client)
		l.do(func() { server.Conn = l.Dial(addr, server) })
		to := accept(t, ln)
		wait(t, "the connection to open", server.opened)
		l.do(func() { client.Resume() })
		for _, ends := range [][2]*net.TCPConn{{from, to}, {to, from}} {
			group.Go(func() {
				if err := errors.Join(writeStream(ends[0], much/pairs), ends[0].CloseWrite()); err != nil {
					t.Error(err)
				}
			})
			group.Go(func() {
				if err := readStream(ends[1], much/pairs); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
}

// adoptedPaused is adopted, with a handler that pauses as it is made.
func (l *loop) adoptedPaused(c *check) *net.TCPConn {
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
			c.Pause()
			return c
		})
	})
	return peer.(*net.TCPConn)
}

// testPieces sends pieces of all sizes on several connections in one round,
// in turn, from one buffer that is written over after each.
func testPieces(t *testing.T, e Engine) {
	l := e.start(t)
	const conns, rounds, pieces = 5, 20, 30
	checks := make([]*check, conns)
	peers := make([]*net.TCPConn, conns)
	for i := range checks {
		checks[i] = newCheck(t)
		peers[i] = l.adopted(checks[i])
	}
	sizes := rand.New(rand.NewPCG(2, 3))
	sent := make([]int, conns) // the loop's
	got := make([]int, conns)
	var group sync.WaitGroup
	for i := range peers {
		group.Go(func() {
			var s stream
			b := make([]byte, 100_000)
			for {
				n, err := peers[i].Read(b)
				if bad := s.check(b[:n]); bad != nil {
					t.Errorf("connection %d: %v", i, bad)
					return
				}
				if err != nil {
					if err != io.EOF {
						t.Errorf("connection %d: %v", i, err)
					}
					got[i] = s.off
					return
				}
			}
		})
	}
	b := make([]byte, 100_000)
	for range rounds {
		l.do(func() {
			for range pieces {
				i := sizes.IntN(conns)
				piece := b[:1+sizes.IntN(1<<sizes.IntN(17))]
				pattern(piece, sent[i])
				checks[i].Send(piece)
				sent[i] += len(piece)
				clear(piece)
			}
		})
	}
	l.do(func() {
		for _, c := range checks {
			c.Close()
		}
	})
	group.Wait()
	for i := range got {
		if got[i] != sent[i] {
			t.Errorf("connection %d: %d bytes came, want %d", i, got[i], sent[i])
		}
	}
}

// testStuck sends, little at a time, until the kernel takes no more; then the
// peer reads it all.
func testStuck(t *testing.T, e Engine) {
	for _, size := range []int{100, 5000, 30_000, 200_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
				b := make([]byte, size)
				sent, pending := 0, 0
				for pending < 3*size {
					l.do(func() {
						for range max(4, 40_000/size) {
							pattern(b, sent)
							c.Send(b)
							sent += size
						}
						pending = c.Pending()
					})
				}
				l.do(func() { c.CloseWrite(); c.Send([]byte("nothing goes after the end")) })
				if err := readStream(peer, sent); err != nil {
					t.Error(err)
				}
				wait(t, "to be drained", c.drained)
			}, nil)
		})
	}
}

// testDataOwnership writes over what it was given, as the handler may.
func testDataOwnership(t *testing.T, e Engine) {
	both(t, e, func(t *testing.T, l *loop, c *check, peer *net.TCPConn) {
		var s stream
		l.do(func() {
			c.data = func(b []byte) {
				if err := s.check(b); err != nil {
					t.Error(err)
				}
				clear(b)
			}
		})
		if err := errors.Join(writeStream(peer, 4<<20), peer.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		wait(t, "the end", c.eof)
		l.do(func() {
			if s.off != 4<<20 {
				t.Errorf("%d bytes came", s.off)
			}
		})
	}, nil)
}

func testPingPong(t *testing.T, e Engine) {
	l := e.start(t)
	const conns, turns = 100, 100
	var group sync.WaitGroup
	for i := range conns {
		c := newCheck(t)
		c.data = func(b []byte) { c.Send(b) }
		peer := l.adopted(c)
		group.Go(func() {
			b, want := make([]byte, 1+i*37), make([]byte, 1+i*37)
			for turn := range turns {
				pattern(b, turn*i)
				pattern(want, turn*i)
				if err := roundTrip(peer, b); err != nil || string(b) != string(want) {
					t.Errorf("turn %d: %v, unchanged: %v", turn, err, string(b) == string(want))
					return
				}
			}
		})
	}
	group.Wait()
}
