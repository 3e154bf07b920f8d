package l7

import (
	"bytes"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/l7/http2"
)

// multiplex is an HTTP/2 client connection: the session of the connection
// passes what comes on to it. It is the streams' handler.
type multiplex struct {
	w       *worker
	s       *session
	h2      *http2.ServerConn
	streams []*stream // with an exchange
	leaving bool      // GOAWAY was sent
}

// beginHTTP2 makes the session one of HTTP/2, from the connection's first byte
// on.
func (s *session) beginHTTP2() {
	config := http2.ServerConfig()
	config.Limits = s.l.Site().HTTP.Limits
	m := &multiplex{w: s.w, s: s}
	m.h2 = http2.NewServerConn(s.w.shared2, s.conn, &config, m)
	s.m = m
	s.phase = awaitHead
	s.w.loop.Arm(&s.timer, s.l.Site().HTTP.Header)
}

// preface reports whether b begins as HTTP/2 does, and whether it is certain.
func preface(b []byte) (is, sure bool) {
	n := min(len(b), len(http2.Preface))
	return string(b[:n]) == http2.Preface[:n], n == len(http2.Preface) || string(b[:n]) != http2.Preface[:n]
}

// feed takes bytes of the client's.
func (m *multiplex) feed(b []byte) {
	m.w.depth++
	err := m.h2.Feed(b, m.w.loop.Now())
	m.w.depth--
	m.after(err)
}

// after looks what is to be done once the connection has been given something.
func (m *multiplex) after(err *http2.Error) {
	s := m.s
	switch {
	case s.gone:
	case err != nil:
		s.linger() // the GOAWAY is on its way
	case m.h2.Finished():
		s.conn.Close()
		s.leave()
	case len(m.streams) == 0 && !s.timer.Armed():
		m.w.loop.Arm(&s.timer, s.l.Site().HTTP.Idle)
	}
}

func (m *multiplex) drained() {
	m.w.depth++
	m.after(m.h2.Drained(m.w.loop.Now()))
	for i := len(m.streams) - 1; i >= 0; i-- {
		if i < len(m.streams) && m.s.conn.Pending() == 0 {
			m.streams[i].resumed()
		}
	}
	m.w.depth--
	m.w.flushStreams()
}

// sendAway tells the client to go elsewhere with its next requests. again: a
// second time, for one that does not answer.
func (m *multiplex) sendAway(again bool) {
	if !m.leaving || again {
		m.leaving = true
		m.h2.GoAway()
		m.w.flushStreams()
	}
	m.after(nil)
}

// close ends all streams, since the connection has ended or will.
func (m *multiplex) close() {
	for len(m.streams) > 0 {
		t := m.streams[len(m.streams)-1]
		t.x.cancel()
		t.forget()
	}
	m.h2.Closed()
}

// Refused implements [http2.ServerHandler].
func (m *multiplex) Refused(*http2.Error) {
	m.s.l.Requests.Add(1)
	m.s.l.Failed.Add(1)
}

// Request implements [http2.ServerHandler].
func (m *multiplex) Request(hs *http2.Stream, req *http2.Request, end bool) {
	m.w.loop.Disarm(&m.s.timer)
	t := m.w.takeStream()
	t.m, t.hs, t.index = m, hs, len(m.streams)
	hs.User = t
	m.streams = append(m.streams, t)
	t.isHead = string(req.Method) == "HEAD"
	t.whole = end
	t.x.w, t.x.l, t.x.down, t.x.peer = m.w, m.s.l, t, m.s.x.peer
	t.x.front, t.x.local = m.s.conn, m.s.x.local
	r := &m.w.request
	r.Make(req.Method, req.Path, req.Authority, req.Fields, req.ContentLength, end, req.Continue)
	t.x.begin(r)
}

// Data implements [http2.Handler].
func (m *multiplex) Data(hs *http2.Stream, b []byte, end bool) {
	if t, ok := hs.User.(*stream); ok && t.hs == hs {
		t.receive(b, end, nil)
		return
	}
	hs.Consume(len(b)) // of a request that was answered already
}

// Trailers implements [http2.Handler].
func (m *multiplex) Trailers(hs *http2.Stream, fields []http1.Field) {
	if t, ok := hs.User.(*stream); ok && t.hs == hs {
		t.receive(nil, true, fields)
	}
}

