package secure

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
)

const applicationData = 23 // record type

func TestEcho(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		for _, size := range []int{1, 128, maxRecord, maxRecord + 1, 300 << 10} {
			for _, chunk := range []int{0, 1 << 10, 3} {
				if chunk == 3 && size > maxRecord {
					continue // takes long, and shows nothing more
				}
				inBubble(t, Limits{}, func(r *rig) {
					c, s := r.connect(serverConfig(), clientConfig(version), echo)
					c.e.chunk = chunk
					text := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
					for range 3 {
						c.send(text)
						if got := c.receive(size); got != text {
							t.Fatalf("%d bytes in pieces of %d came back changed", size, chunk)
						}
					}
					if s.state.ServerName != "a.example" || s.state.Version != version {
						t.Errorf("accepted with %+v", s.state)
					}
				})
			}
		}
	})
}

// What a session sends in several small pieces within one call goes out as
// one record; a large piece is not copied for that.
func TestSmallPiecesShareARecord(t *testing.T) {
	tests := []struct {
		name   string
		pieces []int
		want   int // records
	}{
		{"head and body", []int{200, 128}, 1},
		{"many", []int{1, 1, 1, 1, 1, 1, 1, 1}, 1},
		{"one large", []int{maxRecord}, 1},
		{"a head before a full record", []int{200, maxRecord}, 2},
		{"small ones above a record", []int{4000, 4000, 4000, 4000, 4000}, 2},
		{"large, then small", []int{10000, 10, 10}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				total := 0
				c, _ := r.connect(serverConfig(), clientConfig(tls.VersionTLS13), func(s *session, _ []byte) {
					for _, n := range tt.pieces {
						s.c.Send([]byte(strings.Repeat("x", n)))
					}
				})
				for _, n := range tt.pieces {
					total += n
				}
				before := len(c.e.seen)
				c.send("go")
				c.receive(total)
				if got := records(c.e.seen[before:])[applicationData]; got != tt.want {
					t.Errorf("%d records, want %d", got, tt.want)
				}
			})
		})
	}
}

// counting counts the calls of the raw Send.
type counting struct {
	engine.Conn
	sends int
}

func (c *counting) Send(b []byte) {
	c.sends++
	c.Conn.Send(b)
}

// Several records go down in one call, which may be a system call.
func TestLargeSendsGoDownTogether(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		c, s := r.connect(serverConfig(), clientConfig(tls.VersionTLS13), nil)
		raw := &counting{Conn: s.c.(*Conn).raw}
		s.c.(*Conn).raw = raw
		s.c.Send(make([]byte, maxBatch))
		if raw.sends != 1 {
			t.Errorf("%d calls for 4 records, want 1", raw.sends)
		}
		s.c.Send(make([]byte, 2*maxBatch+1))
		if raw.sends != 4 {
			t.Errorf("%d calls in all, want 4", raw.sends)
		}
		c.receive(3*maxBatch + 1)
	})
}

// Pause stops calls at once, Resume goes on with what was decrypted already,
// and nothing is lost or told within the caller's call.
func TestPause(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		inBubble(t, Limits{}, func(r *rig) {
			c, s := r.connect(serverConfig(), clientConfig(version), func(s *session, _ []byte) { s.c.Pause() })
			text := strings.Repeat("0123456789abcdef", 20000) // 320 KB: several calls
			c.send(text)
			if s.calls != 1 {
				t.Fatalf("%d calls of Data, want 1", s.calls)
			}
			if err := c.do(c.CloseWrite); err != nil {
				t.Fatal(err)
			}
			c.e.shutdown()
			for calls := 1; s.got.Len() < len(text); calls++ {
				r.settle()
				if s.calls != calls || s.eof != 0 || len(s.closed) > 0 {
					t.Fatalf("while paused: %d calls of Data (want %d), EOF %d, %v", s.calls, calls, s.eof, s.closed)
				}
				s.c.Resume()
				if s.calls != calls {
					t.Fatal("called from within Resume")
				}
				r.settle()
			}
			if s.got.String() != text || s.eof != 0 {
				t.Errorf("%d bytes, EOF %d", s.got.Len(), s.eof)
			}
			s.c.Resume()
			r.settle()
			if s.eof != 1 || len(s.closed) > 0 {
				t.Errorf("EOF %d, closed %v", s.eof, s.closed)
			}
		})
	})
}

