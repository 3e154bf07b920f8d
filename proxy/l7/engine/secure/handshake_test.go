package secure

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
)

var backend = netip.MustParseAddrPort("192.0.2.7:443")

func acceptEnd(r *rig, e **end) func(netip.AddrPort, *inmem.Peer) error {
	return func(_ netip.AddrPort, p *inmem.Peer) error {
		*e = newEnd(p)
		r.ends = append(r.ends, *e)
		return nil
	}
}

// hello is what a client sends first.
func hello(t testing.TB) string {
	var first recorder
	_ = tls.Client(&first, clientConfig(0)).Handshake()
	if len(first.sent) == 0 {
		t.Fatal("no ClientHello")
	}
	return string(first.sent)
}

// recorder is a connection on which nothing comes.
type recorder struct {
	end
	sent []byte
}

func (r *recorder) Write(b []byte) (int, error) { r.sent = append(r.sent, b...); return len(b), nil }
func (r *recorder) Read([]byte) (int, error)    { return 0, errors.New("nothing") }

func TestHandshakesThatFail(t *testing.T) {
	const timeout = 5 * time.Second
	whole := hello(t)
	tests := []struct {
		name string
		act  func(r *rig, e *end)
		want Reason
		// answer is the type of the first record of an answer, 0: none
		answer byte
	}{
		{"silence", func(r *rig, _ *end) { r.pass(timeout) }, TimedOut, 0},
		{"half a hello, and silence", func(r *rig, e *end) {
			_, _ = e.Write([]byte(whole[:100]))
			r.pass(timeout)
		}, TimedOut, 0},
		{"a byte a second", func(r *rig, e *end) {
			for i := range 6 {
				_, _ = e.Write([]byte{whole[i]})
				r.pass(time.Second)
			}
		}, TimedOut, 0},
		{"silence after the server's answer", func(r *rig, e *end) {
			_, _ = e.Write([]byte(whole))
			r.pass(timeout)
		}, TimedOut, 22},
		{"plain HTTP", func(_ *rig, e *end) { _, _ = e.Write([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")) }, PlainHTTP, 0},
		{"garbage", func(_ *rig, e *end) { _, _ = e.Write([]byte{0, 1, 2, 3, 4, 5, 6, 7}) }, NotTLS, 0},
		{"SSL 2", func(_ *rig, e *end) { _, _ = e.Write([]byte{0x80, 0x2e, 1, 0, 2}) }, NotTLS, 0},
		{"another version of records", func(_ *rig, e *end) { _, _ = e.Write([]byte{22, 4}) }, NotTLS, 0},
		{"an oversize record", func(_ *rig, e *end) { _, _ = e.Write([]byte{22, 3, 1, 0x40, 1}) }, NotTLS, 0},
		{"an empty record", func(_ *rig, e *end) { _, _ = e.Write([]byte{22, 3, 1, 0, 0}) }, NotTLS, 0},
		{"a server's hello", func(_ *rig, e *end) { _, _ = e.Write([]byte{22, 3, 1, 0, 4, 2, 0, 0, 0}) }, NotTLS, 0},
		{"a hello that does not parse", func(_ *rig, e *end) { _, _ = e.Write([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}) }, Refused, 21},
		{"endless warnings", func(r *rig, e *end) {
			_, _ = e.Write([]byte(whole))
			for range 100 {
				_, _ = e.Write([]byte{20, 3, 3, 0, 1, 1}) // change_cipher_spec, which 1.3 ignores
			}
		}, Refused, 22},
		{"a message of 16 MB", func(_ *rig, e *end) {
			_, _ = e.Write([]byte{22, 3, 1, 0, 8, 1, 0xff, 0xff, 0xff, 0, 0, 0, 0})
		}, Refused, 21},
		{"an oversize record after the hello", func(_ *rig, e *end) {
			_, _ = e.Write([]byte(whole))
			_, _ = e.Write([]byte{22, 3, 3, 0xff, 0xff})
		}, NotTLS, 22},
		{"FIN at once", func(_ *rig, e *end) { e.shutdown() }, PeerGone, 0},
		{"FIN within the hello", func(_ *rig, e *end) {
			_, _ = e.Write([]byte(whole[:100]))
			e.shutdown()
		}, PeerGone, 0},
		{"FIN after the hello", func(_ *rig, e *end) {
			_, _ = e.Write([]byte(whole))
			e.shutdown()
		}, PeerGone, 22},
		{"reset at once", func(_ *rig, e *end) { e.peer.Abort() }, PeerGone, 0},
		{"reset after the hello", func(r *rig, e *end) {
			_, _ = e.Write([]byte(whole))
			r.settle()
			e.peer.Abort()
		}, PeerGone, 22},
		{"an alert", func(_ *rig, e *end) {
			_, _ = e.Write([]byte(whole))
			_, _ = e.Write([]byte{21, 3, 3, 0, 2, 2, 48}) // unknown_ca, in the clear
		}, Refused, 22},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Limits{Timeout: timeout}, func(r *rig) {
				e, s := r.accept(serverConfig(), nil)
				tt.act(r, e)
				r.settle()
				if len(r.failures) != 1 || r.failures[0].Reason != tt.want {
					t.Fatalf("failures %v, want %v", r.failures, tt.want)
				}
				if n := r.handshakes.Counts().Failed(tt.want); n != 1 {
					t.Errorf("%d counted", n)
				}
				if r.handshakes.Open() != 0 {
					t.Errorf("%d are open", r.handshakes.Open())
				}
				if s.c != nil {
					t.Error("a session was made")
				}
				if tt.answer == 0 && len(e.seen) > 0 || tt.answer != 0 && (len(e.seen) == 0 || e.seen[0] != tt.answer) {
					t.Errorf("answer %q", e.seen)
				}
				// The peer gets a FIN at once, and the connection ends even if
				// it says nothing more.
				r.pass(lingerWithin)
				if !e.fin && tt.want != PeerGone || e.peer.Reset {
					t.Errorf("FIN %v, reset %v", e.fin, e.peer.Reset)
				}
				_, _ = e.Write([]byte("more"))
				r.settle()
				if e.peer.Unread() == 0 && tt.want != PeerGone {
					t.Error("the connection is still read")
				}
			})
		})
	}
}

// A client that is refused may go on sending for a while: it gets the reason,
// not a reset, unless it sends a lot.
func TestRefusedClientsGetTheAlert(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		server := serverConfig()
		server.ClientAuth = tls.RequireAndVerifyClientCert
		server.ClientCAs = pool()
		e, _ := r.accept(server, nil)
		// In TLS 1.3, the client is done before the server has seen that it has
		// no certificate.
		c := &client{r, e, tls.Client(e, clientConfig(tls.VersionTLS13))}
		_ = c.do(func() error {
			if err := c.Handshake(); err != nil {
				return err
			}
			_, err := c.Write(make([]byte, 100<<10))
			return err
		})
		_, err := c.rest()
		if err == nil || err.Error() != "remote error: tls: certificate required" {
			t.Errorf("the client got %v", err)
		}
		if len(r.failures) != 1 || r.failures[0].Reason != Refused || e.peer.Unread() > 0 {
			t.Errorf("failures %v, %d bytes unread", r.failures, e.peer.Unread())
		}
		_, _ = e.Write(make([]byte, maxLinger+1))
		r.settle()
		_, _ = e.Write(make([]byte, 1000))
		r.settle()
		if e.peer.Unread() == 0 {
			t.Error("no end of reading")
		}
	})
}

