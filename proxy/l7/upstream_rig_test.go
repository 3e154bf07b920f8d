package l7

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// terms changes how the rig's pool is spoken to.
func (r *rig) terms(with func(*pool.Terms)) {
	t := pool.DefaultTerms()
	with(&t)
	r.pool.SetTerms(&t)
}

func h2rig() *rig {
	r := newRig()
	r.terms(func(t *pool.Terms) { t.HTTP2 = true })
	return r
}

// server2 is the far end of an HTTP/2 connection to a server.
type server2 struct {
	t     *testing.T
	r     *rig
	peer  *inmem.Peer
	in    bytes.Buffer // what came and is no whole frame yet
	out   bytes.Buffer
	write *http2.Framer
	hpack *hpack.Decoder
}

// server2 takes the preface of connection i, and sends SETTINGS.
func (r *rig) server2(t *testing.T, i int, settings ...http2.Setting) *server2 {
	t.Helper()
	s := &server2{t: t, r: r, peer: r.server(t, i), hpack: hpack.NewDecoder(4096, nil)}
	s.write = http2.NewFramer(&s.out, nil)
	s.in.WriteString(s.peer.Read())
	if got := string(s.in.Next(len(http2.ClientPreface))); got != http2.ClientPreface {
		t.Fatalf("the preface is %q", got)
	}
	_ = s.write.WriteSettings(settings...)
	s.flush()
	return s
}

// flush sends what was written.
func (s *server2) flush() {
	s.peer.Write(s.out.String())
	s.out.Reset()
	s.r.loop.Run()
}

// frames says what has come, a word for each frame but SETTINGS and
// WINDOW_UPDATE.
func (s *server2) frames() string {
	s.t.Helper()
	s.in.WriteString(s.peer.Read())
	s.r.loop.Run()
	s.in.WriteString(s.peer.Read())
	f := http2.NewFramer(nil, &s.in)
	f.ReadMetaHeaders = s.hpack
	var words []string
	for s.in.Len() > 0 {
		frame, err := f.ReadFrame()
		if err != nil {
			s.t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.PseudoValue("path") == "" {
				words = append(words, fmt.Sprintf("trailers:%d", frame.StreamID))
				break
			}
			words = append(words, fmt.Sprintf("%s%s:%d", frame.PseudoValue("method"), frame.PseudoValue("path"), frame.StreamID))
		case *http2.DataFrame:
			end := ""
			if frame.StreamEnded() {
				end = "."
			}
			words = append(words, fmt.Sprintf("%s%s:%d", frame.Data(), end, frame.StreamID))
		case *http2.RSTStreamFrame:
			words = append(words, fmt.Sprintf("%v:%d", frame.ErrCode, frame.StreamID))
		case *http2.GoAwayFrame:
			words = append(words, fmt.Sprintf("away:%v", frame.ErrCode))
		case *http2.PingFrame:
			if frame.IsAck() {
				words = append(words, "pong")
			} else {
				words = append(words, "ping")
				_ = s.write.WritePing(true, frame.Data)
			}
		}
	}
	return strings.Join(words, " ")
}

func (s *server2) want(what string) {
	s.t.Helper()
	if got := s.frames(); got != what {
		s.t.Errorf("the server got %q, want %q", got, what)
	}
}

func (s *server2) head(stream uint32, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = s.write.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

// reply answers a stream with "ok".
func (s *server2) reply(stream uint32) {
	s.head(stream, false, ":status", "200", "content-length", "2")
	_ = s.write.WriteData(stream, true, []byte("ok"))
	s.flush()
}