// Reset implements [http2.Handler].
func (m *multiplex) Reset(hs *http2.Stream, _ http2.Reset) {
	if t, ok := hs.User.(*stream); ok && t.hs == hs {
		t.x.cancel()
		t.forget()
	}
}

// Writable implements [http2.Handler].
func (m *multiplex) Writable(hs *http2.Stream) {
	if t, ok := hs.User.(*stream); ok && t.hs == hs {
		t.writable()
	}
}

// stream is one request of an HTTP/2 client and its response: a downstream.
type stream struct {
	m     *multiplex
	hs    *http2.Stream
	index int // in m.streams
	x     exchange

	// The request's body: what came and the server has not taken, and how
	// much of it the client's window is still to be given back for.
	ahead   []byte
	whole   bool // all of it has come
	trailer []http1.Field
	credit  int

	// The response.
	isHead bool
	begun  bool   // its head was sent
	ended  bool   // all of it was given to the stream
	held   []byte // a view of the last piece, until flush
	rest   []byte // what the windows have not let through
	last   bool   // nothing comes after held and rest but late
	late   []http1.Field
	after  bool // done was called; the rest is still to go
}

// takeStream returns a stream to use, maybe one that was used before.
func (w *worker) takeStream() *stream {
	if n := len(w.streams); n > 0 {
		t := w.streams[n-1]
		w.streams = w.streams[:n-1]
		return t
	}
	t := &stream{}
	t.x.timer.Fire = t.expired
	return t
}

// maxSpareStreams bounds what a loop keeps of them.
const maxSpareStreams = 256

// forget takes the stream out, and keeps it for another. The exchange has
// ended.
func (t *stream) forget() {
	m := t.m
	end := len(m.streams) - 1
	m.streams[t.index] = m.streams[end]
	m.streams[t.index].index = t.index
	m.streams[end] = nil
	m.streams = m.streams[:end]
	t.hs.User = nil
	m.w.loop.Disarm(&t.x.timer)
	request, text, rest, ahead := reclaim(t.x.request), reclaim(t.x.asked.text), reclaim(t.rest), reclaim(t.ahead)
	t.x.again, t.x.front = reclaim(t.x.again), nil
	w := m.w
	t.m, t.hs, t.credit, t.trailer, t.late, t.held = nil, nil, 0, nil, nil, nil
	t.whole, t.isHead, t.begun, t.ended, t.last, t.after = false, false, false, false, false, false
	t.x.progress, t.x.request, t.x.asked.text, t.rest, t.ahead = progress{}, request, text, rest, ahead
	if len(w.streams) < maxSpareStreams {
		w.streams = append(w.streams, t)
	}
	if len(m.streams) == 0 && !m.s.gone {
		w.loop.Arm(&m.s.timer, m.s.l.Site().HTTP.Idle)
	}
}

// receive takes a piece of the request's body.
func (t *stream) receive(b []byte, end bool, trailer []http1.Field) {
	t.whole = end
	if !t.x.active {
		t.hs.Consume(len(b))
		return
	}
	if len(t.ahead) > 0 || !t.x.takesBody() {
		t.ahead = append(t.ahead, b...)
		t.credit += len(b)
		for _, f := range trailer {
			t.trailer = append(t.trailer, http1.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)})
		}
		return
	}
	t.pass(b, len(b), trailer)
}

// pass gives the server a piece of the body, and the client its window once
// the server has taken it.
func (t *stream) pass(b []byte, credit int, trailer []http1.Field) {
	hs := t.hs
	t.x.touch()
	t.x.body(b, t.whole, trailer)
	switch {
	case t.hs != hs: // it has ended meanwhile
	case t.x.active && t.x.up != nil && t.x.up.pending() > 0:
		t.credit += credit
	default:
		hs.Consume(credit + t.credit)
		t.credit = 0
	}
}

// more implements downstream.
func (t *stream) more() {
	if !t.x.active || !t.x.takesBody() {
		return
	}
	if len(t.ahead) > 0 || t.whole && !t.x.requestDone {
		b := t.ahead
		t.ahead = nil
		t.pass(b, 0, t.trailer)
	}
	if t.hs != nil && t.credit > 0 && t.x.active && t.x.takesBody() {
		t.hs.Consume(t.credit)
		t.credit = 0
	}
	t.flushOutside()
}

