package l7

import "github.com/pharos-lb/pharos/proxy/l7/engine"

// Buffered is the number of bytes that this process holds for the clients whose
// connections stand: what they have sent and could not be used yet, what they
// have not taken yet, and the heads of requests that are served. The kernel's
// buffers and handshakes are not in it. It waits for a round of each loop.
func (s *Server) Buffered() int {
	sums := make(chan int, len(s.loops))
	waiting := 0
	for _, l := range s.loops {
		if l.Post(func() { sums <- s.workers[l].buffered() }) {
			waiting++
		}
	}
	total := 0
	for range waiting {
		total += <-sums
	}
	return total
}

func (w *worker) buffered() int {
	n := 0
	for _, s := range w.sessions {
		n += cap(s.in) + held(s.conn) + s.x.buffered()
		if s.m == nil {
			continue
		}
		n += s.m.h2.Buffered()
		for _, t := range s.m.streams {
			n += cap(t.rest) + cap(t.ahead) + t.x.buffered()
		}
	}
	for _, i := range w.introductions {
		n += cap(i.in)
	}
	return n
}

func (x *exchange) buffered() int {
	n := cap(x.request) + cap(x.asked.text)
	if x.up != nil {
		n += x.up.pending()
	}
	return n
}

// held is what a connection holds: what was sent and not taken, and, with TLS,
// what came and was not used.
func held(c engine.Conn) int {
	if t, ok := c.(interface{ Held() int }); ok {
		return t.Held()
	}
	return c.Pending()
}
