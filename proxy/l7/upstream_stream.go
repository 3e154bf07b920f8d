package l7

import (
	"fmt"
	"net/http"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/l7/http2"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// serverStream is one request on an HTTP/2 connection to a server: an
// upstream.
type serverStream struct {
	m     *mux
	hs    *http2.Stream // nil until the connection stands
	x     *exchange     // nil: it has ended
	index int           // in m.streams

	reused bool // the connection had served before
	spoke  bool // anything of a response has come

	// The request's body: what the windows have not let through, and whether
	// it is the last of it.
	rest []byte
	last bool
	late []http1.Field
	// credit is what came of the response, and the client has not taken: the
	// server's window is not given back for it.
	credit int
}

// outgoingLimits let pass what we wrote ourselves, of a request that was
// within its listener's limits.
var outgoingLimits = http1.Limits{Fields: 1 << 14, Line: 4 << 20, Head: 8 << 20}

// maxSpareServerStreams bounds what a loop keeps of them.
const maxSpareServerStreams = 256

func (w *worker) takeServerStream() *serverStream {
	if n := len(w.spare); n > 0 {
		s := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return s
	}
	return &serverStream{}
}

// recycle keeps s, which was detached, for another exchange.
func (w *worker) recycle(s *serverStream) {
	*s = serverStream{rest: reclaim(s.rest)}
	if len(w.spare) < maxSpareServerStreams {
		w.spare = append(w.spare, s)
	}
}

// detach takes s off its connection and its exchange.
func (s *serverStream) detach() {
	m := s.m
	end := len(m.streams) - 1
	m.streams[s.index] = m.streams[end]
	m.streams[s.index].index = s.index
	m.streams[end] = nil
	m.streams = m.streams[:end]
	if s.hs != nil {
		s.hs.User = nil
	}
	s.x = nil
	if end > 0 || m.gone || m.h2 == nil {
		return
	}
	m.idle = m.w.loop.Now()
	if m.leaving {
		m.w.loop.Arm(&m.timer, 0) // not now: the connection may be on the stack
		return
	}
	m.w.loop.Arm(&m.timer, min(m.terms.Idle, pingAfter))
}

// start implements upstream. The head is read again: how it was written, and
// what is spoken here, are two things.
func (s *serverStream) start(head []byte) {
	w := s.m.w
	r := &w.outgoing
	if _, err := r.Parse(head, &outgoingLimits); err != nil {
		w.log.Error("a request that was written cannot be read", "listener", s.x.l.Name, "error", err)
		s.refuse()
		return
	}
	req := &w.outgoing2
	*req = http2.Request{Method: r.Method, Scheme: schemeHTTP, Authority: r.Host, Path: r.Target, Fields: r.Fields, Trailers: true}
	if s.m.terms.TLS != nil {
		req.Scheme = schemeHTTPS
	}
	if s.hs = s.m.h2.NewStream(req, r.Body == http1.NoBody); s.hs == nil {
		s.refuse() // there was room
		return
	}
	s.hs.User = s
	w.flushStreams()
}

var (
	schemeHTTP  = []byte("http")
	schemeHTTPS = []byte("https")
)

// refuse ends s soon: its exchange is in the middle of something.
func (s *serverStream) refuse() {
	x := s.x
	s.m.w.loop.Post(func() {
		if s.x == x && s.hs == nil {
			s.refused()
		}
	})
}

// body implements upstream.
func (s *serverStream) body(b []byte, done bool, trailer []http1.Field) {
	if s.hs == nil {
		return
	}
	if done {
		s.last, s.late = true, cloneFields(nil, trailer)
	}
	s.push(b)
	s.m.w.flushStreams()
}

// push sends what the windows let through, and keeps the rest.
func (s *serverStream) push(b []byte) {
	end := s.last && len(s.late) == 0
	if len(s.rest) == 0 {
		b = b[s.hs.WriteData(b, end):]
	}
	if len(b) > 0 {
		s.rest = append(s.rest, b...)
		return
	}
	if len(s.late) > 0 && len(s.rest) == 0 {
		s.hs.WriteTrailers(s.late)
	}
}

// Nothing switches protocols here.

func (s *serverStream) tunnel([]byte) {}
func (s *serverStream) closeTunnel()  {}
func (s *serverStream) ended() bool   { return false }

func (s *serverStream) pending() int { return len(s.rest) }
func (s *serverStream) open() bool   { return s.hs != nil }

// kept implements upstream. That the server ended this stream alone is no
// sign of a connection that was dead before.
func (s *serverStream) kept() bool  { return s.reused && s.m.failure != nil }
func (s *serverStream) heard() bool { return s.spoke }

// resume implements upstream.
func (s *serverStream) resume() {
	if s.credit > 0 && s.hs != nil {
		s.hs.Consume(s.credit)
		s.credit = 0
		s.m.w.flushStreams()
	}
}

// finish implements upstream.
func (s *serverStream) finish(_, whole bool) {
	w := s.m.w
	s.m.served = true
	s.m.ceiling = min(s.m.ceiling+1, maxStreams)
	if !whole || len(s.rest) > 0 {
		s.hs.Reset(http2.Cancel) // what is left of the request is not wanted
	}
	s.detach()
	w.recycle(s)
	w.flushStreams()
}

// abort implements upstream.
func (s *serverStream) abort() {
	w, m := s.m.w, s.m
	if s.hs != nil {
		s.hs.Reset(http2.Cancel)
		if s.x.outcome == pool.TimedOut && w.loop.Now()-m.last >= m.terms.Response {
			m.leaving = true // it may be dead: the next request had better not wait there
		}
	}
	s.detach()
	w.recycle(s)
	w.flushStreams()
}

// failed: the connection could not be made, or broke, or the stream did.
func (s *serverStream) failed(err error) {
	w, x := s.m.w, s.x
	s.detach()
	x.upstreamFailed(s, err)
	w.recycle(s)
}

// refused: the server did nothing with the request.
func (s *serverStream) refused() {
	w, m, x := s.m.w, s.m, s.x
	m.learn() // before it is decided where this one goes next
	s.detach()
	if m.ceiling = len(m.streams); m.ceiling == 0 {
		m.leaving = true // what it has not taken alone it will not take later
		w.loop.Arm(&m.timer, 0)
	}
	w.recycle(s)
	x.upstreamRefused()
}

// of returns what is known of a stream; nil if its exchange has ended.
func (m *mux) of(hs *http2.Stream) *serverStream {
	s, _ := hs.User.(*serverStream)
	if s == nil || s.hs != hs {
		return nil
	}
	return s
}

// answers takes what comes on the streams of a mux: an [http2.ClientHandler].
type answers mux

// Response implements [http2.ClientHandler].
func (a *answers) Response(hs *http2.Stream, res *http2.Response, end bool) {
	m := (*mux)(a)
	s := m.of(hs)
	if s == nil {
		return
	}
	m.heard()
	w, x := m.w, s.x
	s.spoke = true
	x.touch()
	w.reason = append(w.reason[:0], http.StatusText(res.Status)...)
	r := &w.response
	ended := end || res.Status < 200 || x.isHead || res.Status == 204 || res.Status == 304
	r.Make(res.Status, w.reason, res.Fields, res.ContentLength, ended)
	if res.Status < 200 {
		// There is no window for them: a client that does not read misses those
		// that come beside what it has.
		if x.down.pending() <= maxAhead {
			x.interim(r)
			x.down.flush()
		}
		return
	}
	x.head(r)
	if end {
		s.complete(nil)
	} else {
		x.down.flush()
	}
}

// Data implements [http2.Handler].
func (a *answers) Data(hs *http2.Stream, b []byte, end bool) {
	m := (*mux)(a)
	s := m.of(hs)
	if s == nil {
		hs.Consume(len(b)) // of a response that nobody wants any more
		return
	}
	m.heard()
	x := s.x
	x.touch()
	if len(b) > 0 {
		x.data(b)
	}
	if end {
		s.complete(nil)
		return
	}
	x.down.flush()
	switch {
	case s.hs != hs: // it has ended meanwhile
	case x.down.pending() > 0:
		s.credit += len(b)
	default:
		hs.Consume(len(b) + s.credit)
		s.credit = 0
	}
}

// Trailers implements [http2.Handler].
func (a *answers) Trailers(hs *http2.Stream, fields []http1.Field) {
	m := (*mux)(a)
	if s := m.of(hs); s != nil {
		m.heard()
		s.x.touch()
		s.complete(fields)
	}
}

// complete: the response has ended.
func (s *serverStream) complete(trailer []http1.Field) {
	x := s.x
	x.down.end(trailer)
	x.down.flush()
	if s.x == x {
		x.complete(true)
	}
}

// Reset implements [http2.Handler].
func (a *answers) Reset(hs *http2.Stream, why http2.Reset) {
	m := (*mux)(a)
	s := m.of(hs)
	switch {
	case s == nil:
	case m.failure != nil:
		s.failed(m.failure)
	case why.Unprocessed:
		s.refused()
	case why.Code == http2.HTTP11Required && why.Err == nil && !s.spoke:
		s.x.plain = true
		s.refused()
	case why.Err != nil:
		s.failed(why.Err)
	default:
		s.failed(fmt.Errorf("stream reset by the server: %v", why.Code))
	}
}

// Writable implements [http2.Handler].
func (a *answers) Writable(hs *http2.Stream) {
	s := (*mux)(a).of(hs)
	if s == nil || len(s.rest) == 0 {
		return
	}
	n := hs.WriteData(s.rest, s.last && len(s.late) == 0)
	if n < len(s.rest) {
		s.rest = s.rest[:copy(s.rest, s.rest[n:])]
		return
	}
	s.rest = s.rest[:0]
	if len(s.late) > 0 {
		hs.WriteTrailers(s.late)
	}
	s.x.touch()
	s.x.down.more()
}

// GoAway implements [http2.ClientHandler].
func (a *answers) GoAway(code http2.Code) {
	m := (*mux)(a)
	m.leaving = true
	if code == http2.NoError {
		return
	}
	if muted, log := m.server.LogFailure(time.Now()); log {
		m.w.log.Warn("a server sent its connection away", "server", m.server.Name, "address", m.server.Address, "code", code.String(), "not_logged", muted)
	}
}