// flushOutside sends what was queued, in case nobody else does.
func (t *stream) flushOutside() {
	if t.m != nil {
		t.m.w.flushStreams()
	}
}

// interim implements downstream.
func (t *stream) interim(res *http1.Response) {
	if res.Status != 101 {
		t.hs.WriteInformational(res.Status, t.x.fieldsOut(res))
	}
}

// head implements downstream.
func (t *stream) head(res *http1.Response) {
	t.begun = true
	t.ended = res.Body == http1.NoBody
	t.hs.WriteHeaders(res.Status, t.x.fieldsOut(res), t.ended)
}

// data implements downstream. The last piece is held until flush, since it may
// be the end.
func (t *stream) data(b []byte) {
	if len(t.held) > 0 {
		t.push(t.held, false)
	}
	t.held = b
}

// push writes what the windows let through, and keeps the rest.
func (t *stream) push(b []byte, end bool) {
	if len(t.rest) == 0 {
		n := t.hs.WriteData(b, end)
		if b = b[n:]; len(b) == 0 {
			t.ended = t.ended || end
			return
		}
	}
	t.rest = append(t.rest, b...)
}

// end implements downstream.
func (t *stream) end(trailer []http1.Field) {
	t.last = true
	for _, f := range trailer {
		t.late = append(t.late, http1.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)})
	}
}

// flush implements downstream.
func (t *stream) flush() {
	if t.hs == nil {
		return
	}
	if held := t.held; len(held) > 0 {
		t.held = nil
		t.push(held, t.last && len(t.late) == 0)
	}
	t.finish()
	t.flushOutside()
}

// finish ends the response once all of it went out.
func (t *stream) finish() {
	if !t.last || t.ended || len(t.rest) > 0 {
		return
	}
	t.ended = true
	if len(t.late) > 0 {
		t.hs.WriteTrailers(t.late)
	} else {
		t.hs.WriteData(nil, true)
	}
}

// writable: the windows have opened.
func (t *stream) writable() {
	if len(t.rest) > 0 {
		n := t.hs.WriteData(t.rest, t.last && len(t.late) == 0)
		if n < len(t.rest) {
			t.rest = t.rest[:copy(t.rest, t.rest[n:])]
			return
		}
		t.rest = t.rest[:0]
		t.ended = t.ended || t.last && len(t.late) == 0
	}
	t.finish()
	if t.after {
		t.leave()
		return
	}
	t.resumed()
}

// resumed lets the server go on if the client has taken all.
func (t *stream) resumed() {
	if t.hs != nil && t.x.active && len(t.rest) == 0 {
		t.x.drained()
	}
}

// switched and endTunnel implement downstream: HTTP/2 has no Upgrade.
func (t *stream) switched(*http1.Response) {}
func (t *stream) endTunnel()               {}

// protocol implements downstream.
func (t *stream) protocol() string { return "HTTP/2.0" }

// pending implements downstream.
func (t *stream) pending() int { return len(t.rest) + t.m.s.conn.Pending() }

// reply implements downstream.
func (t *stream) reply(a *answer) {
	body := a.body
	if t.isHead {
		body = nil
	}
	t.begun = true
	t.hs.WriteHeaders(a.status, a.fields, len(body) == 0)
	t.ended, t.last = len(body) == 0, true
	if len(body) > 0 {
		t.push(body, true)
	}
	w := t.m.w
	t.done()
	w.flushStreams()
}

// cut implements downstream.
func (t *stream) cut() {
	t.hs.Reset(http2.InternalError)
	w := t.m.w
	t.forget()
	w.flushStreams()
}

// done implements downstream.
func (t *stream) done() {
	if len(t.rest) > 0 || !t.ended {
		// The response is complete, but not yet with the client, who may never
		// open its windows.
		t.after = true
		t.m.w.loop.Arm(&t.x.timer, t.x.site.HTTP.Exchange)
		return
	}
	t.leave()
}

// expired: the client did not take the rest of the response, or see the
// exchange.
func (t *stream) expired() {
	if !t.after {
		t.x.expired()
		return
	}
	w := t.m.w
	t.hs.Reset(http2.Cancel)
	t.forget()
	w.shared2.Flush()
}

// leave ends a stream whose response went out. What is left of the request is
// not wanted any more (RFC 9113 section 8.1).
func (t *stream) leave() {
	if !t.whole {
		t.hs.Reset(http2.NoError)
	}
	t.forget()
}
