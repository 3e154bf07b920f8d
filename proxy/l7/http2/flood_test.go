package http2

import (
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// flood feeds what step makes until the connection ends, and returns after how
// many steps that was, and why.
func (p *peer) flood(limit int, step func(i int) []byte) (int, *Error) {
	p.t.Helper()
	for i := range limit {
		if err := p.feed(step(i)); err != nil {
			return i + 1, err
		}
		if p.out.pending > maxUnread+maxBacklog+maxBatch {
			p.t.Fatalf("%d bytes are pending", p.out.pending)
		}
	}
	return limit, nil
}

// Each flood ends the connection after about its burst.
func TestFloods(t *testing.T) {
	id := func(i int) uint32 { return uint32(2*i + 1) }
	window := func(n uint32) []byte {
		return settingsFrame(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: n})
	}
	tests := []struct {
		name    string
		prepare func(p *peer)
		step    func(p *peer, i int) []byte
		burst   int
		want    *Error
	}{
		{"rapid reset (CVE-2023-44487)", nil, func(p *peer, i int) []byte {
			return append(p.get(id(i)), reset(id(i), Cancel)...)
		}, resetBurst, ErrResets},
		{"rapid reset, each fourth request left to complete", func(p *peer) {
			p.h.onHead = func(s *Stream, _ bool) {
				if s.ID()%8 == 1 {
					s.WriteHeaders(200, nil, true)
				}
			}
		}, func(p *peer, i int) []byte {
			if i%4 == 0 {
				return p.get(id(i))
			}
			return append(p.get(id(i)), reset(id(i), Cancel)...)
		}, 2 * resetBurst, ErrResets},
		{"MadeYouReset (CVE-2025-8671) by data after the end", nil, func(p *peer, i int) []byte {
			return append(p.get(id(i)), data(id(i), "x", false)...)
		}, provokedBurst, ErrProvoked},
		{"MadeYouReset by a window update of 0", nil, func(p *peer, i int) []byte {
			return append(p.get(id(i)), appendWindowUpdate(nil, id(i), 0)...)
		}, provokedBurst, ErrProvoked},
		{"MadeYouReset by an overflowing window", nil, func(p *peer, i int) []byte {
			return append(p.get(id(i)), appendWindowUpdate(nil, id(i), maxWindow)...)
		}, provokedBurst, ErrProvoked},
		{"MadeYouReset by a body that is too long", nil, func(p *peer, i int) []byte {
			return append(p.post(id(i), "content-length: 0"), data(id(i), "x", false)...)
		}, provokedBurst, ErrProvoked},
		{"malformed requests", nil, func(p *peer, i int) []byte {
			return p.head(id(i), true, "x: y")
		}, provokedBurst, ErrProvoked},
		{"heads that are too large", nil, func(p *peer, i int) []byte {
			return p.head(id(i), true, "x: "+strings.Repeat("y", 8<<10))
		}, provokedBurst, ErrProvoked},
		{"streams beyond the limit", func(p *peer) {
			for i := range 128 {
				p.want(p.feed(p.post(id(i))), nil)
			}
		}, func(p *peer, i int) []byte { return p.post(id(128 + i)) }, provokedBurst, ErrProvoked},
		{"continuations without an end (CVE-2024-27316)", func(p *peer) {
			p.want(p.feed(raw(frameHeaders, 0, 1, p.encode(getLines...))), nil)
		}, func(p *peer, _ int) []byte { return raw(frameContinuation, 0, 1, p.encode("x: y")) }, 10, ErrBlockTooLarge},
		{"empty continuations", func(p *peer) {
			p.want(p.feed(raw(frameHeaders, 0, 1, nil)), nil)
		}, func(*peer, int) []byte { return raw(frameContinuation, 0, 1, nil) }, 10, ErrBlockTooLarge},
		{"large continuations", func(p *peer) {
			p.want(p.feed(raw(frameHeaders, 0, 1, nil)), nil)
		}, func(p *peer, _ int) []byte {
			return raw(frameContinuation, 0, 1, p.encode("x: "+strings.Repeat("~", 7<<10)))
		}, 8, ErrBlockTooLarge},
		{"PING, answers read", nil, func(*peer, int) []byte { return raw(framePing, 0, 0, make([]byte, 8)) }, overheadBurst, ErrOverhead},
		{"PING, answers not read", func(p *peer) { p.out.stuck = true }, func(*peer, int) []byte {
			return raw(framePing, 0, 0, make([]byte, 8))
		}, maxUnread / 17, ErrUnread},
		{"SETTINGS, answers read", nil, func(*peer, int) []byte { return settingsFrame() }, overheadBurst, ErrOverhead},
		{"SETTINGS, answers not read", func(p *peer) { p.out.stuck = true }, func(*peer, int) []byte { return settingsFrame() }, maxUnread / 9, ErrUnread},
		{"resets of ours, not read", func(p *peer) {
			p.out.stuck = true
			p.h.onHead = func(s *Stream, _ bool) { s.Reset(InternalError) }
		}, func(p *peer, i int) []byte { return p.get(id(i)) }, maxUnread / 13, ErrUnread},
		{"empty DATA", func(p *peer) { p.want(p.feed(p.post(1)), nil) }, func(*peer, int) []byte { return data(1, "", false) }, overheadBurst, ErrOverhead},
		{"DATA of padding only", func(p *peer) { p.want(p.feed(p.post(1)), nil) }, func(*peer, int) []byte {
			return raw(frameData, flagPadded, 1, []byte{3, 0, 0, 0})
		}, overheadBurst, ErrOverhead},
		{"DATA of a stream that we have reset", func(p *peer) {
			p.h.onHead = func(s *Stream, _ bool) { s.Reset(Cancel) }
			p.want(p.feed(p.post(1)), nil)
		}, func(*peer, int) []byte { return data(1, "x", false) }, overheadBurst, ErrOverhead},
		{"PRIORITY", nil, func(*peer, int) []byte { return raw(framePriority, 0, 3, make([]byte, 5)) }, overheadBurst, ErrOverhead},
		{"unknown frames", nil, func(*peer, int) []byte { return raw(0x77, 0, 0, nil) }, overheadBurst, ErrOverhead},
		{"GOAWAY", nil, func(*peer, int) []byte { return appendGoAway(nil, 0, NoError, "") }, overheadBurst, ErrOverhead},
		{"RST_STREAM of closed streams", func(p *peer) {
			p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, nil, true) }
			p.want(p.feed(p.get(1)), nil)
		}, func(*peer, int) []byte { return reset(1, Cancel) }, overheadBurst, ErrOverhead},
		{"tiny window updates, with nothing to send", nil, func(*peer, int) []byte { return appendWindowUpdate(nil, 0, 1) }, overheadBurst, ErrOverhead},
		{"a body drawn out byte by byte", func(p *peer) {
			p.download(1 << 20)
			p.want(p.feed(window(0), p.get(1)), nil)
		}, func(*peer, int) []byte { return appendWindowUpdate(nil, 1, 1) }, overheadBurst / 2, ErrOverhead},
		{"a body drawn out by changing the initial window", func(p *peer) {
			p.download(1 << 20)
			p.want(p.feed(window(0), p.get(1)), nil)
		}, func(_ *peer, i int) []byte { return window(uint32(i + 1)) }, overheadBurst / 2, ErrOverhead},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := clientOf(t)
			if tt.prepare != nil {
				tt.prepare(p)
			}
			n, err := p.flood(4*tt.burst+1000, func(i int) []byte { return tt.step(p, i) })
			if err != tt.want || n < tt.burst/2 || n > 2*tt.burst+100 {
				t.Errorf("after %d steps: %v; want about %d: %v", n, err, tt.burst, tt.want)
			}
			t.Logf("after %d steps", n)
			if frames := p.frames(); frames[len(frames)-1] == "" || !strings.HasSuffix(frames[len(frames)-1], " ENHANCE_YOUR_CALM") {
				t.Errorf("the last frame is %q", frames[len(frames)-1])
			}
		})
	}
}

