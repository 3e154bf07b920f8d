package l7

import (
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/pool"
)

func TestTimeoutsOfAPool(t *testing.T) {
	const margin = 50 * time.Millisecond
	tests := []struct {
		name  string
		act   func(t *testing.T, r *rig, c *inmem.Peer)
		limit time.Duration
		want  string
	}{
		{"a server that does not take the connection", func(_ *testing.T, r *rig, c *inmem.Peer) {
			r.loop.Mute = true
			c.Write(get)
		}, 500 * time.Millisecond, "HTTP/1.1 504 "},
		{"a server that does not answer", func(_ *testing.T, _ *rig, c *inmem.Peer) { c.Write(get) }, 3 * time.Second, "HTTP/1.1 504 "},
		{"a server that does not answer a body, from its end on", func(_ *testing.T, r *rig, c *inmem.Peer) {
			c.Write(strings.TrimSuffix(post, "o"))
			r.loop.Advance(10 * time.Second)
			c.Write("o")
			r.loop.Run()
		}, 3 * time.Second, "HTTP/1.1 504 "},
		{"a server that does not take the body", func(t *testing.T, r *rig, c *inmem.Peer) {
			c.Write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
			r.loop.Run()
			r.server(t, 0).Limit(100)
			c.Write(strings.Repeat("x", 50000))
			r.loop.Run()
		}, 3 * time.Second, "HTTP/1.1 504 "},
		{"a client that stops in its body is not the server's fault", func(_ *testing.T, _ *rig, c *inmem.Peer) {
			c.Write(strings.TrimSuffix(post, "o"))
		}, 60 * time.Second, "HTTP/1.1 408 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			r.terms(func(t *pool.Terms) { t.Connect, t.Response = 500*time.Millisecond, 3*time.Second })
			c := r.client()
			tt.act(t, r, c)
			r.loop.Advance(tt.limit - margin)
			if got := c.Read(); got != "" || c.EOF {
				t.Fatalf("before the limit: %q, closed %v", got, c.EOF)
			}
			r.loop.Advance(2 * margin)
			if got := c.Read(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("answer = %q, want %q", got, tt.want)
			}
			r.settled(t)
		})
	}
	t.Run("an unused connection", func(t *testing.T) {
		r := newRig()
		r.terms(func(t *pool.Terms) { t.Idle = time.Minute })
		c := r.client()
		c.Write(get)
		r.loop.Run()
		r.server(t, 0).Write(reply)
		r.loop.Advance(time.Minute - margin)
		if r.server(t, 0).EOF {
			t.Fatal("closed before its time")
		}
		r.loop.Advance(2 * margin)
		if !r.server(t, 0).EOF {
			t.Error("it is kept beyond its time")
		}
	})
}

// Calls of gRPC may be silent for longer than responses of other kinds.
func TestASilentCallOfGRPC(t *testing.T) {
	r := h2rig()
	c := r.client()
	c.Write("POST /s/m HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 0\r\n\r\n")
	r.loop.Run()
	s := r.server2(t, 0)
	s.head(1, false, ":status", "200", "content-type", "application/grpc-web+proto")
	s.flush()
	answer2(t, c, "200 OK\r\n")
	for range 50 * 12 {
		r.loop.Advance(5 * time.Second)
		s.frames()
		s.flush() // the answer to a PING
	}
	if got := c.Read(); got != "" || c.EOF {
		t.Fatalf("after 50 minutes: %q, closed %v", got, c.EOF)
	}
	for range 11 * 12 {
		r.loop.Advance(5 * time.Second)
		s.frames()
		s.flush()
	}
	if !c.EOF {
		t.Error("it is kept beyond the limit of tunnels")
	}
}
