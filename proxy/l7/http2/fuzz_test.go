package http2

import (
	"bytes"
	"io"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// moody is a handler whose moods come from the fuzzer.
type moody struct {
	t     *testing.T
	moods []byte
	c     *conn
	out   *wire
	open  []*Stream
	held  map[*Stream]int
}

func (m *moody) mood() byte {
	if len(m.moods) == 0 {
		return 0
	}
	b := m.moods[0]
	m.moods = m.moods[1:]
	return b
}

func (m *moody) act(s *Stream) {
	switch m.mood() % 10 {
	case 0:
		s.WriteHeaders(200, nil, true)
	case 1:
		s.WriteHeaders(200, nginxFields(), false)
		s.WriteData(make([]byte, 70_000), true)
	case 2:
		s.WriteData(make([]byte, 100), false)
	case 3:
		s.Reset(Cancel)
	case 4:
		s.WriteInformational(103, nil)
	case 5:
		s.WriteTrailers(nginxFields()[:2])
	case 6:
		s.Consume(m.held[s])
		m.held[s] = 0
	case 7:
		m.out.stuck = true
	case 8:
		s.WriteData(nil, true)
	}
}

func (m *moody) Request(s *Stream, req *Request, _ bool) {
	if len(req.Path) == 0 || len(req.Authority) == 0 || len(req.Method) == 0 {
		m.t.Error("a request without its parts")
	}
	m.check(req.Fields)
	m.open = append(m.open, s)
	m.act(s)
}

// check looks for what would smuggle a field or a request into HTTP/1.1.
func (m *moody) check(fields []http1.Field) {
	for _, f := range fields {
		if len(f.Name) == 0 || bytes.ContainsAny(f.Name, "\r\n\x00: ABCDEFGHIJKLMNOPQRSTUVWXYZ") || bytes.ContainsAny(f.Value, "\r\n\x00") {
			m.t.Errorf("field %q: %q", f.Name, f.Value)
		}
		switch string(f.Name) {
		case "connection", "transfer-encoding", "upgrade", "keep-alive":
			m.t.Errorf("field %q", f.Name)
		}
	}
}

func (m *moody) Response(s *Stream, res *Response, _ bool) {
	m.check(res.Fields)
	m.act(s)
}

func (m *moody) Data(s *Stream, b []byte, end bool) {
	if len(b) == 0 && !end {
		m.t.Error("empty data")
	}
	m.held[s] += len(b)
	m.act(s)
}

func (m *moody) Trailers(s *Stream, fields []http1.Field) {
	m.check(fields)
	m.act(s)
}

func (m *moody) Reset(s *Stream, _ Reset) {
	if !s.Ended() {
		m.t.Error("reset, and not ended")
	}
	if len(m.open) > 0 {
		m.act(m.open[0])
	}
}

func (m *moody) Writable(s *Stream) { m.act(s) }
func (m *moody) Refused(*Error)     {}
func (m *moody) GoAway(Code)        {}

// invariants must hold after each call.
func (m *moody) invariants() {
	c := m.c
	held, queued := 0, 0
	for i, s := range c.streams.open {
		held += s.unconsumed
		if s.closed || i > 0 && c.streams.open[i-1].id >= s.id || s.localEnded && s.remoteEnded {
			m.t.Fatalf("stream %d is out of order or ended", s.id)
		}
		if s.sendWindow > maxWindow || s.recvWindow < 0 || s.recvWindow > c.config.StreamWindow || s.unconsumed < 0 {
			m.t.Fatalf("stream %d: windows %d, %d; unconsumed %d", s.id, s.sendWindow, s.recvWindow, s.unconsumed)
		}
		if s.queued {
			queued++
		}
	}
	if queued != len(c.waiting) {
		m.t.Fatalf("%d streams wait, the queue holds %d", queued, len(c.waiting))
	}
	if c.dead == nil {
		if sum := c.recvWindow + c.credit + held; sum != c.config.ConnWindow {
			m.t.Fatalf("the connection's window leaks: %d + %d + %d, want %d", c.recvWindow, c.credit, held, c.config.ConnWindow)
		}
	} else if len(c.streams.open) != 0 {
		m.t.Fatal("streams are open after the end")
	}
	if c.sendWindow < 0 || c.sendWindow > maxWindow {
		m.t.Fatalf("window to send %d", c.sendWindow)
	}
	if len(c.streams.open) > c.config.MaxStreams {
		m.t.Fatalf("%d streams", len(c.streams.open))
	}
	if limit := maxBacklog + maxUnread + 4*maxBatch; m.out.pending > limit {
		m.t.Fatalf("%d bytes are pending", m.out.pending)
	}
	if c.buf != nil || len(c.in) > headerLength+maxFrame {
		m.t.Fatalf("%d bytes are queued, %d kept", len(c.buf), len(c.in))
	}
}

// readable fails if what was sent is not a sequence of well-formed frames.
func (m *moody) readable(skip int) {
	fr := xhttp2.NewFramer(io.Discard, bytes.NewReader(m.out.sent[skip:]))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		if _, err := fr.ReadFrame(); err != nil {
			if err != io.EOF {
				m.t.Fatalf("sent what cannot be read: %v (%v)", err, fr.ErrorDetail())
			}
			return
		}
	}
}

