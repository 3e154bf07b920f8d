package choice

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

const patience = 20 * time.Second

// quiet is a connection whose timer sends an answer, and ends it.
type quiet struct {
	conn  engine.Conn
	timer engine.Timer
}

func (q *quiet) Opened()      {}
func (q *quiet) Data([]byte)  {}
func (q *quiet) Drained()     {}
func (q *quiet) EOF()         {}
func (q *quiet) Closed(error) {}

// An answer that a timer gives is followed by the connection's end, though
// nothing else happens on the loop. io_uring waited for the next event with it,
// whatever that was.
func TestAnAnswerFromATimerIsFollowedByItsEnd(t *testing.T) {
	for _, kind := range []Kind{Epoll, IOUring} {
		for how, end := range map[string]func(engine.Conn){"close": engine.Conn.Close, "half-close": engine.Conn.CloseWrite} {
			t.Run(string(kind)+", "+how, func(t *testing.T) {
				c, err := Make(kind)
				if err != nil {
					t.Skip(err)
				}
				l, err := c.New()
				if err != nil {
					t.Fatal(err)
				}
				var done atomic.Bool
				ended := make(chan error, 1)
				go func() { ended <- l.Run(done.Load) }()
				defer func() {
					done.Store(true)
					l.Post(func() {})
					if err := <-ended; err != nil {
						t.Errorf("Run = %v", err)
					}
				}()
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = ln.Close() }()
				l.Post(func() {
					q := &quiet{}
					q.timer.Fire = func() {
						q.conn.Send([]byte("late"))
						end(q.conn)
					}
					q.conn = l.Dial(ln.Addr().(*net.TCPAddr).AddrPort(), q)
					// Long enough for the loop to have come to rest.
					l.Arm(&q.timer, 100*time.Millisecond)
				})
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(patience))
				if b, err := io.ReadAll(conn); err != nil || string(b) != "late" {
					t.Errorf("got %q, %v; want the answer, and the end", b, err)
				}
			})
		}
	}
}
