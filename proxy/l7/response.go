package l7

import "github.com/pharos-lb/pharos/proxy/l7/http1"

// This file is a session's side of the response: how it is written in
// HTTP/1.1. What belongs together is gathered in the worker's out, to be sent
// in one system call.

// gather is how much of a body is copied behind a head, instead of being sent
// in place.
const gather = 16 << 10

// interim implements downstream. HTTP/1.0 knows no informational responses.
func (s *session) interim(res *http1.Response) {
	if !s.client10 {
		s.w.out = appendHead(s.w.out, res.Status, res.Reason, s.x.fieldsOut(res), asIs, "")
	}
}

// head implements downstream.
func (s *session) head(res *http1.Response) {
	s.framing = asIs
	if res.Body == http1.NoBody && !res.HasLength() && !s.isHead && res.Status != 204 && res.Status != 304 {
		s.framing = empty
	}
	if res.Body == http1.Chunked || res.Body == http1.UntilEOF {
		s.framing = chunked
		if s.client10 {
			s.framing, s.closeAfter = untilEnd, true
		}
	}
	// A server that answers before it has read all ends the exchange early:
	// the rest of the request must not be taken for another.
	s.closeAfter = s.closeAfter || !s.x.requestDone || s.l.Closing()
	s.w.out = appendHead(s.w.out, res.Status, res.Reason, s.x.fieldsOut(res), s.framing, s.connection())
}

// connection is the response's Connection field, empty for none.
func (s *session) connection() string {
	switch {
	case s.closeAfter:
		return "close"
	case s.client10:
		return "keep-alive"
	}
	return ""
}

// data implements downstream.
func (s *session) data(b []byte) {
	out := s.w.out
	switch {
	case s.phase != tunnel && s.framing == chunked:
		s.w.out = http1.AppendChunk(out, b)
	case len(out) > 0 && len(b) <= gather:
		s.w.out = append(out, b...)
	default:
		s.flush()
		s.conn.Send(b)
	}
}

// end implements downstream.
func (s *session) end(trailer []http1.Field) {
	if s.framing == chunked {
		s.w.out = http1.AppendLastChunk(s.w.out, trailer)
	}
}

// flush implements downstream.
func (s *session) flush() {
	if len(s.w.out) > 0 {
		s.conn.Send(s.w.out)
	}
	s.w.out = reclaimScratch(s.w.out)
}

// protocol implements downstream.
func (s *session) protocol() string {
	if s.client10 {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// pending implements downstream.
func (s *session) pending() int { return s.conn.Pending() }

// switched implements downstream.
func (s *session) switched(res *http1.Response) {
	s.w.out = appendHead(s.w.out, res.Status, res.Reason, s.x.fieldsOut(res), asIs, "Upgrade")
	s.phase = tunnel
	s.more() // the client may have spoken ahead
}

// endTunnel implements downstream: the server has closed its side.
func (s *session) endTunnel() {
	s.conn.CloseWrite()
	if s.clientEOF {
		s.finishTunnel()
	}
}

// finishTunnel: both sides have ended.
func (s *session) finishTunnel() {
	s.closeAfter = true
	s.x.complete(false)
}

// reply implements downstream.
func (s *session) reply(a *answer) {
	last := s.closeAfter || !s.body.Done() || s.l.Closing()
	s.closeAfter = last
	s.w.out = appendHead(s.w.out, a.status, []byte(reasonPhrase(a.status)), a.fields, asIs, s.connection())
	if !s.isHead {
		s.w.out = append(s.w.out, a.body...)
	}
	s.flush()
	if last {
		s.linger()
		return
	}
	s.next()
}

// cut implements downstream.
func (s *session) cut() {
	if s.phase != tunnel && s.framing != untilEnd {
		s.conn.Close() // the framing shows that something is missing
	} else {
		s.conn.Abort() // nothing but a reset does
	}
	s.leave()
}

// done implements downstream.
func (s *session) done() {
	s.served++
	switch {
	case !s.closeAfter:
		s.next()
	case s.body.Done() && len(s.in) == 0:
		s.conn.Close()
		s.leave()
	default:
		s.linger()
	}
}
