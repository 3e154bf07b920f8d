package l7

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
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

// session is one HTTP/1.1 client connection: it reads the requests that come
// over it, one after the other, and writes their responses. It is the
// downstream of its exchange.
type session struct {
	w     *worker
	l     *listener.Listener
	conn  engine.Conn
	index int          // in w.sessions
	timer engine.Timer // of the client: its next head, its leaving

	phase     phase
	in        []byte // what the client sent and is not used yet
	waiting   bool   // the timer runs for a head that has begun
	advancing bool   // advance is running
	clientEOF bool
	gone      bool
	served    int           // requests that were answered
	active    time.Duration // when anything came last
	lingered  int           // bytes dropped while lingering

	// place is the connection's among those of its client, and clients who
	// counts them; nil: nobody does.
	place   shed.ClientSlot
	clients *shed.ClientLimiter

	m    *multiplex // not nil: HTTP/2 is spoken, and all but the connection is its
	x    exchange
	body http1.Body // the request's
	turn
}

// turn is what a session knows of one request.
type turn struct {
	client10   bool // the client speaks HTTP/1.0
	closeAfter bool // the connection ends after the response
	isHead     bool
	framing    outFraming // of the response
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
			// Not a reset of ours: the answer may still be on its way. What is
			// unread will have the kernel reset it.
			s.conn.Close()
			s.leave()
		}
		return
	case tunnel:
		s.tunnelled(b)
		return
	}
	if s.m != nil {
		s.m.feed(b)
		return
	}
	if len(s.in) > 0 {
		s.in = append(s.in, b...)
		b = s.in
	}
	if s.fresh() && s.upgraded(b) {
		return
	}
	s.advance(b)
}

// fresh reports whether nothing has been read of the connection.
func (s *session) fresh() bool { return s.served == 0 && s.phase == awaitHead && !s.waiting }

// upgraded looks whether a connection begins as HTTP/2 does (RFC 9113 section
// 3.3), and makes it one. It reports true if b was used, or waits for more.
func (s *session) upgraded(b []byte) bool {
	h := &s.l.Site().HTTP
	is, sure := preface(b)
	if !is || h.NoHTTP2 || h.Secure { // by TLS, ALPN has said so
		return false
	}
	if !sure {
		s.in = append(s.in[:0], b...)
		return true
	}
	first := append([]byte(nil), b...) // b may be s.in
	s.in = nil
	s.beginHTTP2()
	s.m.feed(first)
	return true
}

// tunnelled passes on what the client sends after a switch of protocols.
func (s *session) tunnelled(b []byte) {
	s.x.touch()
	s.x.bytesIn += int64(len(b))
	s.x.up.tunnel(b)
	if s.x.up.pending() > 0 {
		s.conn.Pause()
	}
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
		s.leave()
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
		return left == 0 || s.x.takesBody()
	}
	return false
}

// step uses some of b, and reports whether another step may use more.
func (s *session) step(b []byte) (n int, more bool) {
	switch s.phase {
	case awaitHead:
		n, err := s.w.request.Parse(b, &s.l.Site().HTTP.Limits)
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
			s.w.loop.Arm(&s.timer, s.l.Site().HTTP.Header)
		}
	case awaitBody:
		return s.passBody(b)
	case tunnel:
		if len(b) > 0 {
			s.tunnelled(b)
		}
		return len(b), false
	}
	return 0, false
}

func (s *session) begin(req *http1.Request) {
	s.waiting = false
	s.turn = turn{client10: req.Minor == 0, closeAfter: !req.KeepAlive, isHead: string(req.Method) == "HEAD"}
	s.body.Reset(req.Body, req.ContentLength)
	s.phase = awaitBody
	if s.body.Done() {
		s.phase = awaitResponse
	}
	s.w.loop.Disarm(&s.timer)
	s.x.begin(req)
}

