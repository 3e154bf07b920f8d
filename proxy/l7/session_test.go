package l7

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// rig is a worker on an engine in memory, with one server.
type rig struct {
	loop    *inmem.Loop
	w       *worker
	l       *listener.Listener
	pool    *pool.Pool
	servers []*inmem.Peer // connections to servers, in order of dialling
}

func newRig() *rig {
	quiet := slog.New(slog.DiscardHandler)
	r := &rig{loop: inmem.New(), pool: pool.New("web", quiet, func() {})}
	r.pool.Update(pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{{Name: "a", Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1}}})
	r.l = listener.New("front", &site.Site{Pool: r.pool, HTTP: site.DefaultHTTP()})
	r.w = newWorker(&shared{log: quiet, timeouts: DefaultTimeouts()}, r.loop)
	r.loop.Accept = func(_ netip.AddrPort, p *inmem.Peer) error {
		r.servers = append(r.servers, p)
		return nil
	}
	return r
}

func (r *rig) targets() []*pool.Pool { return []*pool.Pool{r.pool} }

func (r *rig) client() *inmem.Peer {
	return r.loop.Connect(netip.MustParseAddrPort("192.0.2.1:4000"), func(c engine.Conn) engine.Handler { return r.w.accept(r.l, c) })
}

func (r *rig) server(t *testing.T, i int) *inmem.Peer {
	t.Helper()
	if i >= len(r.servers) {
		t.Fatalf("%d connections to the server, want at least %d", len(r.servers), i+1)
	}
	return r.servers[i]
}

// settled checks that nothing is left of what has ended.
func (r *rig) settled(t *testing.T) {
	t.Helper()
	if n := r.w.inFlight.Load(); n != 0 {
		t.Errorf("%d requests in flight", n)
	}
	if n := r.pool.Members()[0].InFlight.Load(); n != 0 {
		t.Errorf("%d in flight at the server", n)
	}
	if n := r.w.open.Load(); n != int64(len(r.w.sessions)) || n != r.l.Open.Load() {
		t.Errorf("open: %d counted, %d sessions, %d of the listener", n, len(r.w.sessions), r.l.Open.Load())
	}
}

const (
	get   = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

func TestTimeouts(t *testing.T) {
	limits := struct {
		site.HTTP
		Timeouts
		Connect time.Duration
	}{site.DefaultHTTP(), DefaultTimeouts(), pool.DefaultTerms().Connect}
	// Each ends with a last wait of the limit: just before it the connection
	// must stand, just after it must be answered so, and closed.
	tests := []struct {
		name  string
		act   func(t *testing.T, r *rig, c *inmem.Peer)
		limit time.Duration
		want  string // the answer's beginning, "" for none
	}{
		{"a client that sends nothing", func(*testing.T, *rig, *inmem.Peer) {}, limits.Header, ""},
		{"slow loris: each byte does not wind the clock up", func(_ *testing.T, r *rig, c *inmem.Peer) {
			c.Write("GET / HT")
			for range 9 {
				r.loop.Advance(time.Second)
				c.Write("T")
			}
		}, limits.Header - 9*time.Second, "HTTP/1.1 408 "},
		{"an idle client after a request", func(t *testing.T, r *rig, c *inmem.Peer) {
			c.Write(get)
			r.loop.Run()
			r.server(t, 0).Write(reply)
			r.loop.Run()
			c.Read()
		}, limits.Idle, ""},
		{"a client that stops in its body", func(_ *testing.T, r *rig, c *inmem.Peer) {
			c.Write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		}, limits.Exchange, "HTTP/1.1 408 "},
		{"a server that does not answer", func(_ *testing.T, r *rig, c *inmem.Peer) { c.Write(get) }, limits.Exchange, "HTTP/1.1 504 "},
		{"a server that stops in its head", func(t *testing.T, r *rig, c *inmem.Peer) {
			c.Write(get)
			r.loop.Run()
			r.server(t, 0).Write("HTTP/1.1 200 O")
		}, limits.Exchange, "HTTP/1.1 504 "},
		{"a server that stops in its body", func(t *testing.T, r *rig, c *inmem.Peer) {
			c.Write(get)
			r.loop.Run()
			r.server(t, 0).Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			r.loop.Run()
			c.Read()
		}, limits.Exchange, ""},
		{"a server that does not take the connection", func(_ *testing.T, r *rig, c *inmem.Peer) {
			r.loop.Mute = true
			c.Write(get)
		}, limits.Connect, "HTTP/1.1 504 "},
	}
	const margin = 50 * time.Millisecond
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			c := r.client()
			tt.act(t, r, c)
			r.loop.Advance(tt.limit - margin)
			if got := c.Read(); got != "" || c.EOF {
				t.Fatalf("before the limit: %q, closed %v", got, c.EOF)
			}
			r.loop.Advance(2 * margin)
			got := c.Read()
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("answer = %q, want %q", got, tt.want)
			}
			r.loop.Advance(limits.Idle + limits.Linger)
			if !c.EOF {
				t.Error("the connection was not closed")
			}
			if len(r.w.sessions) != 0 {
				t.Errorf("%d sessions are left", len(r.w.sessions))
			}
			r.settled(t)
		})
	}
}

