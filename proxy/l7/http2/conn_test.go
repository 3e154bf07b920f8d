package http2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"
)

// What is wrong with the connection ends it, with a GOAWAY.
func TestConnectionErrors(t *testing.T) {
	set := func(id setting, value uint32) []byte {
		return settingsFrame(xhttp2.Setting{ID: xhttp2.SettingID(id), Val: value})
	}
	tests := []struct {
		section string
		name    string
		in      func(p *peer) []byte
		want    *Error
	}{
		{"4.2", "frame too long", func(*peer) []byte { return appendFrame(nil, maxFrame+1, frameData, 0, 1) }, ErrFrameTooLong},
		{"4.2", "unknown frame too long", func(*peer) []byte { return appendFrame(nil, maxFrame+1, 0x77, 0, 1) }, ErrFrameTooLong},
		{"4.3", "header block that cannot be decoded", func(*peer) []byte {
			return raw(frameHeaders, flagEndHeaders, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}, ErrCompression},
		{"4.3", "header block that ends within a field", func(p *peer) []byte {
			b := p.encode(":method: NONESUCH")
			return raw(frameHeaders, flagEndHeaders, 1, b[:len(b)-1])
		}, ErrCompression},
		{"RFC 7541 2.3.3", "index beyond the table", func(*peer) []byte { return raw(frameHeaders, flagEndHeaders, 1, []byte{0xc0}) }, ErrCompression},
		{"RFC 7541 4.2", "table larger than allowed", func(*peer) []byte { return raw(frameHeaders, flagEndHeaders, 1, []byte{0x3f, 0xe2, 0x1f}) }, ErrCompression},
		{"5.1", "data on an idle stream", func(*peer) []byte { return data(1, "a", false) }, ErrIdle},
		{"5.1", "reset of an idle stream", func(*peer) []byte { return reset(1, Cancel) }, ErrIdle},
		{"5.1", "window update of an idle stream", func(*peer) []byte { return appendWindowUpdate(nil, 1, 1) }, ErrIdle},
		{"5.1", "data on a stream of ours", func(*peer) []byte { return data(2, "a", false) }, ErrIdle},
		{"5.1", "data after the client's reset", func(p *peer) []byte {
			return append(append(p.post(1), reset(1, Cancel)...), data(1, "a", false)...)
		}, ErrClosed},
		{"5.1", "head after the client's reset", func(p *peer) []byte {
			return append(append(p.post(1), reset(1, Cancel)...), p.get(1)...)
		}, ErrClosed},
		{"5.1.1", "even stream id", func(p *peer) []byte { return p.get(2) }, ErrStreamID},
		{"5.1.1", "stream id that was skipped", func(p *peer) []byte { return append(p.get(5), p.get(3)...) }, ErrClosed},
		{"6.1", "data on stream 0", func(*peer) []byte { return data(0, "a", false) }, ErrFrameStream},
		{"6.1", "padding as long as the frame", func(p *peer) []byte { return append(p.post(1), raw(frameData, flagPadded, 1, []byte{3, 0, 0})...) }, ErrPadding},
		{"6.1", "padded, and empty", func(p *peer) []byte { return append(p.post(1), raw(frameData, flagPadded, 1, nil)...) }, ErrFrameLength},
		{"6.2", "headers on stream 0", func(p *peer) []byte { return p.get(0) }, ErrFrameStream},
		{"6.2", "padding beyond the frame", func(*peer) []byte { return raw(frameHeaders, flagPadded|flagEndHeaders, 1, []byte{9, 0x82}) }, ErrPadding},
		{"6.2", "padded, and empty", func(*peer) []byte { return raw(frameHeaders, flagPadded|flagEndHeaders, 1, nil) }, ErrFrameLength},
		{"6.2", "priority that is cut off", func(*peer) []byte { return raw(frameHeaders, flagPriority|flagEndHeaders, 1, []byte{0, 0}) }, ErrFrameLength},
		{"6.3", "priority of stream 0", func(*peer) []byte { return raw(framePriority, 0, 0, make([]byte, 5)) }, ErrFrameStream},
		{"6.3", "priority of another length", func(*peer) []byte { return raw(framePriority, 0, 1, make([]byte, 4)) }, ErrFrameLength},
		{"RFC 7540 5.3.1", "priority that depends on itself", func(*peer) []byte { return raw(framePriority, 0, 3, []byte{0, 0, 0, 3, 0}) }, ErrDependency},
		{"6.4", "reset of stream 0", func(*peer) []byte { return reset(0, Cancel) }, ErrFrameStream},
		{"6.4", "reset of another length", func(*peer) []byte { return raw(frameReset, 0, 1, make([]byte, 5)) }, ErrFrameLength},
		{"6.5", "settings on a stream", func(*peer) []byte { return raw(frameSettings, 0, 1, nil) }, ErrFrameStream},
		{"6.5", "settings of another length", func(*peer) []byte { return raw(frameSettings, 0, 0, make([]byte, 5)) }, ErrFrameLength},
		{"6.5", "acknowledgement with a payload", func(*peer) []byte { return raw(frameSettings, flagAck, 0, make([]byte, 6)) }, ErrFrameLength},
		{"6.5.2", "push neither on nor off", func(*peer) []byte { return set(settingPush, 2) }, ErrSetting},
		{"6.5.2", "window too large", func(*peer) []byte { return set(settingWindow, 1<<31) }, ErrSettingWindow},
		{"6.5.2", "frame size too small", func(*peer) []byte { return set(settingMaxFrame, 16383) }, ErrSetting},
		{"6.5.2", "frame size too large", func(*peer) []byte { return set(settingMaxFrame, 1<<24) }, ErrSetting},
		{"6.6", "push by a client", func(p *peer) []byte { return raw(framePushPromise, flagEndHeaders, 1, []byte{0, 0, 0, 2, 0x82}) }, ErrPush},
		{"6.7", "ping on a stream", func(*peer) []byte { return raw(framePing, 0, 1, make([]byte, 8)) }, ErrFrameStream},
		{"6.7", "ping of another length", func(*peer) []byte { return raw(framePing, 0, 0, make([]byte, 7)) }, ErrFrameLength},
		{"6.8", "goaway on a stream", func(*peer) []byte { return raw(frameGoAway, 0, 1, make([]byte, 8)) }, ErrFrameStream},
		{"6.8", "goaway that is too short", func(*peer) []byte { return raw(frameGoAway, 0, 0, make([]byte, 7)) }, ErrFrameLength},
		{"6.9", "window update by 0", func(*peer) []byte { return appendWindowUpdate(nil, 0, 0) }, ErrNoIncrement},
		{"6.9", "window update of another length", func(*peer) []byte { return raw(frameWindowUpdate, 0, 0, make([]byte, 3)) }, ErrFrameLength},
		{"6.9.1", "connection's window overflows", func(*peer) []byte { return appendWindowUpdate(nil, 0, maxWindow) }, ErrConnWindow},
		{"6.9.2", "initial window lifts a stream's beyond the limit", func(p *peer) []byte {
			return append(append(p.post(1), appendWindowUpdate(nil, 1, maxWindow-defaultWindow)...), set(settingWindow, defaultWindow+1)...)
		}, ErrSettingWindow},
		{"6.10", "continuation without a block", func(p *peer) []byte { return raw(frameContinuation, flagEndHeaders, 1, p.encode(getLines...)) }, ErrContinuation},
		{"6.10", "continuation after the end of the block", func(p *peer) []byte { return append(p.get(1), raw(frameContinuation, flagEndHeaders, 1, nil)...) }, ErrContinuation},
		{"6.10", "another frame within a block", func(p *peer) []byte {
			return append(raw(frameHeaders, 0, 1, p.encode(getLines...)), raw(framePing, 0, 0, make([]byte, 8))...)
		}, ErrContinuation},
		{"6.10", "unknown frame within a block", func(p *peer) []byte {
			return append(raw(frameHeaders, 0, 1, p.encode(getLines...)), raw(0x77, 0, 0, nil)...)
		}, ErrContinuation},
		{"6.10", "continuation of another stream", func(p *peer) []byte {
			return append(raw(frameHeaders, 0, 1, p.encode(getLines...)), raw(frameContinuation, flagEndHeaders, 3, nil)...)
		}, ErrContinuation},
	}
	for _, tt := range tests {
		bothWays(t, tt.section+" "+tt.name, func(t *testing.T, step int) {
			p := clientOf(t)
			p.step = step
			p.want(p.feed(tt.in(p)), tt.want)
			frames := p.frames()
			if len(frames) == 0 || !strings.HasPrefix(frames[len(frames)-1], "GOAWAY ") || !strings.HasSuffix(frames[len(frames)-1], " "+tt.want.Code.String()) {
				t.Errorf("frames = %q, want a GOAWAY with %v", frames, tt.want.Code)
			}
			if n := p.server.Streams(); n != 0 {
				t.Errorf("%d streams are open after the end", n)
			}
			p.want(p.feed(p.get(101)), tt.want)
			if more := p.frames(); len(more) != 0 {
				t.Errorf("after the end: %q", more)
			}
		})
	}
}

func TestBeginning(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want *Error
	}{
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", ErrPreface},
		{"preface that differs at its end", Preface[:23] + "x", ErrPreface},
		{"no settings", Preface + string(raw(framePing, 0, 0, make([]byte, 8))), ErrFirstFrame},
		{"an acknowledgement instead of settings", Preface + string(raw(frameSettings, flagAck, 0, nil)), ErrFirstFrame},
		{"preface and settings", Preface + string(raw(frameSettings, 0, 0, nil)), nil},
		{"a part of the preface", Preface[:10], nil},
	}
	for _, tt := range tests {
		bothWays(t, tt.name, func(t *testing.T, step int) {
			p := newPeer(t)
			p.step = step
			config := ServerConfig()
			p.server = NewServerConn(p.shared, p.out, &config, p.h)
			p.want(p.feed([]byte(tt.in)), tt.want)
			want := []string{"SETTINGS", fmt.Sprintf("WINDOW_UPDATE 0 %d", config.ConnWindow-defaultWindow)}
			if got := p.frames(); len(got) < 2 || !cmp.Equal(got[:2], want) {
				t.Errorf("frames = %q, want first %q", got, want)
			}
		})
	}
}

