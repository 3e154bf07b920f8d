package l7

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/site"
)

// peer2 is an HTTP/2 client in memory that writes frames as it likes.
type peer2 struct {
	*inmem.Peer
	out  bytes.Buffer
	fr   *http2.Framer
	head bytes.Buffer
	enc  *hpack.Encoder
}

func newPeer2(p *inmem.Peer) *peer2 {
	c := &peer2{Peer: p}
	c.fr = http2.NewFramer(&c.out, nil)
	c.enc = hpack.NewEncoder(&c.head)
	return c
}

// start is how a connection begins, with these settings.
func (c *peer2) start(settings ...http2.Setting) string {
	_ = c.fr.WriteSettings(settings...)
	return http2.ClientPreface + c.take()
}

// take returns what was written to fr.
func (c *peer2) take() string {
	s := c.out.String()
	c.out.Reset()
	return s
}

func (c *peer2) block() []byte {
	c.head.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}, {"a", strings.Repeat("b", 50)}} {
		_ = c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return c.head.Bytes()
}

func (c *peer2) get(id uint32) string {
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(), EndHeaders: true, EndStream: true})
	return c.take()
}

// seen returns the frames that have come, such as "RST_STREAM 1 CANCEL".
func (c *peer2) seen() (all []string) {
	r := http2.NewFramer(nil, strings.NewReader(c.Read()))
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return all
		}
		s := f.Header().Type.String()
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			s += " " + f.ErrCode.String()
		case *http2.GoAwayFrame:
			s += " " + f.ErrCode.String()
		}
		all = append(all, s)
	}
}

// A connection's first request must have come within the time of a head, however
// its bytes trickle in; later ones within the time that a connection may be idle.
func TestSlowHTTP2Clients(t *testing.T) {
	tests := []struct {
		name   string
		served bool // a request was answered before
		slow   func(c *peer2) string
	}{
		{"in the preface", false, func(c *peer2) string { return c.start() }},
		{"in SETTINGS", false, func(c *peer2) string {
			c.Write(http2.ClientPreface)
			return c.start(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14})[len(http2.ClientPreface):]
		}},
		{"in a frame's header", false, func(c *peer2) string {
			c.Write(c.start())
			return c.get(1)
		}},
		{"in a header block", false, func(c *peer2) string {
			c.Write(c.start())
			_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block()[:1]})
			c.Write(c.take())
			for _, b := range c.block()[1:] {
				_ = c.fr.WriteContinuation(1, false, []byte{b})
			}
			return c.take()
		}},
		{"with PINGs", false, func(c *peer2) string {
			c.Write(c.start())
			for range 30 {
				_ = c.fr.WritePing(false, [8]byte{})
			}
			return c.take()
		}},
		{"in the second request", true, func(c *peer2) string { return c.get(3) }},
		{"with PINGs after a request", true, func(c *peer2) string {
			for range 30 {
				_ = c.fr.WritePing(false, [8]byte{})
			}
			return c.take()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			c := newPeer2(r.client())
			limit := site.DefaultHTTP().Header
			if tt.served {
				limit = site.DefaultHTTP().Idle
				c.Write(c.start() + c.get(1))
				r.loop.Run()
				r.server(t, 0).Write(reply)
			}
			slow := tt.slow(c)
			r.loop.Run()
			c.seen()
			// A byte every so often, of which the last would come after the limit.
			step := limit * 2 / time.Duration(len(slow))
			var waited time.Duration
			for i := 0; waited+step < limit; i++ {
				c.Write(slow[i : i+1])
				r.loop.Advance(step)
				waited += step
				if c.EOF {
					t.Fatalf("closed after %v of %v", waited, limit)
				}
			}
			r.loop.Advance(limit - waited + 50*time.Millisecond)
			if !c.EOF {
				t.Fatalf("not closed after %v", limit)
			}
			r.loop.Advance(DefaultTimeouts().Linger + 50*time.Millisecond)
			if len(r.w.sessions) != 0 {
				t.Error("the session is left")
			}
			r.settled(t)
		})
	}
}

// Found by TestHTTP2WindowsThatStayShut: a response that was complete, and
// waited for a window, had no time any more.
func TestACompleteResponseThatTheClientDoesNotTakeIsGivenUp(t *testing.T) {
	for name, answer := range map[string]string{"a server's": reply, "the proxy's own": "garbage\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			c := newPeer2(r.client())
			c.Write(c.start(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) + c.get(1))
			r.loop.Run()
			r.server(t, 0).Write(answer)
			r.loop.Advance(time.Second)
			if got := strings.Join(c.seen(), ", "); !strings.HasSuffix(got, "HEADERS") {
				t.Fatalf("frames %s, want the head last", got)
			}
			limit := site.DefaultHTTP().Exchange
			r.loop.Advance(limit - 2*time.Second)
			if got := c.seen(); len(got) != 0 {
				t.Fatalf("frames %q before the limit", got)
			}
			r.loop.Advance(2 * time.Second)
			if got := strings.Join(c.seen(), ", "); got != "RST_STREAM CANCEL" {
				t.Errorf("frames %q, want the stream's reset", got)
			}
			if n := len(r.w.sessions[0].m.streams); n != 0 {
				t.Errorf("%d streams are left", n)
			}
			// The connection goes on, and then is idle.
			c.Write(c.get(3))
			r.loop.Run()
			if got := r.w.inFlight.Load(); got != 1 {
				t.Errorf("%d in flight, want the next request", got)
			}
			c.Abort()
			r.loop.Run()
			r.settled(t)
		})
	}
}

// One that opens its windows in time gets all of it, and no reset after.
func TestACompleteResponseThatTheClientTakesLate(t *testing.T) {
	r := newRig()
	c := newPeer2(r.client())
	c.Write(c.start(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) + c.get(1))
	r.loop.Run()
	r.server(t, 0).Write(reply)
	r.loop.Advance(site.DefaultHTTP().Exchange - time.Second)
	c.seen()
	_ = c.fr.WriteWindowUpdate(1, 1000)
	c.Write(c.take())
	r.loop.Advance(5 * time.Second)
	if got := strings.Join(c.seen(), ", "); got != "DATA" {
		t.Errorf("frames %q, want the body alone", got)
	}
	r.settled(t)
}
