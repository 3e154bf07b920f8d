package http2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// wire is an Output that keeps what is sent. When stuck, the system takes
// nothing.
type wire struct {
	sent    []byte
	stuck   bool
	pending int
	sends   int
}

func (w *wire) Send(b []byte) {
	w.sends++
	w.sent = append(w.sent, b...)
	if w.stuck {
		w.pending += len(b)
	}
}

func (w *wire) Pending() int { return w.pending }

// recorder notes what it is told, and does what a test asks.
type recorder struct {
	events  []string
	streams map[uint32]*Stream
	onHead  func(s *Stream, end bool)
	onData  func(s *Stream, b []byte, end bool)
	onWrite func(s *Stream)
	onReset func(s *Stream, why Reset)
}

func (r *recorder) note(format string, args ...any) {
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

func (r *recorder) keep(s *Stream) {
	if r.streams == nil {
		r.streams = map[uint32]*Stream{}
	}
	r.streams[s.ID()] = s
}

func endMark(end bool) string {
	if end {
		return " end"
	}
	return ""
}

func printFields(fields []http1.Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return b.String()
}

func (r *recorder) Request(s *Stream, req *Request, end bool) {
	r.keep(s)
	r.note("%d %s %s://%s%s%s%s", s.ID(), req.Method, req.Scheme, req.Authority, req.Path, printFields(req.Fields), endMark(end))
	if r.onHead != nil {
		r.onHead(s, end)
	}
}

func (r *recorder) Response(s *Stream, res *Response, end bool) {
	r.note("%d %d%s%s", s.ID(), res.Status, printFields(res.Fields), endMark(end))
	if r.onHead != nil {
		r.onHead(s, end)
	}
}

func (r *recorder) Data(s *Stream, b []byte, end bool) {
	// Pieces are joined, so that it does not matter how they came.
	prefix := fmt.Sprintf("%d data ", s.ID())
	if n := len(r.events); n > 0 && strings.HasPrefix(r.events[n-1], prefix) {
		r.events[n-1] += string(b) + endMark(end)
	} else {
		r.note("%s%s%s", prefix, b, endMark(end))
	}
	if r.onData != nil {
		r.onData(s, b, end)
	}
}

func (r *recorder) Trailers(s *Stream, fields []http1.Field) {
	r.note("%d trailers%s", s.ID(), printFields(fields))
}

func (r *recorder) Reset(s *Stream, why Reset) {
	note := fmt.Sprintf("%d reset %v", s.ID(), why.Code)
	if why.Err != nil {
		note += ": " + why.Err.Reason
	}
	if why.Unprocessed {
		note += " (unprocessed)"
	}
	r.note("%s", note)
	if r.onReset != nil {
		r.onReset(s, why)
	}
}

func (r *recorder) Writable(s *Stream) {
	if r.onWrite != nil {
		r.onWrite(s)
	}
}

func (r *recorder) Refused(err *Error) { r.note("refused: %s", err.Reason) }
func (r *recorder) GoAway(code Code)   { r.note("goaway %v", code) }

// peer is the other end of a connection under test, held by a test.
type peer struct {
	t      *testing.T
	server *ServerConn
	client *ClientConn
	h      *recorder
	out    *wire
	shared *Shared
	now    time.Duration
	step   int // feed in pieces of this size; 0: at once

	block bytes.Buffer
	enc   *hpack.Encoder
	dec   *hpack.Decoder
	read  int // of out.sent
}

func newPeer(t *testing.T) *peer {
	p := &peer{t: t, h: &recorder{}, out: &wire{}, shared: NewShared()}
	p.enc = hpack.NewEncoder(&p.block)
	p.dec = hpack.NewDecoder(4096, nil)
	return p
}

// clientOf is a client of a ServerConn, which has said its preface.
func clientOf(t *testing.T, configure ...func(*Config)) *peer {
	p := newPeer(t)
	config := ServerConfig()
	for _, f := range configure {
		f(&config)
	}
	p.server = NewServerConn(p.shared, p.out, &config, p.h)
	p.want(p.feed([]byte(Preface), raw(frameSettings, 0, 0, nil)), nil)
	p.frames()
	return p
}

// serverOf is a server of a ClientConn, whose SETTINGS have arrived.
func serverOf(t *testing.T, settings ...xhttp2.Setting) *peer {
	p := newPeer(t)
	config := ClientConfig()
	p.client = NewClientConn(p.shared, p.out, &config, p.h)
	p.shared.Flush()
	if !bytes.HasPrefix(p.out.sent, []byte(Preface)) {
		t.Fatal("a client's connection does not begin with the preface")
	}
	p.read = len(Preface)
	p.want(p.feed(settingsFrame(settings...)), nil)
	p.frames()
	return p
}

func (p *peer) want(got, want *Error) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("error = %v, want %v; events %q", got, want, p.h.events)
	}
}

