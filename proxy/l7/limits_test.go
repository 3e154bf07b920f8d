package l7

import (
	"hash/maphash"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/site"
)

func TestAClientOverItsRateGets429WithoutTouchingAServer(t *testing.T) {
	r := newRig()
	r.serve(func(s *site.Site) {
		s.Clients = shed.NewClientLimiter(shed.ClientConfig{Rate: 1, Burst: 2}, maphash.MakeSeed())
	})
	c := r.client()
	for range 2 {
		c.Write(get)
		r.loop.Run()
		r.server(t, 0).Write(reply)
		r.loop.Run()
		if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Fatalf("within the rate: %q", got)
		}
	}
	r.server(t, 0).Read()
	c.Write(get)
	r.loop.Run()
	got := c.Read()
	if !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, "\r\nRetry-After: 1\r\n") || !strings.Contains(got, `details="client-rate"`) {
		t.Errorf("over the rate: %q", got)
	}
	if r.server(t, 0).Read() != "" || len(r.servers) != 1 {
		t.Error("a server was asked")
	}
	r.loop.Advance(1100 * time.Millisecond)
	c.Write(get)
	r.loop.Run()
	r.server(t, 0).Write(reply)
	r.loop.Run()
	if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("after the wait: %q", got)
	}
	r.settled(t)
}

func TestAClientWithTooManyConnectionsIsClosed(t *testing.T) {
	r := newRig()
	r.serve(func(s *site.Site) {
		s.Clients = shed.NewClientLimiter(shed.ClientConfig{Connections: 2}, maphash.MakeSeed())
	})
	one, two, three := r.client(), r.client(), r.client()
	r.loop.Run()
	if one.EOF || two.EOF || !three.EOF {
		t.Fatalf("closed: %v %v %v, want the third alone", one.EOF, two.EOF, three.EOF)
	}
	one.Abort()
	r.loop.Run()
	next := r.client()
	r.loop.Run()
	if next.EOF {
		t.Error("the place of a connection that ended was not given back")
	}
	r.settled(t)
}