func TestClientCertificateOfAStranger(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		server := serverConfig()
		server.ClientAuth = tls.RequireAndVerifyClientCert // by the system's authorities
		e, _ := r.accept(server, nil)
		config := clientConfig(tls.VersionTLS12)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := identity()
			return &own, nil
		}
		c := &client{r, e, tls.Client(e, config)}
		if c.do(c.Handshake) == nil {
			t.Error("accepted")
		}
		if len(r.failures) != 1 || r.failures[0].Reason != BadCertificate {
			t.Errorf("failures %v", r.failures)
		}
	})
}

func TestDialsThatFail(t *testing.T) {
	tests := []struct {
		name string
		act  func(r *rig, e *end)
		want Reason
	}{
		{"silence", func(r *rig, _ *end) { r.pass(10 * time.Second) }, TimedOut},
		{"not TLS", func(_ *rig, e *end) { _, _ = e.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, NotTLS},
		{"FIN", func(_ *rig, e *end) { e.shutdown() }, PeerGone},
		{"an alert", func(_ *rig, e *end) { _, _ = e.Write([]byte{21, 3, 1, 0, 2, 2, 40}) }, PeerRefused},
		{"a certificate of a stranger", func(r *rig, e *end) {
			config := serverConfig()
			srv := &client{r, e, tls.Server(e, config)}
			_ = srv.do(srv.Handshake)
		}, BadCertificate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				var e *end
				r.engine.Accept = acceptEnd(r, &e)
				config := clientConfig(0)
				config.RootCAs = nil
				s := &session{}
				c := r.loop.Dial(backend, config, s)
				c.Send([]byte("secret"))
				r.settle()
				tt.act(r, e)
				r.settle()
				var failure *HandshakeError
				if len(s.closed) != 1 || !errors.As(s.closed[0], &failure) || failure.Reason != tt.want || failure.Peer != backend {
					t.Fatalf("closed with %v, want %v", s.closed, tt.want)
				}
				if s.opened+s.calls+s.eof > 0 || r.handshakes.Open() != 0 || !e.peer.EOF {
					t.Errorf("%+v, %d open, closed %v", s, r.handshakes.Open(), e.peer.EOF)
				}
			})
		})
	}
	t.Run("refused", func(t *testing.T) {
		inBubble(t, Limits{}, func(r *rig) {
			s := &session{}
			r.loop.Dial(backend, clientConfig(0), s)
			r.settle()
			if len(s.closed) != 1 || s.closed[0] != inmem.ErrRefused {
				t.Errorf("closed with %v", s.closed)
			}
			if r.handshakes.Open() != 0 {
				t.Error("counted as open")
			}
		})
	})
}