func newMoody(t *testing.T, moods []byte) *moody {
	return &moody{t: t, moods: moods, out: &wire{}, held: map[*Stream]int{}}
}

// run feeds in pieces of step bytes.
func (m *moody) run(in []byte, step int) {
	m.c.shared.Flush()
	m.invariants()
	for n := 0; len(in) > 0; in = in[n:] {
		n = min(step, len(in))
		err := m.c.Feed(in[:n], 0)
		m.invariants()
		if m.mood()%4 == 1 && m.out.stuck {
			m.out.stuck, m.out.pending = false, 0
			_ = m.c.Drained(0)
			m.invariants()
		}
		if err != nil {
			break
		}
	}
	m.c.Closed()
	m.invariants()
}

func seeds() [][]byte {
	p := &peer{}
	p.enc = hpack.NewEncoder(&p.block)
	return [][]byte{
		p.get(1),
		append(p.post(3, "content-length: 3", "cookie: a", "cookie: b"), data(3, "abc", true)...),
		append(append(p.post(5), raw(frameData, flagPadded, 5, []byte("\x02abc\x00\x00"))...), p.head(5, true, "a: b")...),
		append(appendWindowUpdate(nil, 0, 100), raw(framePing, 0, 0, make([]byte, 8))...),
		append(p.get(7), reset(7, Cancel)...),
		settingsFrame(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 3}, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 0}),
		appendGoAway(nil, 0, NoError, "x"),
		append(raw(frameHeaders, 0, 9, []byte{0x82}), raw(frameContinuation, flagEndHeaders, 9, []byte{0x84})...),
		append(p.head(1, false, ":status: 200", "content-length: 3"), data(1, "abc", true)...),
		append(p.head(1, false, ":status: 103"), p.head(3, true, ":status: 404")...),
	}
}

// Whatever a client sends after its preface, nothing panics, leaks or grows.
func FuzzServerConn(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, []byte{1, 6, 7, 1, 2, 3}, 5)
		f.Add(s, []byte{}, 1000)
	}
	f.Fuzz(func(t *testing.T, in, moods []byte, step int) {
		if step < 1 || len(in) > 1<<17 {
			return
		}
		m := newMoody(t, moods)
		config := ServerConfig()
		config.StreamWindow, config.ConnWindow, config.MaxStreams = defaultWindow, defaultWindow, 10
		c := NewServerConn(NewShared(), m.out, &config, m)
		m.c = &c.conn
		m.run(append([]byte(Preface+string(raw(frameSettings, 0, 0, nil))), in...), step)
		m.readable(0)
	})
}

// The same, for what a server sends to a client with some requests under way.
func FuzzClientConn(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, []byte{1, 6, 7, 1, 2, 3}, 5)
		f.Add(s, []byte{}, 1000)
	}
	f.Fuzz(func(t *testing.T, in, moods []byte, step int) {
		if step < 1 || len(in) > 1<<17 {
			return
		}
		m := newMoody(t, moods)
		config := ClientConfig()
		config.StreamWindow, config.ConnWindow = defaultWindow, defaultWindow
		c := NewClientConn(NewShared(), m.out, &config, m)
		m.c = &c.conn
		m.open = []*Stream{c.NewStream(request("GET"), true), c.NewStream(request("POST"), false), c.NewStream(request("HEAD"), true)}
		m.open[1].WriteData(make([]byte, 100_000), true)
		c.shared.Flush()
		m.run(append(raw(frameSettings, 0, 0, nil), in...), step)
		m.readable(len(Preface))
	})
}