// What ordinary clients do is no flood, however long they do it.
func TestOrdinaryUseIsNoFlood(t *testing.T) {
	id := func(i int) uint32 { return uint32(2*i + 1) }
	tests := []struct {
		name    string
		pause   time.Duration // between two steps
		prepare func(p *peer)
		step    func(p *peer, i int) []byte
	}{
		{"a browser with priorities", 0, func(p *peer) {
			p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, nil, true) }
		}, func(p *peer, i int) []byte {
			return append(append(p.get(id(i)), raw(framePriority, 0, id(i), make([]byte, 5))...), raw(0x10, 0, 0, make([]byte, 8))...)
		}},
		{"gRPC stream of small messages, with a PING for each", 0, func(p *peer) {
			p.want(p.feed(p.post(1)), nil)
			p.h.onData = func(s *Stream, b []byte, _ bool) { s.Consume(len(b)) }
		}, func(*peer, int) []byte {
			return append(data(1, "hello", false), raw(framePing, 0, 0, make([]byte, 8))...)
		}},
		{"gRPC stream of small answers, with an update for each", 0, func(p *peer) {
			p.want(p.feed(p.post(1)), nil)
			p.h.streams[1].WriteHeaders(200, nil, false)
		}, func(p *peer, _ int) []byte {
			p.h.streams[1].WriteData([]byte("hello"), false)
			p.shared.Flush()
			return append(appendWindowUpdate(nil, 0, 5), appendWindowUpdate(nil, 1, 5)...)
		}},
		{"requests canceled after the answer began", 0, func(p *peer) {
			p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, nil, false) }
		}, func(p *peer, i int) []byte { return append(p.get(id(i)), reset(id(i), Cancel)...) }},
		{"one cancellation for each request that completes", 0, func(p *peer) {
			p.h.onHead = func(s *Stream, _ bool) {
				if s.ID()%4 == 1 {
					s.WriteHeaders(200, nil, true)
				}
			}
		}, func(p *peer, i int) []byte {
			return append(append(p.get(id(2*i)), p.get(id(2*i+1))...), reset(id(2*i+1), Cancel)...)
		}},
		{"ten cancellations a second", 100 * time.Millisecond, nil, func(p *peer, i int) []byte { return append(p.get(id(i)), reset(id(i), Cancel)...) }},
		{"a PING each 10 ms", 10 * time.Millisecond, nil, func(*peer, int) []byte { return raw(framePing, 0, 0, make([]byte, 8)) }},
		{"many PINGs on a connection that reads", 10 * time.Millisecond, func(p *peer) { p.out.stuck = true }, func(p *peer, _ int) []byte {
			p.out.pending = 0
			p.want(p.server.Drained(p.now), nil)
			return raw(framePing, 0, 0, make([]byte, 8))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := clientOf(t)
			if tt.prepare != nil {
				tt.prepare(p)
			}
			for i := range 20_000 {
				p.want(p.feed(tt.step(p, i)), nil)
				p.now += tt.pause
				p.h.events, p.h.streams = nil, map[uint32]*Stream{1: p.h.streams[1]}
				p.out.sent = nil
			}
		})
	}
}