// A server that dies with connections in its accept queue breaks them unread:
// a request that may be repeated goes to another one, once; others do not.
func TestRequestOnADyingServerMovesOn(t *testing.T) {
	tests := []struct {
		name, request string
		breaks        int // connections that break
		wantDials     int
		want          string
	}{
		{"GET", get, 1, 2, "HTTP/1.1 200 "},
		{"GET, both die", get, 2, 2, "HTTP/1.1 502 "},
		{"POST", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 1, 1, "HTTP/1.1 502 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			var servers []pool.ServerSpec
			for i := range 4 {
				servers = append(servers, pool.ServerSpec{Name: fmt.Sprint(i), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Weight: 1})
			}
			r.pool.Update(pool.Spec{FailOpen: true, Servers: servers})
			c := r.client()
			c.Write(tt.request)
			r.loop.Run()
			for i := range tt.breaks {
				r.server(t, i).Abort()
				r.loop.Run()
			}
			if len(r.servers) != tt.wantDials {
				t.Errorf("%d servers were tried, want %d", len(r.servers), tt.wantDials)
			}
			if tt.wantDials > tt.breaks {
				r.servers[tt.wantDials-1].Write(reply)
				r.loop.Run()
			}
			if got := c.Read(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("answer = %q, want %q", got, tt.want)
			}
			r.settled(t)
		})
	}
}

func TestKeptConnectionIsReusedAndTimesOut(t *testing.T) {
	r := newRig()
	c := r.client()
	for range 3 {
		c.Write(get)
		r.loop.Run()
		r.server(t, 0).Read()
		r.server(t, 0).Write(reply)
		r.loop.Run()
		if got := c.Read(); !strings.HasSuffix(got, "ok") {
			t.Fatalf("answer = %q", got)
		}
		r.loop.Advance(time.Second)
	}
	if len(r.servers) != 1 {
		t.Errorf("%d connections to the server, want 1", len(r.servers))
	}
	r.loop.Advance(pool.DefaultTerms().Idle)
	if !r.servers[0].EOF {
		t.Error("the idle connection to the server was kept beyond its time")
	}
	if len(r.w.idle) != 0 {
		t.Error("the server is still listed")
	}
	r.settled(t)
}

func TestIdleServerThatSpeaksIsDropped(t *testing.T) {
	r := newRig()
	c := r.client()
	c.Write(get)
	r.loop.Run()
	r.server(t, 0).Write(reply)
	r.loop.Run()
	r.server(t, 0).Write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
	r.loop.Run()
	c.Read()
	c.Write(get)
	r.loop.Run()
	if len(r.servers) != 2 {
		t.Fatalf("%d connections, want a new one: the old one's answer is not ours", len(r.servers))
	}
}