// More than the loop's buffer holds comes in several calls, and a pause
// between them keeps what was decrypted and did not fit.
func TestRecordsLargerThanTheBuffer(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		r.loop.plain = r.loop.plain[:1000]
		c, s := r.connect(serverConfig(), clientConfig(0), func(s *session, _ []byte) { s.c.Pause() })
		text := strings.Repeat("0123456789", 2000)
		c.send(text)
		for calls := 1; calls <= 20; calls++ {
			if s.calls != calls || s.got.Len() != 1000*calls {
				t.Fatalf("%d bytes in %d calls, want %d in %d", s.got.Len(), s.calls, 1000*calls, calls)
			}
			s.c.Resume()
			r.settle()
		}
		if s.got.String() != text {
			t.Error("it has changed")
		}
	})
}

// A peer that does not read: Pending tells, and Drained when it has read.
func TestBackPressure(t *testing.T) {
	inBubble(t, Limits{}, func(r *rig) {
		c, s := r.connect(serverConfig(), clientConfig(0), nil)
		c.e.mute = true
		c.e.peer.Limit(1000)
		s.c.Send(make([]byte, 10000))
		if n := s.c.Pending(); n < 9000 {
			t.Errorf("%d bytes pending", n)
		}
		r.settle()
		if s.drained != 0 {
			t.Error("drained before anything was read")
		}
		c.e.mute = false
		c.receive(10000)
		if s.drained != 1 || s.c.Pending() != 0 {
			t.Errorf("drained %d, %d pending", s.drained, s.c.Pending())
		}
	})
}

func TestEnds(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		tests := []struct {
			name string
			act  func(c *client, s *session)
			eof  int
			err  error // of Closed
		}{
			{"close_notify and FIN", func(c *client, _ *session) {
				_ = c.do(c.CloseWrite)
				c.e.shutdown()
			}, 1, nil},
			{"close_notify alone", func(c *client, _ *session) { _ = c.do(c.CloseWrite) }, 1, nil},
			{"FIN alone", func(c *client, _ *session) { c.e.shutdown() }, 0, ErrTruncated},
			{"FIN within a record", func(c *client, _ *session) {
				_, _ = c.e.Write([]byte{applicationData, 3, 3, 0, 100, 1, 2, 3})
				c.e.shutdown()
			}, 0, ErrTruncated},
			{"FIN within a header", func(c *client, _ *session) {
				_, _ = c.e.Write([]byte{applicationData, 3})
				c.e.shutdown()
			}, 0, ErrTruncated},
			{"reset", func(c *client, _ *session) { c.e.peer.Abort() }, 0, inmem.ErrReset},
			{"FIN while paused", func(c *client, s *session) {
				s.c.Pause()
				c.e.shutdown()
				c.r.settle()
				if len(s.closed) > 0 {
					c.r.t.Error("told while paused")
				}
				s.c.Resume()
			}, 0, ErrTruncated},
			{"close_notify, and then nonsense", func(c *client, _ *session) {
				_ = c.do(c.CloseWrite)
				_, _ = c.e.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
				c.e.shutdown()
			}, 1, nil},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				inBubble(t, Limits{}, func(r *rig) {
					c, s := r.connect(serverConfig(), clientConfig(version), nil)
					c.send("hello")
					tt.act(c, s)
					r.settle()
					if s.got.String() != "hello" {
						t.Errorf("got %q", s.got.String())
					}
					if s.eof != tt.eof {
						t.Errorf("EOF %d times, want %d", s.eof, tt.eof)
					}
					var err error
					if len(s.closed) == 1 {
						err = s.closed[0]
					}
					if len(s.closed) > 1 || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
						t.Errorf("closed with %v, want %v", s.closed, tt.err)
					}
					if tt.eof == 1 {
						// The other direction is still open.
						s.c.Send([]byte("answer"))
						s.c.Close()
						if got, err := c.rest(); got != "answer" || err != nil {
							t.Errorf("after EOF, the client got %q, %v", got, err)
						}
					}
				})
			})
		}
	})
}

