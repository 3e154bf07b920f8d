package http2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	xhttp2 "golang.org/x/net/http2"
)

// writer sends a body as windows allow, as a caller does.
type writer struct {
	rest string
	end  bool
}

func (w *writer) write(s *Stream) {
	n := s.WriteData([]byte(w.rest), w.end)
	w.rest = w.rest[n:]
}

// download answers each request with a body of this size.
func (p *peer) download(size int) {
	p.h.onHead = func(s *Stream, _ bool) {
		s.WriteHeaders(200, nil, false)
		w := &writer{rest: strings.Repeat("x", size), end: true}
		s.User = w
		w.write(s)
	}
	p.h.onWrite = func(s *Stream) { s.User.(*writer).write(s) }
}

func bodies(lines []string) []string {
	var kept []string
	for _, l := range lines {
		if strings.HasPrefix(l, "DATA ") {
			kept = append(kept, l)
		}
	}
	return kept
}

func TestSendWindows(t *testing.T) {
	window := func(n uint32) []byte {
		return settingsFrame(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: n})
	}
	tests := []struct {
		name string
		size int
		in   func(p *peer) [][]byte
		want [][]string // what each input makes us send
	}{
		{"stream's window (6.9.1)", 30, func(p *peer) [][]byte {
			return [][]byte{window(10), p.get(1), appendWindowUpdate(nil, 1, 15), appendWindowUpdate(nil, 1, 1000)}
		}, [][]string{nil, {"DATA 1 xxxxxxxxxx"}, {"DATA 1 xxxxxxxxxxxxxxx"}, {"DATA 1 xxxxx end"}}},
		{"exactly the window", 10, func(p *peer) [][]byte {
			return [][]byte{window(10), p.get(1)}
		}, [][]string{nil, {"DATA 1 xxxxxxxxxx end"}}},
		{"initial window rises for open streams (6.9.2)", 4, func(p *peer) [][]byte {
			return [][]byte{window(0), p.get(1), window(1), window(100)}
		}, [][]string{nil, nil, {"DATA 1 x"}, {"DATA 1 xxx end"}}},
		{"window falls below 0, and must rise above it (6.9.2)", 20, func(p *peer) [][]byte {
			return [][]byte{window(10), p.get(1), window(3), appendWindowUpdate(nil, 1, 7), appendWindowUpdate(nil, 1, 1), appendWindowUpdate(nil, 1, 50)}
		}, [][]string{nil, {"DATA 1 xxxxxxxxxx"}, nil, nil, {"DATA 1 x"}, {"DATA 1 xxxxxxxxx end"}}},
		{"frames of 16 KiB", 40_000, func(p *peer) [][]byte { return [][]byte{p.get(1)} }, [][]string{{"DATA 1 16384 bytes", "DATA 1 16384 bytes", "DATA 1 7232 bytes end"}}},
		{"connection's window, shared in turn (6.9.1)", 40_000, func(p *peer) [][]byte {
			return [][]byte{p.get(1), p.get(3), p.get(5), appendWindowUpdate(nil, 0, 20_000), appendWindowUpdate(nil, 0, 30_000), appendWindowUpdate(nil, 0, 4465)}
		}, [][]string{
			{"DATA 1 16384 bytes", "DATA 1 16384 bytes", "DATA 1 7232 bytes end"},
			{"DATA 3 16384 bytes", "DATA 3 9151 bytes"},
			nil,
			{"DATA 3 14465 bytes end", "DATA 5 5535 bytes"},
			{"DATA 5 16384 bytes", "DATA 5 13616 bytes"},
			{"DATA 5 4465 bytes end"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := clientOf(t)
			p.download(tt.size)
			for i, in := range tt.in(p) {
				p.want(p.feed(in), nil)
				if diff := cmp.Diff(tt.want[i], bodies(p.frames())); diff != "" {
					t.Errorf("input %d: %s", i, diff)
				}
			}
			if n := p.server.Streams(); n != 0 {
				t.Errorf("%d streams are open", n)
			}
		})
	}
}

// Nothing is taken from the callers while the system does not take it from us.
func TestSlowReaderHoldsWritersBack(t *testing.T) {
	p := clientOf(t)
	p.download(1 << 20)
	p.want(p.feed(appendWindowUpdate(nil, 0, 1<<30), settingsFrame(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})), nil)
	p.out.stuck = true
	p.want(p.feed(p.get(1), p.get(3), p.get(5), p.get(7)), nil)
	if limit := maxBatch + maxFrame + 1000; p.out.pending > limit {
		t.Errorf("%d bytes are pending, want at most %d", p.out.pending, limit)
	}
	// As the system takes it, all get on, and complete.
	for range 1000 {
		p.out.pending = 0
		p.want(p.server.Drained(p.now), nil)
	}
	if n := p.server.Streams(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
}

// A stream that waits and is reset leaves the queue: a client that never opens
// its window must not make it grow.
func TestResetStreamsDoNotWait(t *testing.T) {
	p := clientOf(t)
	p.download(100_000)
	for i := range uint32(50) {
		p.want(p.feed(p.get(2*i+1), reset(2*i+1, Cancel)), nil)
	}
	if n := len(p.server.waiting); n != 0 {
		t.Errorf("%d streams wait", n)
	}
}