// passBody passes a piece of the request's body on.
func (s *session) passBody(b []byte) (n int, more bool) {
	if !s.x.takesBody() {
		s.conn.Pause()
		return 0, false
	}
	data, n, err := s.body.Next(b)
	if err != nil {
		s.x.fail(err.Status, refusal(err.Status))
		return n, false
	}
	done := s.body.Done()
	if done {
		s.phase = awaitResponse
	}
	if len(data) > 0 || done {
		s.x.touch()
		s.x.body(data, done, s.body.Trailer())
	}
	return n, n > 0
}

// Drained implements [engine.Handler]: the client took what was sent.
func (s *session) Drained() {
	if s.gone {
		return
	}
	s.active = s.w.loop.Now()
	if s.m != nil {
		s.m.drained()
		return
	}
	s.x.drained()
}

// more implements downstream: it uses what waits in s.in, and lets the client
// send more.
func (s *session) more() {
	if len(s.in) > 0 && !s.advancing {
		s.advance(s.in)
	}
	if !s.gone && (s.phase == awaitHead || s.phase == tunnel || len(s.in) < maxAhead && (s.phase != awaitBody || s.x.takesBody())) {
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
	if s.m != nil && s.phase != lingering {
		s.conn.Close() // without a way to the client's windows, nothing goes on
		s.leave()
		return
	}
	switch s.phase {
	case awaitResponse:
	case tunnel:
		s.x.up.closeTunnel()
		if s.x.up.ended() {
			s.finishTunnel()
		}
	case lingering:
		s.conn.Close()
		s.leave()
	case awaitBody, awaitHead:
		if s.starved(len(s.in)) {
			s.conn.Close()
			s.leave()
		}
	}
}

// Closed implements [engine.Handler].
func (s *session) Closed(error) {
	if !s.gone {
		s.leave()
	}
}

// leave forgets the session, whose connection was closed before, and gives up
// the exchange under way.
func (s *session) leave() {
	if s.gone {
		return
	}
	s.gone = true
	s.x.cancel()
	if s.m != nil {
		s.m.close()
	}
	s.w.loop.Disarm(&s.timer)
	s.w.forget(s)
	if s.clients != nil {
		s.clients.Release(s.place)
	}
	if !s.l.Probe {
		s.w.open.Add(-1)
	}
	s.l.Open.Add(-1)
	s.in = nil
}

// expired: the client took too long.
func (s *session) expired() {
	switch {
	case s.gone:
	case s.m != nil && s.phase != lingering:
		s.m.sendAway(false)
		s.linger()
	case s.phase == awaitHead && len(s.in) > 0:
		s.refuse(408)
	default:
		s.conn.Close()
		s.leave()
	}
}

// refuse answers a request that was not understood, or not completed, and
// ends the connection: where the next request begins is unknown.
func (s *session) refuse(status int) {
	s.l.Requests.Add(1)
	s.l.Failed.Add(1)
	s.turn = turn{closeAfter: true}
	s.reply(s.w.failure(status, refusal(status), 0, &s.l.Site().HTTP))
}

// linger ends the connection so that the client gets the last response: were
// it closed with bytes of the client's unread, the kernel would reset it, and
// the client might lose what it had not read (RFC 9112 section 9.6).
func (s *session) linger() {
	if s.gone {
		return
	}
	if s.m != nil {
		s.m.close()
	}
	if s.clientEOF {
		s.conn.Close()
		s.leave()
		return
	}
	s.phase = lingering
	s.in = nil
	s.conn.CloseWrite()
	s.conn.Resume()
	s.w.loop.Arm(&s.timer, s.w.timeouts.Linger)
}

// next waits for the next request, which may have come already.
func (s *session) next() {
	if s.gone {
		return
	}
	s.phase = awaitHead
	s.x.request, s.x.again = reclaim(s.x.request), reclaim(s.x.again)
	// A listener that has begun to close since the head was sent changes nothing:
	// the client was told that the connection stays, and may be using it.
	if s.clientEOF && len(s.in) == 0 && !s.advancing {
		s.conn.Close()
		s.leave()
		return
	}
	s.w.loop.Arm(&s.timer, s.l.Site().HTTP.Idle)
	s.more()
}