func (p *peer) feed(frames ...[]byte) *Error {
	b := bytes.Join(frames, nil)
	feed := func(b []byte) *Error {
		if p.server != nil {
			return p.server.Feed(b, p.now)
		}
		return p.client.Feed(b, p.now)
	}
	if p.step == 0 {
		return feed(b)
	}
	for len(b) > 0 {
		n := min(p.step, len(b))
		// A copy that is spoilt afterwards: nothing may be kept.
		piece := bytes.Clone(b[:n])
		if err := feed(piece); err != nil {
			return err
		}
		for i := range piece {
			piece[i] = 0xee
		}
		b = b[n:]
	}
	return nil
}

// raw is a frame.
func raw(typ frameType, flags frameFlags, stream uint32, payload []byte) []byte {
	return append(appendFrame(nil, len(payload), typ, flags, stream), payload...)
}

func settingsFrame(settings ...xhttp2.Setting) []byte {
	var p []byte
	for _, s := range settings {
		p = appendSetting(p, setting(s.ID), s.Val)
	}
	return raw(frameSettings, 0, 0, p)
}

// encode makes a header block of "name: value" lines; a line may begin with a
// colon.
func (p *peer) encode(lines ...string) []byte {
	p.block.Reset()
	for _, l := range lines {
		name, value, ok := strings.Cut(l[1:], ":")
		if !ok {
			p.t.Fatalf("%q is no field", l)
		}
		if err := p.enc.WriteField(hpack.HeaderField{Name: l[:1] + name, Value: strings.TrimPrefix(value, " ")}); err != nil {
			p.t.Fatal(err)
		}
	}
	return bytes.Clone(p.block.Bytes())
}

// head is a HEADERS frame of its own.
func (p *peer) head(stream uint32, end bool, lines ...string) []byte {
	return raw(frameHeaders, flagEndHeaders|endFlag(end), stream, p.encode(lines...))
}

var getLines = []string{":method: GET", ":scheme: https", ":authority: x", ":path: /"}

func (p *peer) get(stream uint32) []byte { return p.head(stream, true, getLines...) }

func (p *peer) post(stream uint32, more ...string) []byte {
	return p.head(stream, false, append([]string{":method: POST", ":scheme: https", ":authority: x", ":path: /"}, more...)...)
}

func data(stream uint32, body string, end bool) []byte {
	return raw(frameData, endFlag(end), stream, []byte(body))
}

func reset(stream uint32, code Code) []byte { return appendReset(nil, stream, code) }

// frames returns what was sent since the last call, one line a frame.
func (p *peer) frames() []string {
	p.t.Helper()
	fr := xhttp2.NewFramer(nil, bytes.NewReader(p.out.sent[p.read:]))
	p.read = len(p.out.sent)
	fr.ReadMetaHeaders = p.dec
	var lines []string
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			if fr.ErrorDetail() != nil {
				p.t.Fatalf("sent a malformed frame: %v", fr.ErrorDetail())
			}
			return lines
		}
		id := f.Header().StreamID
		line := ""
		switch f := f.(type) {
		case *xhttp2.SettingsFrame:
			line = "SETTINGS"
			if f.IsAck() {
				line += " ack"
			}
		case *xhttp2.MetaHeadersFrame:
			line = fmt.Sprintf("HEADERS %d", id)
			for _, hf := range f.Fields {
				line += fmt.Sprintf(" %s=%s", hf.Name, hf.Value)
			}
			line += endMark(f.StreamEnded())
		case *xhttp2.DataFrame:
			body := string(f.Data())
			if len(body) > 20 {
				body = fmt.Sprintf("%d bytes", len(body))
			}
			line = fmt.Sprintf("DATA %d %s%s", id, body, endMark(f.StreamEnded()))
		case *xhttp2.RSTStreamFrame:
			line = fmt.Sprintf("RST_STREAM %d %v", id, Code(f.ErrCode))
		case *xhttp2.GoAwayFrame:
			line = fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, Code(f.ErrCode))
		case *xhttp2.WindowUpdateFrame:
			line = fmt.Sprintf("WINDOW_UPDATE %d %d", id, f.Increment)
		case *xhttp2.PingFrame:
			line = fmt.Sprintf("PING %x", f.Data)
			if f.IsAck() {
				line += " ack"
			}
		default:
			p.t.Fatalf("sent an unexpected %v", f)
		}
		lines = append(lines, line)
	}
}

// take returns the events since the last call.
func (p *peer) take() []string {
	e := p.h.events
	p.h.events = nil
	return e
}

// bothWays runs a test with input at once, and byte by byte.
func bothWays(t *testing.T, name string, f func(t *testing.T, step int)) {
	t.Run(name, func(t *testing.T) {
		f(t, 0)
		f(t, 1)
	})
}