// Streams that are open when the connection ends are told of it.
func TestOpenStreamsAreToldOfTheEnd(t *testing.T) {
	p := clientOf(t)
	p.want(p.feed(p.post(1), p.get(3), raw(frameContinuation, 0, 1, nil)), ErrContinuation)
	want := []string{"1 POST https://x/", "3 GET https://x/ end", "3 reset PROTOCOL_ERROR: " + ErrContinuation.Reason, "1 reset PROTOCOL_ERROR: " + ErrContinuation.Reason}
	if diff := cmp.Diff(want, p.take()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"GOAWAY 3 PROTOCOL_ERROR"}, p.frames()); diff != "" {
		t.Error(diff)
	}

	p = clientOf(t)
	p.want(p.feed(p.post(1)), nil)
	p.take()
	s := p.h.streams[1]
	p.server.Closed()
	if diff := cmp.Diff([]string{"1 reset CANCEL"}, p.take()); diff != "" {
		t.Error(diff)
	}
	// What is called on it now does nothing.
	s.WriteHeaders(200, nil, false)
	s.WriteInformational(103, nil)
	if n := s.WriteData([]byte("abc"), true); n != 3 {
		t.Errorf("WriteData on an ended stream = %d, want 3", n)
	}
	s.WriteTrailers(nil)
	s.Consume(1)
	s.Reset(Cancel)
	p.server.GoAway()
	p.server.Ping(0)
	p.shared.Flush()
	if !s.Ended() {
		t.Error("the stream has not ended")
	}
	if got := p.frames(); len(got) != 0 {
		t.Errorf("sent %q after the end", got)
	}
}

