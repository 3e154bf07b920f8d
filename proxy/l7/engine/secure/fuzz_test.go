package secure

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"
)

// FuzzBefore has a client send anything instead of a handshake.
func FuzzBefore(f *testing.F) {
	whole := []byte(hello(f))
	f.Add(whole, uint16(0), true)
	f.Add(whole, uint16(1), false)
	f.Add(whole[:100], uint16(7), true)
	f.Add(append(bytes.Clone(whole), 20, 3, 3, 0, 1, 1), uint16(0), true)
	f.Add(append(bytes.Clone(whole), 21, 3, 3, 0, 2, 2, 40), uint16(0), false)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(3), true)
	f.Add([]byte{22, 3, 1, 0, 8, 1, 0xff, 0xff, 0xff}, uint16(0), false)
	f.Fuzz(func(t *testing.T, sent []byte, chunk uint16, fin bool) {
		inBubble(t, Limits{Timeout: time.Second}, func(r *rig) {
			e, s := r.accept(serverConfig(), nil)
			e.chunk = int(chunk)
			if len(sent) > 64<<10 {
				return
			}
			_, _ = e.Write(sent)
			if fin {
				e.shutdown()
			}
			r.pass(time.Second + lingerWithin)
			if s.c != nil {
				t.Fatal("accepted")
			}
			if len(r.failures) != 1 || r.handshakes.Open() != 0 {
				t.Errorf("failures %v, %d open", r.failures, r.handshakes.Open())
			}
			if !e.peer.EOF && r.failures[0].Reason != PeerGone {
				t.Error("the connection stands")
			}
		})
	})
}

// FuzzAfter has an established client send anything: records that verify, of
// any type, then bytes that are none.
func FuzzAfter(f *testing.F) {
	f.Add([]byte("\x17\x02hi\x15\x02\x01\x00"), []byte{}, uint8(0), false)
	f.Add([]byte("\x16\x05\x18\x00\x00\x01\x01"), []byte{23, 3, 3, 0, 20}, uint8(1), true)
	f.Add([]byte("\x16\x02\x18\x00\x16\x03\x00\x01\x00"), []byte("GET /"), uint8(5), true)
	f.Add([]byte("\x00\x00\x17\x00\x14\x01\x01"), []byte{}, uint8(0), true)
	f.Fuzz(func(t *testing.T, sealed, plain []byte, chunk uint8, pause bool) {
		inBubble(t, Limits{}, func(r *rig) {
			b, s := r.bareClient(func(s *session, b []byte) {
				s.c.Send(b)
				if pause {
					s.c.Pause()
				}
			})
			var want []byte
			b.e.chunk = int(chunk)
			for len(sealed) >= 2 {
				kind, n := sealed[0], min(int(sealed[1]), len(sealed)-2)
				payload := sealed[2 : 2+n]
				sealed = sealed[2+n:]
				// The type is the last byte that is not padding.
				if inner := bytes.TrimRight(append(bytes.Clone(payload), kind), "\x00"); len(inner) > 0 && inner[len(inner)-1] == applicationData {
					want = append(want, inner[:len(inner)-1]...)
				}
				b.send(b.toUs.seal(kind, payload))
			}
			b.send(plain)
			b.e.shutdown()
			r.settle()
			for range 1000 {
				if s.eof > 0 || len(s.closed) > 0 {
					break
				}
				s.c.Resume()
				r.settle()
			}
			if s.eof+len(s.closed) != 1 {
				t.Fatalf("EOF %d, closed %v", s.eof, s.closed)
			}
			if !bytes.HasPrefix(want, s.got.Bytes()) {
				t.Errorf("got %q of %q", s.got.Bytes(), want)
			}
			s.c.Close()
			calls := s.calls
			r.settle()
			if s.calls != calls || s.eof+len(s.closed) != 1 {
				t.Error("called after the end")
			}
		})
	})
}

// FuzzDialled has a server answer a ClientHello with anything.
func FuzzDialled(f *testing.F) {
	f.Add([]byte{22, 3, 3, 0, 4, 2, 0, 0, 0}, uint8(0))
	f.Add([]byte{21, 3, 3, 0, 2, 2, 40}, uint8(1))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, sent []byte, chunk uint8) {
		inBubble(t, Limits{}, func(r *rig) {
			var e *end
			r.engine.Accept = acceptEnd(r, &e)
			s := &session{}
			r.loop.Dial(backend, clientConfig(tls.VersionTLS13), s)
			r.settle()
			e.chunk = int(chunk)
			_, _ = e.Write(sent)
			e.shutdown()
			r.settle()
			if s.opened != 0 || len(s.closed) != 1 || r.handshakes.Open() != 0 {
				t.Errorf("opened %d, closed %v, %d open", s.opened, s.closed, r.handshakes.Open())
			}
		})
	})
}