func TestExtraBytesAfterAResponseEndTheConnection(t *testing.T) {
	r := newRig()
	c := r.client()
	c.Write(get)
	r.loop.Run()
	r.server(t, 0).Write(reply + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
	r.loop.Run()
	if got := c.Read(); strings.Contains(got, "evil") {
		t.Errorf("answer = %q", got)
	}
	if !r.servers[0].EOF {
		t.Error("a connection with bytes too many was kept")
	}
}

// Whichever side does not read: the other one is stopped, and what is held is
// bounded by a read and what the kernel would hold.
func TestBackPressureBoundsMemory(t *testing.T) {
	const total, most = 8 << 20, 2 * 64 << 10
	t.Run("a client that does not read", func(t *testing.T) {
		r := newRig()
		c := r.client()
		c.Limit(1000)
		c.Write(get)
		r.loop.Run()
		s := r.server(t, 0)
		s.Write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", total) + strings.Repeat("x", total))
		r.loop.Run()
		if c.Unsent() > most {
			t.Errorf("%d bytes are held for the client, want at most %d", c.Unsent(), most)
		}
		if s.Unread() < total-2*most {
			t.Errorf("the server was let send all but %d bytes", s.Unread())
		}
		got := 0
		c.Limit(100 << 10)
		for range 1000 {
			got += len(c.Read())
			r.loop.Run()
			if c.Unsent() > most {
				t.Fatalf("%d bytes are held for the client", c.Unsent())
			}
		}
		if got < total || s.Unread() != 0 {
			t.Errorf("%d bytes came, %d are left at the server, want all", got, s.Unread())
		}
		r.settled(t)
	})
	t.Run("a server that does not read", func(t *testing.T) {
		r := newRig()
		accept := r.loop.Accept
		r.loop.Accept = func(a netip.AddrPort, p *inmem.Peer) error {
			p.Limit(1000)
			return accept(a, p)
		}
		c := r.client()
		c.Write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", total/4096) + "0\r\n\r\n")
		r.loop.Run()
		s := r.server(t, 0)
		if s.Unsent() > most || len(r.w.sessions[0].in) > most {
			t.Errorf("held: %d bytes for the server, %d of the client, want at most %d each", s.Unsent(), len(r.w.sessions[0].in), most)
		}
		if c.Unread() < total-3*most {
			t.Errorf("the client was let send all but %d bytes", c.Unread())
		}
		var got strings.Builder
		s.Limit(100 << 10)
		for range 2000 {
			got.WriteString(s.Read())
			r.loop.Run()
		}
		if !strings.HasSuffix(got.String(), "\r\n0\r\n\r\n") || strings.Count(got.String(), "x") < total {
			t.Errorf("%d bytes came to the server", got.Len())
		}
		s.Write(reply)
		r.loop.Run()
		if got := c.Read(); !strings.HasSuffix(got, "ok") {
			t.Errorf("answer = %q", got)
		}
		r.settled(t)
	})
	t.Run("a client that sends requests ahead", func(t *testing.T) {
		r := newRig()
		c := r.client()
		c.Write(strings.Repeat(get, 20000))
		r.loop.Run()
		if n := len(r.w.sessions[0].in); n > most {
			t.Errorf("%d bytes of later requests are held, want at most %d", n, most)
		}
		s := r.server(t, 0)
		for range 20000 {
			s.Read()
			s.Write(reply)
			r.loop.Run()
		}
		if n := strings.Count(c.Read(), "200 OK"); n != 20000 {
			t.Errorf("%d answers, want 20000", n)
		}
		r.settled(t)
	})
}

func TestClientThatGoesAwayEndsTheExchange(t *testing.T) {
	for name, leave := range map[string]func(*inmem.Peer){"reset": (*inmem.Peer).Abort, "half a body": (*inmem.Peer).CloseWrite} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			c := r.client()
			c.Write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
			r.loop.Run()
			leave(c)
			r.loop.Run()
			if s := r.server(t, 0); !s.Reset {
				t.Error("the server's connection was not reset: it may wait for the rest")
			}
			if len(r.w.sessions) != 0 {
				t.Error("the session is left")
			}
			r.settled(t)
		})
	}
}