func TestOurEnds(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		t.Run("Close", func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				c, s := r.connect(serverConfig(), clientConfig(version), func(s *session, _ []byte) {
					s.c.Send([]byte("bye"))
					s.c.Close()
					s.c.Close()
					s.c.Send([]byte("never"))
				})
				c.send("x")
				if got, err := c.rest(); got != "bye" || err != nil {
					t.Errorf("the client got %q, %v", got, err)
				}
				if !c.e.peer.EOF || c.e.peer.Reset {
					t.Error("no FIN")
				}
				_, _ = c.e.Write([]byte("nonsense"))
				r.settle()
				if s.calls != 1 || s.eof+len(s.closed)+s.drained > 0 {
					t.Errorf("called after Close: %+v", s)
				}
			})
		})
		t.Run("CloseWrite", func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				c, s := r.connect(serverConfig(), clientConfig(version), func(s *session, _ []byte) {
					s.c.Send([]byte("bye"))
					s.c.CloseWrite()
					s.c.Send([]byte("never"))
				})
				c.send("x")
				if got, err := c.rest(); got != "bye" || err != nil {
					t.Errorf("the client got %q, %v", got, err)
				}
				c.send("still reading?")
				if s.got.String() != "xstill reading?" {
					t.Errorf("got %q", s.got.String())
				}
				s.c.Close()
			})
		})
		t.Run("Abort", func(t *testing.T) {
			inBubble(t, Limits{}, func(r *rig) {
				c, s := r.connect(serverConfig(), clientConfig(version), func(s *session, _ []byte) {
					s.c.Send([]byte("never"))
					s.c.Abort()
				})
				c.send("x")
				if got, err := c.rest(); got != "" || !errors.Is(err, io.ErrUnexpectedEOF) && err != nil {
					t.Errorf("the client got %q, %v", got, err)
				}
				if !c.e.peer.Reset || len(s.closed) > 0 {
					t.Errorf("reset %v, closed %v", c.e.peer.Reset, s.closed)
				}
			})
		})
	})
}

// A record that does not verify ends the connection, with an alert.
func TestForgedRecord(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		inBubble(t, Limits{}, func(r *rig) {
			c, s := r.connect(serverConfig(), clientConfig(version), nil)
			c.send("true")
			_, _ = c.e.Write(append([]byte{applicationData, 3, 3, 0, 40}, make([]byte, 40)...))
			r.settle()
			if s.got.String() != "true" || len(s.closed) != 1 {
				t.Fatalf("got %q, closed %v", s.got.String(), s.closed)
			}
			s.c.Send([]byte("nothing"))
			s.c.Close()
			_, err := c.rest()
			if err == nil || !strings.Contains(err.Error(), "bad record MAC") {
				t.Errorf("the client got %v", err)
			}
			if !c.e.peer.EOF {
				t.Error("the connection stands")
			}
		})
	})
}

func TestDial(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		inBubble(t, Limits{}, func(r *rig) {
			var e *end
			r.engine.Accept = acceptEnd(r, &e)
			config := clientConfig(version)
			config.NextProtos = []string{"http/1.1"}
			s := &session{}
			c := r.loop.Dial(backend, config, s)
			s.c = c
			c.Send([]byte("early "))
			c.Send([]byte("bird"))
			if c.Pending() != 10 {
				t.Errorf("%d bytes pending", c.Pending())
			}
			r.settle()
			if s.opened != 0 {
				t.Error("opened before the handshake")
			}
			srv := &client{r, e, tls.Server(e, serverConfig())}
			if got := srv.receive(10); got != "early bird" {
				t.Errorf("the server got %q", got)
			}
			if s.opened != 1 || s.drained != 1 {
				t.Errorf("opened %d, drained %d", s.opened, s.drained)
			}
			if c.ConnectionState().NegotiatedProtocol != "http/1.1" || c.Peer() != backend {
				t.Errorf("%+v with %v", c.ConnectionState(), c.Peer())
			}
			srv.send("answer")
			if s.got.String() != "answer" {
				t.Errorf("got %q", s.got.String())
			}
			c.CloseWrite()
			if got, err := srv.rest(); got != "" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			_ = srv.do(srv.Conn.Close)
			r.settle()
			if s.eof != 1 || len(s.closed) > 0 {
				t.Errorf("EOF %d, closed %v", s.eof, s.closed)
			}
			c.Close()
		})
	})
}