// All that one Feed makes us send goes out in one piece, on all connections.
func TestOneSendForEachFeed(t *testing.T) {
	p := clientOf(t)
	server := serverOf(t)
	server.client.shared = p.shared
	p.h.onHead = func(s *Stream, _ bool) {
		s.WriteHeaders(200, nil, false)
		s.WriteData([]byte("abc"), true)
		server.client.NewStream(&Request{Method: []byte("GET"), Scheme: []byte("http"), Authority: []byte("y"), Path: []byte("/")}, true)
	}
	p.out.sends, server.out.sends = 0, 0
	p.want(p.feed(p.get(1), p.get(3), p.get(5), raw(framePing, 0, 0, make([]byte, 8))), nil)
	if p.out.sends != 1 || server.out.sends != 1 {
		t.Errorf("%d and %d sends, want one each", p.out.sends, server.out.sends)
	}
	if n := len(server.frames()); n != 3 {
		t.Errorf("%d frames to the server, want 3", n)
	}
}

// An idle connection holds no buffers.
func TestIdleConnectionHoldsNoBuffers(t *testing.T) {
	p := clientOf(t)
	p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, nil, true) }
	p.step = 7
	p.want(p.feed(p.head(1, true, append(getLines, "a: "+strings.Repeat("b", 1000))...)), nil)
	c := &p.server.conn
	if c.buf != nil || cap(c.in) > maxKept || c.block != nil || len(c.shared.dirty) != 0 {
		t.Errorf("buffer %d, input %d, block %v, dirty %d", cap(c.buf), cap(c.in), c.block, len(c.shared.dirty))
	}
}

