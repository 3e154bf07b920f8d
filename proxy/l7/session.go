package l7

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// phase is where a session stands with its client.
type phase uint8

const (
	awaitHead     phase = iota // between requests, or in the middle of a head
	awaitBody                  // the request's body is passed on
	awaitResponse              // the request is complete; the client may send more, which waits
	tunnel                     // upgraded: bytes are passed on both ways
	lingering                  // answered for the last time; what the client still sends is dropped
)

// session is one client connection, and the state machine of the requests
// that come over it, one after the other. It takes the client's events; those
// of the server come through its upstream.
type session struct {
	w     *worker
	l     *listener.Listener
	conn  engine.Conn
	index int // in w.sessions
	timer engine.Timer

	phase     phase
	in        []byte // what the client sent and is not used yet
	waiting   bool   // the timer runs for a head that has begun
	advancing bool   // advance is running
	clientEOF bool
	gone      bool
	served    int           // requests that were answered
	active    time.Duration // when anything moved last
	lingered  int           // bytes dropped while lingering

	peerText [40]byte // most addresses fit
	peer     []byte

	exchange
}

// exchange is one request and its response.
type exchange struct {
	inExchange bool
	generation uint32
	isHead     bool // the method
	replayable bool // may be sent once more: idempotent, and without a body
	client10   bool // the client speaks HTTP/1.0
	closeAfter bool // the connection ends after the response
	upgrade    bool // the client asked to switch protocols

	request     []byte // the head as it goes to the server, until the response begins
	requestBody http1.Body
	rechunk     bool // the request's body is chunked
	requestDone bool // all of it was sent

	selection pool.Selection
	server    *pool.Server
	up        *upstream
	timedOut  bool // the last connect failed for time
	tried     int
	retried   bool // a kept connection was dead, and a new one dialled
	moved     bool // a server broke a new one, and another was chosen

	responded    bool // anything of the response was sent to the client
	headDone     bool // its final head was
	upKeep       bool // the server keeps the connection
	responseBody http1.Body
	responseEOF  bool // it ends with the server's connection
	framing      outFraming
}

// maxAhead bounds what a client may send ahead of what is used of it.
const maxAhead = 16 << 10

// maxLinger bounds what is dropped while lingering.
const maxLinger = 1 << 20

// Opened implements [engine.Handler]; client connections are open from the
// beginning.
func (s *session) Opened() {}

// Data implements [engine.Handler].
func (s *session) Data(b []byte) {
	if s.gone {
		return
	}
	s.active = s.w.loop.Now()
	switch s.phase {
	case lingering:
		if s.lingered += len(b); s.lingered > maxLinger {
			s.conn.Abort()
			s.end()
		}
		return
	case tunnel:
		s.up.conn.Send(b)
		if s.up.conn.Pending() > 0 {
			s.conn.Pause()
		}
		return
	}
	if len(s.in) > 0 {
		s.in = append(s.in, b...)
		b = s.in
	}
	s.advance(b)
}

// advance uses as much of b as it can, and keeps the rest in s.in.
func (s *session) advance(b []byte) {
	s.advancing = true
	for !s.gone {
		n, more := s.step(b)
		b = b[n:]
		if !more {
			break
		}
	}
	s.advancing = false
	if s.gone || s.phase == lingering {
		s.in = nil
		return
	}
	if s.clientEOF && s.starved(len(b)) {
		s.conn.Close()
		s.end()
		return
	}
	if len(b) == 0 {
		s.in = reclaim(s.in)
		return
	}
	s.in = append(s.in[:0], b...)
	if s.phase != awaitHead && len(s.in) >= maxAhead {
		s.conn.Pause()
	}
}

// starved reports whether what has begun needs more from the client than the
// left bytes that could not be used.
func (s *session) starved(left int) bool {
	switch s.phase {
	case awaitHead:
		return true
	case awaitBody:
		return left == 0 || s.up != nil && s.up.opened && s.up.conn.Pending() == 0
	}
	return false
}

// step uses some of b, and reports whether another step may use more.
func (s *session) step(b []byte) (n int, more bool) {
	switch s.phase {
	case awaitHead:
		n, err := s.w.request.Parse(b, &s.w.requestLimits)
		switch {
		case err != nil:
			s.refuse(err.Status)
		case n > 0:
			s.begin(&s.w.request)
			return n, len(b) > n
		case len(b) > 0 && !s.waiting:
			// The clock of a head runs from its first byte, and is not wound
			// up by the next ones (slow loris).
			s.waiting = true
			s.w.loop.Arm(&s.timer, s.w.timeouts.Header)
		}
	case awaitBody:
		if s.up == nil || !s.up.opened {
			return 0, false
		}
		if s.up.conn.Pending() > 0 {
			s.conn.Pause()
			return 0, false
		}
		data, n, err := s.requestBody.Next(b)
		if err != nil {
			s.failExchange(err.Status)
			return n, false
		}
		s.sendBody(data)
		return n, n > 0
	case tunnel:
		if len(b) > 0 {
			s.up.conn.Send(b)
		}
		return len(b), false
	}
	return 0, false
}