func TestClosingListenerSendsClientsAway(t *testing.T) {
	r := newRig()
	busy, idle, fresh := r.client(), r.client(), r.client()
	idle.Write(get)
	r.loop.Run()
	r.server(t, 0).Write(reply)
	r.loop.Run()
	idle.Read()
	busy.Write(get)
	r.loop.Run()
	r.l.SetClosing(true)
	r.w.closeIdle(false, 0)
	if !idle.EOF || busy.EOF || fresh.EOF {
		t.Errorf("closed: idle %v, busy %v, fresh %v; want only the idle one", idle.EOF, busy.EOF, fresh.EOF)
	}
	r.server(t, 0).Write(reply)
	fresh.Write(get)
	r.loop.Run()
	r.servers[len(r.servers)-1].Write(reply)
	r.loop.Run()
	for name, c := range map[string]*inmem.Peer{"busy": busy, "fresh": fresh} {
		if got := c.Read(); !strings.Contains(got, "Connection: close") || !strings.HasSuffix(got, "ok") || !c.EOF {
			t.Errorf("%s: answer %q, closed %v", name, got, c.EOF)
		}
	}
	r.settled(t)
}

// A response whose head has gone before the listener began to close has promised
// that the connection stays: the next request, which may be on its way, is
// answered, and sends the client away.
func TestClosingListenerKeepsWhatAHeadHasPromised(t *testing.T) {
	r := newRig()
	c := r.client()
	c.Write(get)
	r.loop.Run()
	half := len(reply) - 1
	r.server(t, 0).Write(reply[:half])
	r.loop.Run()
	if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Contains(got, "Connection: close") {
		t.Fatalf("the head is %q", got)
	}
	r.l.SetClosing(true)
	r.server(t, 0).Write(reply[half:])
	r.loop.Run()
	if c.EOF || c.Reset {
		t.Fatal("the connection was closed after a response that promised it would stay")
	}
	c.Read()
	c.Write(get)
	r.loop.Run()
	r.servers[len(r.servers)-1].Write(reply)
	r.loop.Run()
	if got := c.Read(); !strings.Contains(got, "Connection: close") || !strings.HasSuffix(got, "ok") || !c.EOF {
		t.Errorf("the next answer %q, closed %v", got, c.EOF)
	}
	r.settled(t)
}

func TestKeepAliveRequestDoesNotAllocate(t *testing.T) {
	// In memory the peers allocate: what is counted is the difference that a
	// hundred more requests make in the parts that are the session's own.
	var nothing discard
	r := newRig()
	r.w.loop = nothing
	s := r.w.accept(r.l, &nothing).(*session)
	var up *serverConn
	request, response := []byte(get), []byte(reply)
	once := func() {
		s.Data(request)
		if up == nil {
			up = s.x.up.(*serverConn)
			up.Opened()
		}
		up.Data(response)
	}
	once()
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("a request on kept connections allocates %v times, want 0", n)
	}
	if up.gone || s.served < 100 {
		t.Fatalf("served %d, connection gone %v: not the path that is meant", s.served, up.gone)
	}
}

func BenchmarkKeepAliveRequest(b *testing.B) {
	var nothing discard
	r := newRig()
	r.w.loop = nothing
	s := r.w.accept(r.l, &nothing).(*session)
	request, response := []byte(get), []byte(reply)
	s.Data(request)
	up := s.x.up.(*serverConn)
	up.Opened()
	up.Data(response)
	b.ReportAllocs()
	for b.Loop() {
		s.Data(request)
		up.Data(response)
	}
}