// Whoever dialled may lose interest at any time.
func TestDialsThatAreGivenUp(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func(*Conn)
	}{{"Close", (*Conn).Close}, {"Abort", (*Conn).Abort}} {
		for _, when := range []struct {
			name string
			wait func(*rig)
		}{
			{"at once", func(*rig) {}},
			{"when the connection stands", func(r *rig) { r.engine.Run() }},
			{"while the handshake waits", (*rig).settle},
		} {
			t.Run(how.name+" "+when.name, func(t *testing.T) {
				inBubble(t, Limits{}, func(r *rig) {
					var e *end
					r.engine.Accept = acceptEnd(r, &e)
					s := &session{}
					c := r.loop.Dial(backend, clientConfig(0), s)
					when.wait(r)
					how.end(c)
					c.Send([]byte("x"))
					r.settle()
					if s.opened+s.calls+s.eof+s.drained+len(s.closed) > 0 {
						t.Errorf("called: %+v", s)
					}
					if e != nil && !e.peer.EOF {
						t.Error("the connection stands")
					}
					if r.handshakes.Open() != 0 {
						t.Errorf("%d are open", r.handshakes.Open())
					}
				})
			})
		}
	}
}

// Data that comes right behind the handshake's last message, and the end
// right behind that, are not lost.
func TestAllAtOnceBehindTheHandshake(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		for _, notify := range []bool{true, false} {
			inBubble(t, Limits{}, func(r *rig) {
				e, s := r.accept(serverConfig(), nil)
				c := &client{r, e, tls.Client(e, clientConfig(version))}
				const size = 100 << 10 // more than is buffered during a handshake
				_ = c.do(func() error {
					if err := c.Handshake(); err != nil {
						return err
					}
					_, _ = c.Write(make([]byte, size))
					if notify {
						_ = c.CloseWrite()
					}
					e.shutdown()
					return nil
				})
				r.settle()
				if s.got.Len() != size {
					t.Errorf("%d bytes arrived", s.got.Len())
				}
				if notify && (s.eof != 1 || len(s.closed) > 0) || !notify && (s.eof != 0 || len(s.closed) != 1) {
					t.Errorf("close_notify %v: EOF %d, closed %v", notify, s.eof, s.closed)
				}
			})
		}
	})
}

// A session that ends, or pauses, as soon as it is made.
func TestSessionsThatActWhenAccepted(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  func(engine.Conn)
		want string
	}{
		{"Close", func(c engine.Conn) { c.Send([]byte("no")); c.Close() }, "no"},
		{"Abort", engine.Conn.Abort, ""},
		{"Pause", engine.Conn.Pause, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				s := &session{}
				p := r.engine.Connect(backend, func(raw engine.Conn) engine.Handler {
					return r.loop.Accept(raw, &Acceptor{Config: serverConfig(), Accepted: func(c engine.Conn, _ tls.ConnectionState) engine.Handler {
						s.c = c
						tt.act(c)
						return s
					}})
				})
				e := newEnd(p)
				r.ends = append(r.ends, e)
				c := &client{r, e, tls.Client(e, clientConfig(tls.VersionTLS12))}
				_ = c.do(c.Handshake)
				_ = c.do(func() error { _, err := c.Write([]byte("hello")); return err })
				if s.calls+s.eof+len(s.closed) > 0 {
					t.Errorf("called: %+v", s)
				}
				if tt.want != "" {
					if got, err := c.rest(); got != tt.want || err != nil {
						t.Errorf("the client got %q, %v", got, err)
					}
				}
				if tt.name == "Pause" {
					s.c.Resume()
					r.settle()
					if s.got.String() != "hello" {
						t.Errorf("after Resume, got %q", s.got.String())
					}
				}
			})
		})
	}
}

