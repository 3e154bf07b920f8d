package l7

import (
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// The wait for the body is timed from the head on, though that came when much
// more time was allowed for.
func TestABodyIsNotGivenTheTimeOfTheHead(t *testing.T) {
	r := newRig()
	terms := pool.DefaultTerms()
	terms.Response = time.Minute
	r.pool.SetTerms(&terms)
	r.serve(func(s *site.Site) { s.HTTP.Exchange = 5 * time.Second })
	c := r.client()
	c.Write(get)
	r.loop.Run()
	r.loop.Advance(12 * time.Second)
	r.server(t, 0).Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
	r.loop.Run()
	if got := c.Read(); got == "" || c.EOF {
		t.Fatalf("after 12 s: %q, closed %v", got, c.EOF)
	}
	r.loop.Advance(4 * time.Second)
	if c.EOF {
		t.Fatal("closed before the limit")
	}
	r.loop.Advance(5 * time.Second)
	if !c.EOF {
		t.Error("the rest of the body is still waited for")
	}
	r.settled(t)
}
