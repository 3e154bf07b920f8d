package l7

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// begin takes a request up.
func (s *session) begin(req *http1.Request) {
	idempotent := false
	switch string(req.Method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		idempotent = true
	}
	upgrade := string(req.Method) == "GET" && req.Body == http1.NoBody && http1.EqualFold(req.Upgrade, "websocket")
	request := appendRequestHead(s.request[:0], req, s.peer, upgrade)
	s.requestBody.Reset(req.Body, req.ContentLength)
	body, response := s.requestBody, s.responseBody
	s.exchange = exchange{
		inExchange:   true,
		generation:   s.w.generation.Load(),
		isHead:       string(req.Method) == "HEAD",
		replayable:   idempotent && req.Body == http1.NoBody && !upgrade,
		client10:     req.Minor == 0,
		closeAfter:   !req.KeepAlive,
		upgrade:      upgrade,
		request:      request,
		requestBody:  body,
		rechunk:      req.Body == http1.Chunked,
		requestDone:  body.Done(),
		responseBody: response,
		selection:    s.l.Pool().Select(0),
	}
	s.phase = awaitBody
	if s.requestDone {
		s.phase = awaitResponse
	}
	s.waiting = false
	s.active = s.w.loop.Now()
	s.w.inFlight.Add(1)
	s.w.loop.Arm(&s.timer, s.w.timeouts.Exchange)
	s.tryNext()
}

// freshEnough is how long a kept connection may have been idle to carry a
// request that cannot be sent again: the longer, the likelier the server is
// closing it at this moment.
const freshEnough = time.Second

// tryNext sends the request to the next server that may take it.
func (s *session) tryNext() {
	server := s.selection.Next()
	if server == nil {
		switch {
		case s.tried == 0:
			s.failExchange(503)
		case s.timedOut:
			s.failExchange(504)
		default:
			s.failExchange(502)
		}
		return
	}
	s.tried++
	s.charge(server)
	within := freshEnough
	if s.replayable {
		within = 0
	}
	if u := s.w.takeIdle(server, within); u != nil {
		u.session = s
		s.up = u
		s.sendRequest(u)
		return
	}
	s.up = s.w.dial(server, s)
}

// charge counts the exchange on server instead of the one before.
func (s *session) charge(server *pool.Server) {
	if s.server != nil {
		s.server.InFlight.Add(-1)
	}
	s.server = server
	if server != nil {
		server.InFlight.Add(1)
	}
}

// connected: a new connection to the server stands.
func (s *session) connected(u *upstream) {
	s.sendRequest(u)
	s.resume() // the body may be waiting
}

func (s *session) sendRequest(u *upstream) {
	s.active = s.w.loop.Now()
	s.server.Connections.Add(1)
	u.conn.Send(s.request)
}

// upstreamEOF: the server has closed its side.
func (s *session) upstreamEOF(u *upstream) {
	switch {
	case s.phase == tunnel:
		s.conn.CloseWrite()
		s.responseEOF = true
		if s.clientEOF {
			s.finishTunnel()
		}
	case s.headDone && s.responseEOF:
		if s.framing == chunked {
			s.w.out = http1.AppendLastChunk(s.w.out[:0], nil)
			s.conn.Send(s.w.out)
		}
		s.finish(u, false)
	default:
		u.drop()
		s.upstreamFailed(u, errEOF)
	}
}

// upstreamFailed: the connection to the server, u, could not be made, or
// broke. It was dropped already.
func (s *session) upstreamFailed(u *upstream, err error) {
	s.up = nil
	switch {
	case s.gone:
	case s.phase == tunnel:
		s.conn.Abort()
		s.end()
	case !u.opened:
		s.timedOut = err == errTimeout
		if muted, log := s.server.LogFailure(time.Now()); log {
			s.w.log.Warn("connecting to a server failed", "listener", s.l.Name, "server", s.server.Name, "address", s.server.Address, "error", err, "not_logged", muted)
		}
		s.tryNext() // nothing was sent
	case s.responded || len(u.in) > 0 || !s.replayable:
		s.failExchange(502)
	case u.reused && !s.retried:
		// A kept connection that the server closed as the request was on its
		// way (RFC 9112 section 9.3.1): a new one tells how the server is.
		s.retried = true
		s.up = s.w.dial(s.server, s)
	case !s.moved:
		// It took the connection and broke it without a byte: it is dying.
		// Another one may answer; one more try, not a walk through the pool.
		s.moved = true
		s.tryNext()
	default:
		s.failExchange(502)
	}
}

// failExchange gives up the exchange: with an answer of the proxy's own, or,
// if the server's has begun, by ending the connection.
func (s *session) failExchange(status int) {
	s.l.Requests.Add(1)
	s.l.Failed.Add(1)
	if s.headDone {
		framed := s.framing != untilEnd
		s.endExchange()
		if framed {
			s.conn.Close() // the framing shows that something is missing
		} else {
			s.conn.Abort() // nothing but a reset does
		}
		s.end()
		return
	}
	head := s.isHead
	last := s.closeAfter || !s.requestDone || s.l.Closing()
	s.endExchange()
	s.reply(status, head, last)
	if !last {
		s.next()
	}
}

// endExchange settles what the exchange holds; a connection to the server
// that it still has was not finished with.
func (s *session) endExchange() {
	if !s.inExchange {
		return
	}
	s.inExchange = false
	s.w.inFlight.Add(-1)
	s.charge(nil)
	if u := s.up; u != nil {
		s.up = nil
		u.abort()
	}
}

// finish: the response is complete.
func (s *session) finish(u *upstream, leftover bool) {
	s.l.Requests.Add(1)
	s.served++
	s.up = nil
	u.session = nil
	keep := s.upKeep && s.requestDone && !leftover && !s.responseEOF && u.conn.Pending() == 0
	if !s.requestDone {
		u.abort()
	} else if !keep {
		u.drop()
	}
	s.endExchange()
	s.responseBody.Reset(http1.NoBody, 0)
	if keep {
		s.w.release(u)
	}
	switch {
	case !s.closeAfter:
		s.next()
	case s.requestDone && len(s.in) == 0:
		s.conn.Close()
		s.end()
	default:
		s.linger()
	}
}

// next waits for the next request, which may have come already.
func (s *session) next() {
	if s.gone {
		return
	}
	s.phase = awaitHead
	s.request = reclaim(s.request)
	if (s.clientEOF || s.l.Closing()) && len(s.in) == 0 && !s.advancing {
		s.conn.Close()
		s.end()
		return
	}
	s.w.loop.Arm(&s.timer, s.w.timeouts.Idle)
	s.resume()
}