// sendBody passes a piece of the request's body on, and its end.
func (s *session) sendBody(data []byte) {
	done := s.requestBody.Done()
	if s.rechunk {
		out := http1.AppendChunk(s.w.out[:0], data)
		if done {
			out = http1.AppendLastChunk(out, s.requestBody.Trailer())
		}
		s.up.conn.Send(out)
		s.w.out = reclaimScratch(out)
	} else {
		s.up.conn.Send(data)
	}
	if done {
		s.requestDone = true
		s.phase = awaitResponse
	}
}

func reclaimScratch(b []byte) []byte {
	if cap(b) > 256<<10 {
		return nil
	}
	return b[:0]
}

// Drained implements [engine.Handler]: the client took what was sent.
func (s *session) Drained() {
	if s.gone {
		return
	}
	s.active = s.w.loop.Now()
	if s.up != nil {
		s.up.conn.Resume()
	}
}

// upstreamDrained: the server took what was sent; more of the body may come.
func (s *session) upstreamDrained() {
	s.active = s.w.loop.Now()
	s.resume()
}

// resume uses what waits in s.in, and lets the client send more.
func (s *session) resume() {
	if len(s.in) > 0 && !s.advancing {
		s.advance(s.in)
	}
	if !s.gone && (s.phase == awaitHead || s.phase == tunnel || len(s.in) < maxAhead && (s.up == nil || s.up.conn.Pending() == 0)) {
		s.conn.Resume()
	}
}

// EOF implements [engine.Handler]. A client that has sent its request may
// close its side and wait for the response.
func (s *session) EOF() {
	if s.gone {
		return
	}
	s.clientEOF = true
	switch s.phase {
	case awaitResponse:
	case tunnel:
		s.up.conn.CloseWrite()
		if s.responseEOF {
			s.finishTunnel()
		}
	case lingering:
		s.conn.Close()
		s.end()
	case awaitBody, awaitHead:
		if s.starved(len(s.in)) {
			s.conn.Close()
			s.end()
		}
	}
}

// Closed implements [engine.Handler].
func (s *session) Closed(error) {
	if !s.gone {
		s.end()
	}
}

// end forgets the session, whose connection was closed before, and gives up
// the exchange under way.
func (s *session) end() {
	if s.gone {
		return
	}
	s.gone = true
	s.endExchange()
	s.w.loop.Disarm(&s.timer)
	s.w.forget(s)
	s.w.open.Add(-1)
	s.l.Open.Add(-1)
	s.in = nil
}

// expired: the present phase took too long.
func (s *session) expired() {
	if s.gone {
		return
	}
	switch s.phase {
	case awaitHead:
		if len(s.in) > 0 {
			s.refuse(408)
			return
		}
		s.conn.Close()
		s.end()
	case lingering:
		s.conn.Close()
		s.end()
	case awaitBody, awaitResponse, tunnel:
		limit := s.w.timeouts.Exchange
		if s.phase == tunnel {
			limit = s.w.timeouts.Tunnel
		}
		// The timer is not moved whenever a byte does: it looks, when it
		// fires, how long nothing did.
		if quiet := s.w.loop.Now() - s.active; quiet < limit {
			s.w.loop.Arm(&s.timer, limit-quiet)
			return
		}
		if s.phase == tunnel {
			s.conn.Abort()
			s.end()
			return
		}
		status := 504
		if s.phase == awaitBody {
			status = 408
		}
		s.failExchange(status)
	}
}

// refuse answers a request that was not understood, or not completed, and
// ends the connection: where the next request begins is unknown.
func (s *session) refuse(status int) {
	s.l.Requests.Add(1)
	s.l.Failed.Add(1)
	s.reply(status, false, true)
}

// reply sends a response of the proxy's own.
func (s *session) reply(status int, head, last bool) {
	connection := ""
	switch {
	case last:
		connection = "close"
	case s.client10:
		connection = "keep-alive"
	}
	s.w.out = appendReply(s.w.out[:0], status, head, connection)
	s.conn.Send(s.w.out)
	if last {
		s.linger()
	}
}

// linger ends the connection so that the client gets the last response: were
// it closed with bytes of the client's unread, the kernel would reset it, and
// the client might lose what it had not read (RFC 9112 section 9.6).
func (s *session) linger() {
	if s.gone {
		return
	}
	if s.clientEOF {
		s.conn.Close()
		s.end()
		return
	}
	s.phase = lingering
	s.in = nil
	s.conn.CloseWrite()
	s.conn.Resume()
	s.w.loop.Arm(&s.timer, s.w.timeouts.Linger)
}