func TestHandshakesInOrder(t *testing.T) {
	whole := hello(t)
	t.Run("too many wait", func(t *testing.T) {
		inBubble(t, Limits{Running: 1, Begun: 1, Waiting: 2}, func(r *rig) {
			// Before anything settles, one has begun and two wait.
			for range 4 {
				e, _ := r.accept(serverConfig(), nil)
				e.peer.Write(whole)
				r.engine.Run()
			}
			if len(r.failures) != 1 || r.failures[0].Reason != Overloaded {
				t.Fatalf("failures %v", r.failures)
			}
			r.settle()
			// Each that waited made the one before it give way.
			for _, f := range r.failures[1:] {
				if f.Reason != GaveWay {
					t.Errorf("failed: %v", f)
				}
			}
		})
	})
	t.Run("the one that waits longest for its peer gives way", func(t *testing.T) {
		inBubble(t, Limits{Begun: 2}, func(r *rig) {
			var stalled []*end
			for range 2 {
				e, _ := r.accept(serverConfig(), nil)
				_, _ = e.Write([]byte(whole))
				r.settle()
				stalled = append(stalled, e)
			}
			if len(r.failures) > 0 {
				t.Fatalf("failures %v", r.failures)
			}
			c, _ := r.connect(serverConfig(), clientConfig(tls.VersionTLS12), echo)
			c.send("hello")
			c.receive(5)
			if len(r.failures) != 1 || r.failures[0].Reason != GaveWay || !stalled[0].fin || stalled[1].fin {
				t.Errorf("failures %v; ended: %v, %v", r.failures, stalled[0].fin, stalled[1].fin)
			}
		})
	})
	t.Run("dialled ones go first, whatever waits", func(t *testing.T) {
		inBubble(t, Limits{Running: 1, Begun: 1, Waiting: 1}, func(r *rig) {
			for range 2 {
				e, _ := r.accept(serverConfig(), nil)
				e.peer.Write(whole)
				r.engine.Run()
			}
			var e *end
			r.engine.Accept = acceptEnd(r, &e)
			s := &session{}
			s.c = r.loop.Dial(backend, clientConfig(0), s)
			r.settle()
			srv := &client{r, e, tls.Server(e, serverConfig())}
			if err := srv.do(srv.Handshake); err != nil {
				t.Fatal(err)
			}
			r.settle()
			if s.opened != 1 {
				t.Errorf("not opened: %v", s.closed)
			}
		})
	})
}

// What a client sends while its handshake waits for a turn stays with it,
// beyond a bound.
func TestHandshakesBufferLittle(t *testing.T) {
	inBubble(t, Limits{Running: 1}, func(r *rig) {
		whole := hello(t)
		first, _ := r.accept(serverConfig(), nil)
		first.peer.Write(whole) // has the turn
		r.engine.Run()
		e, _ := r.accept(serverConfig(), nil)
		const size = 1 << 20
		e.peer.Write(whole)
		r.engine.Run()
		e.peer.Write(string(make([]byte, size)))
		r.engine.Run()
		if kept := size - e.peer.Unread(); kept > maxUnread+64<<10 {
			t.Errorf("%d bytes were taken", kept)
		}
		r.settle()
		if len(r.failures) != 1 || r.failures[0].Reason != NotTLS {
			t.Errorf("failures %v", r.failures)
		}
	})
}

func TestCloseSilent(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		old, _ := r.accept(serverConfig(), nil)
		half, _ := r.accept(serverConfig(), nil)
		_, _ = half.Write([]byte(hello(t)[:50]))
		busy, _ := r.accept(serverConfig(), nil)
		_, _ = busy.Write([]byte(hello(t)))
		r.pass(time.Second)
		young, _ := r.accept(serverConfig(), nil)
		r.settle()
		r.loop.CloseSilent(time.Second)
		r.settle()
		if !old.fin || !half.fin || busy.fin || young.fin {
			t.Errorf("closed: old %v, half %v, busy %v, young %v", old.fin, half.fin, busy.fin, young.fin)
		}
		if n := r.handshakes.Counts().Failed(Cancelled); n != 2 || r.handshakes.Open() != 2 {
			t.Errorf("%d cancelled, %d open", n, r.handshakes.Open())
		}
		young.shutdown()
	})
}

func TestResumption(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		inBubble(t, Limits{}, func(r *rig) {
			server, config := serverConfig(), clientConfig(version)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			for i := range 3 {
				c, s := r.connect(server, config, echo)
				c.send("x")
				c.receive(1) // and the ticket of 1.3
				if resumed := i > 0; s.state.DidResume != resumed {
					t.Errorf("connection %d resumed: %v", i, s.state.DidResume)
				}
			}
			if n := r.handshakes.Counts(); n.Full() != 1 || n.Resumed() != 2 {
				t.Errorf("%d full, %d resumed", n.Full(), n.Resumed())
			}
		})
	})
}