// A client that does not read its answers gets no new ones begun, and what
// waits for it is bounded.
func TestUnreadAnswersAreBounded(t *testing.T) {
	p := clientOf(t)
	p.out.stuck = true
	f := nginxFields()[:1]
	f[0].Value = []byte(strings.Repeat("x", 20_000))
	p.h.onHead = func(s *Stream, _ bool) { s.WriteHeaders(200, f, false) }
	n, err := p.flood(10_000, func(i int) []byte {
		id := uint32(2*i + 1)
		return append(p.get(id), reset(id, Cancel)...)
	})
	if err == nil {
		t.Fatalf("no end after %d streams, %d bytes are pending", n, p.out.pending)
	}
	if limit := maxBacklog + maxUnread + 30_000; p.out.pending > limit {
		t.Errorf("%d bytes are pending, want at most %d", p.out.pending, limit)
	}
}

// A small block must not become a large list (a bomb): what is beyond the
// limit is not kept.
func TestHeaderBomb(t *testing.T) {
	p := clientOf(t)
	big := "x: " + strings.Repeat("y", 3900)
	p.want(p.feed(p.head(1, true, append(getLines, big)...)), nil) // into the table
	p.take()
	bomb := append(p.encode(getLines...), strings.Repeat("\xbe", 15_000)...) // 58 MB of "x"
	id := uint32(1)
	allocations := testing.AllocsPerRun(1, func() {
		id += 2
		p.want(p.feed(raw(frameHeaders, flagEndHeaders|flagEndStream, id, bomb)), nil)
		if e := p.take(); len(e) != 1 || e[0] != "refused: "+ErrTooLarge.Reason {
			t.Errorf("events %.200q", e)
		}
	})
	if allocations > 100 {
		t.Errorf("%v allocations", allocations)
	}
	// The table is still in step.
	p.want(p.feed(p.get(7)), nil)
	if e := p.take(); len(e) != 1 || e[0] != "7 GET https://x/ end" {
		t.Errorf("events %.200q", e)
	}
}

func TestBudget(t *testing.T) {
	b := newBudget(10, 2)
	spend := func(now time.Duration) (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	if n := spend(0); n != 10 {
		t.Errorf("burst of %d, want 10", n)
	}
	if b.earn(4); spend(0) != 3 { // one of the four went to the attempt that failed
		t.Error("what was earned cannot be spent")
	}
	if n := spend(time.Hour); n != 10 {
		t.Errorf("burst of %d after an hour, want 10", n)
	}
	b.earn(1000)
	if n := spend(2 * time.Hour); n != 10 {
		t.Errorf("burst of %d after earning much, want 10", n)
	}
}