// script makes well-formed frames of a fuzzer's bytes, in orders that no peer
// would choose.
func (p *peer) script(in []byte) []byte {
	var out []byte
	next := func() byte {
		if len(in) == 0 {
			return 0
		}
		b := in[0]
		in = in[1:]
		return b
	}
	for len(in) > 0 {
		op, id := next(), uint32(next()%12)*2+1
		end := op&0x80 != 0
		switch op % 16 {
		case 0, 1:
			out = append(out, p.head(id, end, getLines...)...)
		case 2:
			out = append(out, p.post(id, "content-length: 5")...)
		case 3:
			out = append(out, p.head(id, end, ":status: 200", "content-length: 5")...)
		case 4:
			out = append(out, p.head(id, end, ":status: 103")...)
		case 5:
			out = append(out, p.head(id, true, "a: b")...)
		case 6, 7:
			out = append(out, data(id, "hello"[:next()%6], end)...)
		case 8:
			out = append(out, raw(frameData, flagPadded|endFlag(end), id, append([]byte{3}, "abc\x00\x00\x00"...))...)
		case 9:
			out = append(out, data(id, string(make([]byte, 8*int(next()))), end)...)
		case 10:
			out = append(out, reset(id, Code(next()%14))...)
		case 11:
			out = append(out, appendWindowUpdate(nil, id&^1*uint32(next()%2), 1+int(next()))...)
		case 12:
			out = append(out, settingsFrame(xhttp2.Setting{ID: xhttp2.SettingID(1 + next()%6), Val: uint32(next()) * 300})...)
		case 13:
			out = append(out, raw(framePing, frameFlags(next()%2), 0, drainPing[:])...)
		case 14:
			out = append(out, appendGoAway(nil, id, Code(next()%14), "")...)
		case 15:
			b := p.encode(getLines...)
			out = append(out, raw(frameHeaders, endFlag(end), id, b[:2])...)
			out = append(out, raw(frameContinuation, flagEndHeaders, id, b[2:])...)
		}
	}
	return out
}

// Frames in odd orders do no harm either, and it does not matter in what
// pieces they come.
func FuzzFrameOrder(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 1, 6, 0, 5, 0x86, 0, 5, 10, 1, 8, 13, 1, 12, 4, 9}, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{2, 3, 0x86, 3, 5, 5, 3, 14, 2, 0, 15, 4, 9, 0, 200, 9, 4, 255}, []byte{6, 6, 7, 1, 2})
	f.Fuzz(func(t *testing.T, in, moods []byte) {
		if len(in) > 512 {
			return
		}
		// With moods, for the invariants.
		script := newPeer(t).script(in)
		m := newMoody(t, moods)
		config := ServerConfig()
		config.StreamWindow, config.ConnWindow, config.MaxStreams = defaultWindow, defaultWindow, 6
		c := NewServerConn(NewShared(), m.out, &config, m)
		m.c = &c.conn
		m.run(append([]byte(Preface+string(raw(frameSettings, 0, 0, nil))), script...), 1+len(moods)*7)
		m.readable(0)

		// Without, at once and byte by byte.
		var events [2][]string
		var sent [2][]byte
		for i, step := range []int{0, 1} {
			p := clientOf(t)
			p.step = step
			_ = p.feed(newPeer(t).script(in))
			events[i], sent[i] = p.h.events, p.out.sent
		}
		if len(events[0]) != len(events[1]) || !bytes.Equal(sent[0], sent[1]) {
			t.Fatalf("at once: %q\nin pieces: %q", events[0], events[1])
		}
		for i := range events[0] {
			if events[0][i] != events[1][i] {
				t.Fatalf("at once: %q\nin pieces: %q", events[0], events[1])
			}
		}
	})
}
