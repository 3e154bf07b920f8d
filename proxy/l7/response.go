package l7

import (
	"errors"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

var errEOF = errors.New("closed by the server")

// gather is how much of a body is copied behind a head, to be sent in one
// system call, instead of being sent in place.
const gather = 16 << 10

// receive takes bytes of the response.
func (s *session) receive(u *upstream, b []byte) {
	s.active = s.w.loop.Now()
	if s.phase == tunnel {
		s.conn.Send(b)
		if s.conn.Pending() > 0 {
			u.conn.Pause()
		}
		return
	}
	if len(u.in) > 0 {
		u.in = append(u.in, b...)
		b = u.in
	}
	out := s.w.out[:0]
	for !s.headDone {
		n, err := s.w.response.Parse(b, &s.w.responseLimits, s.isHead)
		if err != nil {
			s.logMalformed(err)
			s.send(out)
			s.failExchange(502)
			return
		}
		if n == 0 {
			u.in = append(u.in[:0], b...)
			s.send(out)
			if s.conn.Pending() > 0 {
				u.conn.Pause() // endless interim responses
			}
			return
		}
		if out, n = s.takeHead(out, &s.w.response, n); n < 0 {
			s.failExchange(502)
			return
		}
		b = b[n:]
		if s.phase == tunnel {
			s.send(append(out, b...))
			u.in = nil
			s.resume()
			return
		}
	}
	for !s.responseBody.Done() {
		data, n, err := s.responseBody.Next(b)
		if err != nil {
			s.logMalformed(err)
			s.send(out)
			s.failExchange(502)
			return
		}
		b = b[n:]
		switch {
		case s.framing == chunked:
			out = http1.AppendChunk(out, data)
		case len(out) > 0 && len(data) <= gather:
			out = append(out, data...)
		default:
			s.send(out)
			out = s.w.out[:0]
			s.conn.Send(data)
		}
		if n == 0 {
			break
		}
	}
	u.in = u.in[:0]
	done := s.responseBody.Done()
	if done && s.framing == chunked {
		out = http1.AppendLastChunk(out, s.responseBody.Trailer())
	}
	s.send(out)
	if done {
		s.finish(u, len(b) > 0)
		return
	}
	if s.conn.Pending() > 0 {
		u.conn.Pause()
	}
}

func (s *session) logMalformed(err *http1.Error) {
	if muted, log := s.server.LogFailure(time.Now()); log {
		s.w.log.Warn("a server's response is malformed", "listener", s.l.Name, "server", s.server.Name, "address", s.server.Address, "reason", err.Reason, "not_logged", muted)
	}
}

// send sends out, and keeps it as the worker's scratch.
func (s *session) send(out []byte) {
	if len(out) > 0 {
		s.responded = true
		s.conn.Send(out)
	}
	s.w.out = reclaimScratch(out)
}

// takeHead appends what the client gets for a head of n bytes, and decides
// how the body goes on. It returns -1 when the head cannot be.
func (s *session) takeHead(out []byte, res *http1.Response, n int) ([]byte, int) {
	switch {
	case res.Status == 101:
		if !s.upgrade || !http1.EqualFold(res.Upgrade, "websocket") {
			return out, -1
		}
		out = appendResponseHead(out, res, asIs, "Upgrade")
		s.phase = tunnel
		s.headDone = true
		s.w.loop.Arm(&s.timer, s.w.timeouts.Tunnel)
		return out, n
	case res.Status < 200:
		// Interim (RFC 9110 section 15.2); HTTP/1.0 knows none.
		if !s.client10 {
			out = appendResponseHead(out, res, asIs, "")
		}
		return out, n
	}
	s.headDone = true
	s.upKeep = res.KeepAlive
	s.responseEOF = res.Body == http1.UntilEOF
	s.framing = asIs
	switch {
	case res.Body == http1.Chunked, res.Body == http1.UntilEOF:
		s.framing = chunked
		if s.client10 {
			s.framing = untilEnd
			s.closeAfter = true
		}
	}
	// A server that answers before it has read all ends the exchange early:
	// the rest of the request must not be taken for another.
	s.closeAfter = s.closeAfter || !s.requestDone || s.l.Closing()
	connection := ""
	switch {
	case s.closeAfter:
		connection = "close"
	case s.client10:
		connection = "keep-alive"
	}
	s.responseBody.Reset(res.Body, res.ContentLength)
	return appendResponseHead(out, res, s.framing, connection), n
}

// finishTunnel: both sides have ended.
func (s *session) finishTunnel() {
	s.l.Requests.Add(1)
	u := s.up
	s.up = nil
	u.drop()
	s.conn.Close()
	s.end()
}