func TestReceiveWindows(t *testing.T) {
	full := strings.Repeat("x", maxFrame)
	upload := func(p *peer, stream uint32, frames int) (b []byte) {
		for range frames {
			b = append(b, data(stream, full, false)...)
		}
		return b
	}
	small := func(c *Config) { c.StreamWindow, c.ConnWindow = 4*maxFrame, 8*maxFrame }

	t.Run("given back only when it was passed on", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1), upload(p, 1, 4)), nil)
		if got := p.frames(); len(got) != 0 {
			t.Fatalf("sent %q", got)
		}
		s := p.h.streams[1]
		s.Consume(maxFrame)
		s.Consume(maxFrame - 1)
		p.shared.Flush()
		if got := p.frames(); len(got) != 0 {
			t.Fatalf("below the half: sent %q", got)
		}
		s.Consume(1)
		p.shared.Flush()
		if diff := cmp.Diff([]string{fmt.Sprintf("WINDOW_UPDATE 1 %d", 2*maxFrame)}, p.frames()); diff != "" {
			t.Error(diff)
		}
		s.Consume(2 * maxFrame)
		s.Consume(100_000) // more than was received
		p.shared.Flush()
		if diff := cmp.Diff([]string{fmt.Sprintf("WINDOW_UPDATE 1 %d", 2*maxFrame), fmt.Sprintf("WINDOW_UPDATE 0 %d", 4*maxFrame)}, p.frames()); diff != "" {
			t.Error(diff)
		}
		p.want(p.feed(upload(p, 1, 4)), nil)
	})
	t.Run("stream's window is exceeded (6.9.1)", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1), upload(p, 1, 4), data(1, "x", false)), nil)
		if diff := cmp.Diff([]string{"RST_STREAM 1 FLOW_CONTROL_ERROR", fmt.Sprintf("WINDOW_UPDATE 0 %d", 4*maxFrame)}, p.frames()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("connection's window is exceeded (6.9.1)", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1), p.post(3), p.post(5), upload(p, 1, 4), upload(p, 3, 4), data(5, "x", false)), ErrConnWindow)
	})
	t.Run("data of a stream that we have reset gives the connection's window back", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1)), nil)
		p.h.streams[1].Reset(Cancel)
		p.shared.Flush()
		for range 20 {
			p.want(p.feed(data(1, full, false)), nil)
		}
		if diff := cmp.Diff([]string{"RST_STREAM 1 CANCEL", fmt.Sprintf("WINDOW_UPDATE 0 %d", 4*maxFrame)}, p.frames()[:2]); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"1 POST https://x/"}, p.take()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what a stream held is given back when it ends", func(t *testing.T) {
		p := clientOf(t, small)
		for i := range uint32(20) {
			id := 2*i + 1
			p.want(p.feed(p.post(id), upload(p, id, 4), reset(id, Cancel)), nil)
		}
		p.want(p.feed(p.post(101), upload(p, 101, 4)), nil)
	})
	t.Run("within a frame, too", func(t *testing.T) {
		p := clientOf(t, small)
		p.h.onData = func(s *Stream, _ []byte, _ bool) { s.Reset(Cancel) }
		p.step = 1000
		for i := range uint32(40) {
			id := 2*i + 1
			p.want(p.feed(p.post(id), upload(p, id, 1)), nil)
		}
		c := &p.server.conn
		if got := c.recvWindow + c.credit; got != 8*maxFrame {
			t.Errorf("the connection's window is %d, want %d", got, 8*maxFrame)
		}
	})
	t.Run("padding is given back at once", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1)), nil)
		for range 1000 {
			p.want(p.feed(raw(frameData, flagPadded, 1, append([]byte{255, 'x'}, make([]byte, 255)...))), nil)
			p.h.streams[1].Consume(1)
		}
	})
	t.Run("no update for a stream that the peer has ended", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1), upload(p, 1, 3), data(1, full, true)), nil)
		p.h.streams[1].Consume(4 * maxFrame)
		p.shared.Flush()
		if diff := cmp.Diff([]string{fmt.Sprintf("WINDOW_UPDATE 0 %d", 4*maxFrame)}, p.frames()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("update of a stream by 0 (6.9)", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1), appendWindowUpdate(nil, 1, 0)), nil)
		if diff := cmp.Diff([]string{"RST_STREAM 1 PROTOCOL_ERROR"}, p.frames()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("update of a stream that overflows (6.9.1)", func(t *testing.T) {
		p := clientOf(t, small)
		p.want(p.feed(p.post(1), appendWindowUpdate(nil, 1, maxWindow)), nil)
		if diff := cmp.Diff([]string{"RST_STREAM 1 FLOW_CONTROL_ERROR"}, p.frames()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("updates of the past are ignored (5.1)", func(t *testing.T) {
		p := clientOf(t, small)
		p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, nil, true) }
		p.want(p.feed(p.get(1), appendWindowUpdate(nil, 1, 100), reset(1, NoError), raw(framePriority, 0, 1, make([]byte, 5))), nil)
	})
}