func TestResponsesAreWritten(t *testing.T) {
	tests := []struct {
		name  string
		write func(s *Stream)
		want  []string
	}{
		{"head and body", func(s *Stream) {
			s.WriteHeaders(200, nginxFields()[2:6], false)
			s.WriteData([]byte("abc"), false)
			s.WriteData([]byte("def"), true)
		}, []string{"HEADERS 1 :status=200 content-type=application/javascript content-length=128 last-modified=Mon, 16 Nov 2026 09:00:00 GMT", "DATA 1 abc", "DATA 1 def end"}},
		{"body that ends without a byte", func(s *Stream) {
			s.WriteHeaders(200, nil, false)
			s.WriteData([]byte("abc"), false)
			s.WriteData(nil, true)
		}, []string{"HEADERS 1 :status=200", "DATA 1 abc", "DATA 1  end"}},
		{"interim responses", func(s *Stream) {
			s.WriteInformational(100, nil)
			s.WriteInformational(103, nginxFields()[3:4])
			s.WriteHeaders(418, nil, true)
			s.WriteInformational(103, nil) // too late
		}, []string{"HEADERS 1 :status=100", "HEADERS 1 :status=103", "HEADERS 1 :status=418 end"}},
		{"no length with 204 (RFC 9110 8.6)", func(s *Stream) { s.WriteHeaders(204, nginxFields()[3:4], true) }, []string{"HEADERS 1 :status=204 end"}},
		{"length with 304", func(s *Stream) { s.WriteHeaders(304, nginxFields()[3:4], true) }, []string{"HEADERS 1 :status=304 content-length=128 end"}},
		{"trailers", func(s *Stream) {
			s.WriteHeaders(200, nil, false)
			s.WriteData([]byte("abc"), false)
			s.WriteTrailers(nginxFields()[6:7])
			s.WriteData([]byte("late"), true)
		}, []string{"HEADERS 1 :status=200", "DATA 1 abc", `HEADERS 1 etag="65f2c0de-80" end`}},
		{"reset", func(s *Stream) {
			s.WriteHeaders(200, nil, false)
			s.Reset(InternalError)
			s.Reset(InternalError)
			s.WriteData([]byte("late"), true)
		}, []string{"HEADERS 1 :status=200", "RST_STREAM 1 INTERNAL_ERROR"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := clientOf(t)
			p.h.onHead = func(s *Stream, _ bool) { tt.write(s) }
			p.want(p.feed(p.get(1)), nil)
			if diff := cmp.Diff(tt.want, p.frames()); diff != "" {
				t.Error(diff)
			}
			if !p.h.streams[1].Ended() || p.server.Streams() != 0 {
				t.Error("the stream has not ended")
			}
		})
	}
}

// A head that is longer than a frame is continued (RFC 9113 section 4.3).
func TestLongHeadIsContinued(t *testing.T) {
	p := clientOf(t)
	f := nginxFields()[:1]
	f[0].Value = bytes.Repeat([]byte("x"), 40_000)
	p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, f, true) }
	p.want(p.feed(p.get(1)), nil)
	if got := p.frames(); len(got) != 1 || !strings.HasSuffix(got[0], "x end") || len(got[0]) < 40_000 {
		t.Errorf("%d frames", len(got))
	}
}

func TestConfigFaults(t *testing.T) {
	good := []Config{ServerConfig(), ClientConfig()}
	for _, c := range good {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	bad := Config{StreamWindow: 65534, ConnWindow: 1 << 31}
	err := bad.Validate()
	for _, name := range []string{"limits.fields", "limits.line", "limits.head", "max_streams", "stream_window", "conn_window"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
}

// Of streams that were reset longer ago than is remembered, nothing is held
// against the peer.
func TestResetRing(t *testing.T) {
	var r resetRing
	for i := range uint32(1000) {
		r.add(2*i + 1)
	}
	if !r.has(1) || !r.has(1999) || r.has(2001) {
		t.Errorf("has: 1 %v, 1999 %v, 2001 %v; want true, true, false", r.has(1), r.has(1999), r.has(2001))
	}
	if len(r.ids) != resetsKept || r.forgotten != 2*(1000-resetsKept)-1 {
		t.Errorf("%d are kept, up to %d forgotten", len(r.ids), r.forgotten)
	}
}

func TestErrorsSayTheirCode(t *testing.T) {
	if got := ErrPadding.Error(); got != "PROTOCOL_ERROR: padding is longer than its frame" {
		t.Error(got)
	}
	if got := Code(99).String(); got != "unknown code" {
		t.Error(got)
	}
}
