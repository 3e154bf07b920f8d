package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacker is an HTTP/2 client by prior knowledge that does as it likes.
type attacker struct {
	*net.TCPConn
	fr   *http2.Framer
	head bytes.Buffer
	enc  *hpack.Encoder
	out  bytes.Buffer // what fr has written, to be sent
}

func attack(t *testing.T, address string, settings ...http2.Setting) *attacker {
	t.Helper()
	a := &attacker{TCPConn: dial(t, address)}
	a.fr = http2.NewFramer(&a.out, a.TCPConn)
	a.fr.AllowIllegalWrites = true
	a.enc = hpack.NewEncoder(&a.head)
	a.out.WriteString(http2.ClientPreface)
	_ = a.fr.WriteSettings(settings...)
	if err := a.send(); err != nil {
		t.Fatal(err)
	}
	return a
}

// send sends what was written.
func (a *attacker) send() error {
	_, err := a.out.WriteTo(a.TCPConn)
	return err
}

// block encodes a header block of a GET, and more fields.
func (a *attacker) block(path string, fields ...string) []byte {
	a.head.Reset()
	all := append([]string{":method", "GET", ":scheme", "http", ":authority", "x", ":path", path}, fields...)
	for i := 0; i < len(all); i += 2 {
		_ = a.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return bytes.Clone(a.head.Bytes())
}

// get writes a request.
func (a *attacker) get(id uint32, path string, end bool) {
	_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block(path), EndHeaders: true, EndStream: end})
}

// outcome reads to the connection's end, and returns the last GOAWAY's code
// and what it says, and how many streams were reset.
func (a *attacker) outcome(t *testing.T) (code string, resets int) {
	t.Helper()
	_ = a.SetDeadline(time.Now().Add(patience))
	code = "none"
	for {
		f, err := a.fr.ReadFrame()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			t.Fatal("the connection did not end")
		case err != nil:
			return code, resets
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			code = f.ErrCode.String()
		case *http2.RSTStreamFrame:
			resets++
		}
	}
}

func TestHTTP2Floods(t *testing.T) {
	id := func(i int) uint32 { return uint32(2*i + 1) }
	tests := []struct {
		name    string
		prepare func(a *attacker)
		step    func(a *attacker, i int)
		want    string
	}{
		{"rapid reset (CVE-2023-44487)", nil, func(a *attacker, i int) {
			a.get(id(i), "/wait", true)
			_ = a.fr.WriteRSTStream(id(i), http2.ErrCodeCancel)
		}, "ENHANCE_YOUR_CALM"},
		{"MadeYouReset (CVE-2025-8671)", nil, func(a *attacker, i int) {
			a.get(id(i), "/wait", true)
			_ = a.fr.WriteWindowUpdate(id(i), 0)
		}, "ENHANCE_YOUR_CALM"},
		{"more streams than are allowed", nil, func(a *attacker, i int) { a.get(id(i), "/wait", false) }, "ENHANCE_YOUR_CALM"},
		{"CONTINUATION (CVE-2024-27316)", func(a *attacker) {
			_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block("/")})
		}, func(a *attacker, _ int) {
			_ = a.fr.WriteContinuation(1, false, []byte{0x00, 1, 'a', 1, 'b'})
		}, "ENHANCE_YOUR_CALM"},
		{"empty CONTINUATION", func(a *attacker) {
			_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1})
		}, func(a *attacker, _ int) { _ = a.fr.WriteContinuation(1, false, nil) }, "ENHANCE_YOUR_CALM"},
		{"SETTINGS", nil, func(a *attacker, _ int) { _ = a.fr.WriteSettings() }, "ENHANCE_YOUR_CALM"},
		{"PING", nil, func(a *attacker, _ int) { _ = a.fr.WritePing(false, [8]byte{}) }, "ENHANCE_YOUR_CALM"},
		{"PRIORITY", nil, func(a *attacker, _ int) {
			_ = a.fr.WritePriority(3, http2.PriorityParam{StreamDep: 0})
		}, "ENHANCE_YOUR_CALM"},
		{"unknown frames", nil, func(a *attacker, _ int) { _ = a.fr.WriteRawFrame(0x77, 0, 0, nil) }, "ENHANCE_YOUR_CALM"},
		{"empty DATA", func(a *attacker) { a.get(1, "/wait", false) }, func(a *attacker, _ int) {
			_ = a.fr.WriteData(1, false, nil)
		}, "ENHANCE_YOUR_CALM"},
		{"window updates of 1", nil, func(a *attacker, _ int) { _ = a.fr.WriteWindowUpdate(0, 1) }, "ENHANCE_YOUR_CALM"},
		{"a window that overflows", nil, func(a *attacker, _ int) { _ = a.fr.WriteWindowUpdate(0, 1<<31-1) }, "FLOW_CONTROL_ERROR"},
		{"header bombs", func(a *attacker) {
			// Into the table of the decoder, from where a byte brings it back.
			_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: a.block("/", "bomb", strings.Repeat("x", 3800))})
		}, func(a *attacker, i int) {
			bomb := append(a.block("/"), bytes.Repeat([]byte{0x80 | 62}, 16000)...) // 60 MB
			_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id(i + 1), EndHeaders: true, EndStream: true, BlockFragment: bomb})
		}, "ENHANCE_YOUR_CALM"},
		{"malformed heads", nil, func(a *attacker, i int) {
			_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id(i), EndHeaders: true, EndStream: true, BlockFragment: a.block("/", "Upper", "case")})
		}, "ENHANCE_YOUR_CALM"},
		{"frames that are too long", nil, func(a *attacker, _ int) { _ = a.fr.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<15)) }, "FRAME_SIZE_ERROR"},
		{"DATA of streams that were never opened", nil, func(a *attacker, _ int) { _ = a.fr.WriteData(99, false, []byte("x")) }, "PROTOCOL_ERROR"},
		{"random bytes", nil, func(a *attacker, i int) {
			for range 64 {
				i = i*1103515245 + 12345
				a.out.WriteByte(byte(i >> 16))
			}
		}, "any"},
	}
	s := besiege(t)
	for _, tt := range tests {
		for _, reads := range []bool{true, false} {
			name := tt.name
			if !reads {
				name += ", nothing read meanwhile"
			}
			t.Run(name, func(t *testing.T) {
				s.t = t
				a := attack(t, s.address)
				if tt.prepare != nil {
					tt.prepare(a)
				}
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for i := 0; ; i++ {
						if tt.step(a, i); i%16 == 15 && a.send() != nil {
							return
						}
					}
				}()
				if !reads {
					<-sent // until the proxy takes no more
				}
				s.served()
				s.holds(4 << 20)
				if n := s.Status().InFlight; n > 128 {
					t.Errorf("%d requests are in flight", n)
				}
				code, _ := a.outcome(t)
				<-sent
				if code != tt.want && tt.want != "any" {
					t.Errorf("GOAWAY of %s, want %s", code, tt.want)
				}
				_ = a.Close()
				s.over()
			})
		}
	}
}