// discard is an engine on which nothing happens.
type discard struct{}

func (d discard) Dial(netip.AddrPort, engine.Handler) engine.Conn { return d }
func (discard) Now() time.Duration                                { return 0 }
func (discard) Arm(*engine.Timer, time.Duration)                  {}
func (discard) Disarm(*engine.Timer)                              {}
func (discard) Post(func()) bool                                  { return true }
func (discard) Send([]byte)                                       {}
func (discard) Pending() int                                      { return 0 }
func (discard) Pause()                                            {}
func (discard) Resume()                                           {}
func (discard) CloseWrite()                                       {}
func (discard) Close()                                            {}
func (discard) Abort()                                            {}
func (discard) Peer() netip.AddrPort                              { return netip.MustParseAddrPort("192.0.2.1:1") }

// Whatever client and server send, in whatever pieces: nothing panics, memory
// is bounded, and when both are gone nothing is left.
func FuzzSession(f *testing.F) {
	f.Add([]byte(get+get), []byte(reply+reply), 7, 5)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: v\r\n\r\n"), 1, 1)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello"), []byte("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nworld"), 100, 9)
	f.Add([]byte("HEAD / HTTP/1.0\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\nrest"), 100, 100)
	f.Fuzz(func(t *testing.T, fromClient, fromServer []byte, a, b int) {
		if a < 1 || b < 1 {
			return
		}
		r := newRig()
		c := r.client()
		c.Limit(500)
		sent := 0
		for range 400 {
			n := min(a, len(fromClient))
			c.Write(string(fromClient[:n]))
			fromClient = fromClient[n:]
			r.loop.Run()
			if len(r.servers) > 0 {
				s := r.servers[len(r.servers)-1]
				m := min(b, len(fromServer))
				s.Write(string(fromServer[:m]))
				fromServer = fromServer[m:]
				s.Read()
				if len(fromServer) == 0 {
					s.CloseWrite()
				}
			}
			r.loop.Advance(20 * time.Millisecond)
			sent += len(c.Read())
			if c.Unsent() > 1<<20 {
				t.Fatalf("%d bytes held", c.Unsent())
			}
		}
		c.CloseWrite()
		for _, s := range r.servers {
			s.CloseWrite()
		}
		r.loop.Advance(3 * time.Minute)
		for range 100 {
			c.Read()
			r.loop.Run()
		}
		r.loop.Advance(2 * time.Hour / 60)
		if len(r.w.sessions) != 0 {
			t.Fatalf("%d sessions are left, phase %d", len(r.w.sessions), r.w.sessions[0].phase)
		}
		r.settled(t)
		if len(r.w.idle) != 0 {
			t.Fatalf("idle connections are left")
		}
	})
}

// What a client sends right behind its request to switch protocols waits for
// the switch, and then goes to the server.
func TestTunnelTakesWhatTheClientSentAhead(t *testing.T) {
	r := newRig()
	c := r.client()
	c.Write("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
	r.loop.Run()
	s := r.server(t, 0)
	if got := s.Read(); strings.Contains(got, "hello") {
		t.Fatalf("the server got %q before it switched", got)
	}
	s.Write("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nworld")
	r.loop.Run()
	if got := s.Read(); got != "hello" {
		t.Errorf("the server got %q, want hello", got)
	}
	if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.HasSuffix(got, "\r\n\r\nworld") {
		t.Errorf("the client got %q", got)
	}
	c.CloseWrite()
	s.CloseWrite()
	r.loop.Run()
	if !c.EOF || !s.EOF || len(r.w.sessions) != 0 {
		t.Errorf("after both ended: client closed %v, server closed %v, %d sessions", c.EOF, s.EOF, len(r.w.sessions))
	}
	r.settled(t)
}