// Windows that stay shut hold a read of each stream at most, and the body of a
// request no more than the proxy's own windows.
func TestHTTP2WindowsThatStayShut(t *testing.T) {
	s := besiege(t)
	a := attack(t, s.shortExchange, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const streams = 100
	for i := range streams {
		a.get(uint32(2*i+1), "/large", true)
	}
	if err := a.send(); err != nil {
		t.Fatal(err)
	}
	s.served()
	s.holds(streams * (96 << 10))
	// After the time in which nothing moved, each is given up.
	resets := 0
	for resets < streams {
		f, err := a.fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %d resets: %v", resets, err)
		}
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			resets++
		}
	}
	_ = a.Close()
	s.over()
}

func TestHTTP2BodiesBeyondTheWindow(t *testing.T) {
	s := besiege(t)
	a := attack(t, s.address)
	a.get(1, "/wait", false)
	var all int
	for all < 2<<20 { // the connection's window is 1 MiB, a stream's less
		_ = a.fr.WriteData(1, false, make([]byte, 16<<10))
		all += 16 << 10
	}
	go func() { _ = a.send() }()
	s.served()
	s.holds(2 << 20)
	code, resets := "", 0
	for resets == 0 && code == "" {
		f, err := a.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			resets, code = 1, f.ErrCode.String()
		case *http2.GoAwayFrame:
			code = f.ErrCode.String()
		}
	}
	// The body may also pass the limit of its size first, while the server's
	// kernel takes it: then it is answered, and the rest not wanted.
	if code != "FLOW_CONTROL_ERROR" && code != "NO_ERROR" {
		t.Errorf("ended with %s", code)
	}
	_ = a.Close()
	s.over()
}

// Slow beginnings of connections, frames and heads are cut off after their time.
func TestHTTP2ClientsThatStop(t *testing.T) {
	tests := []struct {
		name string
		act  func(a *attacker)
	}{
		{"within a frame's header", func(a *attacker) { a.out.Write([]byte{0, 0, 8}) }},
		{"within a frame", func(a *attacker) { a.out.Write([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2}) }},
		{"within a header block", func(a *attacker) {
			_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block("/")})
		}},
		{"without a request", func(*attacker) {}},
	}
	s := besiege(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			a := attack(t, s.shortHeader)
			tt.act(a)
			_ = a.send()
			s.served()
			// None, on a machine so slow that the time is over before the preface is
			// read.
			if code, _ := a.outcome(t); code != "NO_ERROR" && code != "none" {
				t.Errorf("GOAWAY of %s, want NO_ERROR", code)
			}
			_ = a.Close()
			s.over()
		})
	}
	t.Run("within the preface", func(t *testing.T) {
		s.t = t
		c := dial(t, s.shortHeader)
		_, _ = io.WriteString(c, http2.ClientPreface[:10])
		s.served()
		rest(t, c)
		_ = c.Close()
		s.over()
	})
}

// A reset in the middle of many streams ends them all, at the server too.
func TestHTTP2ClientsThatReset(t *testing.T) {
	s := besiege(t)
	a := attack(t, s.address)
	for i := range 50 {
		a.get(uint32(2*i+1), "/wait", true)
	}
	_ = a.send()
	for range 50 {
		<-s.server.arrived
	}
	s.served()
	reset(a.TCPConn)
	for range 50 {
		<-s.server.broken
	}
	s.over()
}
