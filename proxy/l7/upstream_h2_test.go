package l7

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// post is a request with a body that may not be sent twice.
const post = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"

func answer2(t *testing.T, c *inmem.Peer, want string) {
	t.Helper()
	if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
		t.Errorf("the client got %q, want %s", got, want)
	}
}

func TestRequestsOfManyClientsShareAConnection(t *testing.T) {
	r := h2rig()
	a, b := r.client(), r.client()
	a.Write("GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
	b.Write("GET /b HTTP/1.1\r\nHost: x\r\n\r\n") // while the connection is being made
	r.loop.Run()
	s := r.server2(t, 0)
	s.want("GET/a:1 GET/b:3")
	s.reply(3)
	answer2(t, b, "200 OK\r\n")
	s.reply(1)
	answer2(t, a, "200 OK\r\n")
	b.Write("GET /c HTTP/1.1\r\nHost: x\r\n\r\n")
	r.loop.Run()
	s.want("GET/c:5")
	a.Abort()
	b.Abort()
	r.loop.Run()
	s.want("CANCEL:5")
	if len(r.servers) != 1 {
		t.Errorf("%d connections", len(r.servers))
	}
	r.settled(t)
}

func TestUnprocessedRequestsAreSentAgain(t *testing.T) {
	tests := []struct {
		name string
		say  func(s *server2)
	}{
		{"GOAWAY below the stream", func(s *server2) { _ = s.write.WriteGoAway(0, http2.ErrCodeNo, nil) }},
		{"REFUSED_STREAM", func(s *server2) { _ = s.write.WriteRSTStream(1, http2.ErrCodeRefusedStream) }},
	}
	for _, tt := range tests {
		for _, request := range []string{get, post} {
			t.Run(tt.name+" "+request[:4], func(t *testing.T) {
				r := h2rig()
				c := r.client()
				c.Write(request)
				r.loop.Run()
				s := r.server2(t, 0)
				s.frames()
				tt.say(s)
				s.flush()
				s = r.server2(t, 1)
				if request == get {
					s.want("GET/:1")
				} else {
					s.want("POST/p:1 hello.:1")
				}
				s.reply(1)
				answer2(t, c, "200 OK\r\n")
				r.loop.Advance(engineTick)
				if !r.server(t, 0).EOF {
					t.Error("the connection that went away was not closed")
				}
				r.settled(t)
			})
		}
	}
}

// A server that refuses more than it has gets no more on this connection, until
// it has answered.
func TestRefusalsLowerWhatAConnectionTakes(t *testing.T) {
	r := h2rig()
	one, two, three := r.client(), r.client(), r.client()
	one.Write(get)
	two.Write(get)
	r.loop.Run()
	s := r.server2(t, 0)
	s.want("GET/:1 GET/:3")
	_ = s.write.WriteRSTStream(3, http2.ErrCodeRefusedStream)
	s.flush()
	other := r.server2(t, 1)
	other.want("GET/:1")
	other.reply(1)
	answer2(t, two, "200 OK\r\n")
	s.reply(1)
	answer2(t, one, "200 OK\r\n")
	for i, c := range []*inmem.Peer{one, two, three} {
		c.Write(get)
		r.loop.Run()
		if want := fmt.Sprintf("GET/:%d", 5+2*i); i < 2 {
			s.want(want)
		}
	}
	other.want("GET/:3")
	r.settledLater(t, one, two, three)
}

// What a server allows on one connection is taken for the next one, before it
// says so there.
func TestTheLimitOfStreamsIsLearnt(t *testing.T) {
	r := h2rig()
	var clients []*inmem.Peer
	ask := func() {
		c := r.client()
		c.Write(get)
		clients = append(clients, c)
	}
	ask()
	r.loop.Run()
	s := r.server2(t, 0, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	for range 6 {
		ask()
	}
	r.loop.Run()
	s.want("GET/:1 GET/:3")
	for i, want := range map[int]string{1: "GET/:1 GET/:3", 2: "GET/:1 GET/:3", 3: "GET/:1"} {
		r.server2(t, i).want(want)
	}
	r.settledLater(t, clients...)
}

func TestAServerThatRefusesEverything(t *testing.T) {
	r := h2rig()
	c := r.client()
	c.Write(post)
	r.loop.Run()
	for i, stream := 0, uint32(1); i < len(r.servers); i++ {
		s := r.server2(t, i)
		for len(s.frames()) > 0 {
			_ = s.write.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
			stream += 2
			s.flush()
		}
		stream = 1
	}
	answer2(t, c, "503 ")
	if len(r.servers) > maxRefusals {
		t.Errorf("%d connections for one request", len(r.servers))
	}
	r.settled(t)
}

// A body that is too long to be remembered cannot be sent again.
func TestALongBodyIsNotSentAgain(t *testing.T) {
	r := h2rig()
	c := r.client()
	const size = maxAgain + 1
	c.Write(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	r.loop.Run()
	s := r.server2(t, 0, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = s.write.WriteWindowUpdate(0, 1<<20)
	s.flush()
	s.frames()
	_ = s.write.WriteGoAway(0, http2.ErrCodeNo, nil)
	s.flush()
	answer2(t, c, "503 ")
	r.settled(t)
}

func TestAServerThatWantsHTTP1(t *testing.T) {
	r := h2rig()
	c := r.client()
	c.Write(post)
	r.loop.Run()
	s := r.server2(t, 0)
	s.want("POST/p:1 hello.:1")
	_ = s.write.WriteRSTStream(1, http2.ErrCodeHTTP11Required)
	s.flush()
	if got := r.server(t, 1).Read(); !strings.HasPrefix(got, "POST /p HTTP/1.1\r\n") || !strings.HasSuffix(got, "\r\n\r\nhello") {
		t.Fatalf("the server got %q", got)
	}
	r.server(t, 1).Write(reply)
	r.loop.Run()
	answer2(t, c, "200 OK\r\n")
	r.settled(t)
}

// Interim responses have no window: they are not kept for a client that does
// not read.
func TestInterimResponsesDoNotPileUp(t *testing.T) {
	r := h2rig()
	c := r.client()
	c.Limit(10)
	c.Write(get)
	r.loop.Run()
	s := r.server2(t, 0)
	s.want("GET/:1")
	for range 500 {
		s.head(1, false, ":status", "103", "link", strings.Repeat("x", 1000))
	}
	s.flush()
	if n := c.Unsent(); n > 2*maxAhead {
		t.Errorf("%d bytes are held", n)
	}
	s.reply(1)
	c.Limit(1 << 20)
	all := c.Read()
	r.loop.Run()
	if all += c.Read(); !strings.HasSuffix(all, "ok") || strings.Count(all, "HTTP/1.1 103 Early Hints") == 0 {
		t.Errorf("the client got %d bytes that end in %q", len(all), all[max(0, len(all)-20):])
	}
	r.settled(t)
}

func TestStreamsOutliveGoAway(t *testing.T) {
	r := h2rig()
	a, b := r.client(), r.client()
	a.Write(get)
	r.loop.Run()
	s := r.server2(t, 0)
	s.want("GET/:1")
	_ = s.write.WriteGoAway(1, http2.ErrCodeNo, nil)
	s.flush()
	b.Write(get)
	r.loop.Run()
	next := r.server2(t, 1)
	next.want("GET/:1")
	s.reply(1)
	next.reply(1)
	answer2(t, a, "200 OK\r\n")
	answer2(t, b, "200 OK\r\n")
	r.loop.Advance(engineTick)
	if !s.peer.EOF || next.peer.EOF {
		t.Errorf("closed: %v %v, want the first alone", s.peer.EOF, next.peer.EOF)
	}
	r.settled(t)
}

// settledLater checks that nothing is left once the clients have gone.
func (r *rig) settledLater(t *testing.T, clients ...*inmem.Peer) {
	t.Helper()
	for _, c := range clients {
		c.Abort()
	}
	r.loop.Run()
	r.settled(t)
}

const engineTick = 50 * time.Millisecond

// An upload goes as fast as the server's windows open, and no faster.
func TestUploadsFollowTheServersWindows(t *testing.T) {
	r := h2rig()
	c := r.client()
	c.Write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	r.loop.Run()
	s := r.server2(t, 0, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	s.want("POST/:1")
	for range 100 {
		c.Write("2710\r\n" + strings.Repeat("x", 10000) + "\r\n")
		r.loop.Run()
	}
	if got := s.frames(); got != "" {
		t.Errorf("%d bytes came without a window", len(got))
	}
	if n := c.Unread(); n < 700_000 {
		t.Errorf("%d bytes are left with the client: too many were taken", n)
	}
	c.Write("0\r\nX-Late: 1\r\n\r\n")
	got := 0
	for range 2000 {
		_ = s.write.WriteWindowUpdate(1, 1000)
		_ = s.write.WriteWindowUpdate(0, 1000)
		s.flush()
		words := s.frames()
		got += strings.Count(words, "x")
		if strings.Contains(words, "trailers:1") {
			break
		}
	}
	if got != 100*10000 {
		t.Errorf("%d bytes came, want %d, and then the trailers", got, 100*10000)
	}
	s.reply(1)
	answer2(t, c, "200 OK\r\n")
	r.settled(t)
}

// What the client does not take holds back its own stream.
func TestASlowClientHoldsBackItsStreamAlone(t *testing.T) {
	r := h2rig()
	slow, quick := r.client(), r.client()
	slow.Limit(1000)
	slow.Write(get)
	quick.Write(get)
	r.loop.Run()
	s := r.server2(t, 0)
	s.want("GET/:1 GET/:3")
	s.head(1, false, ":status", "200")
	sent := 0
	for ; sent < 256<<10; sent += 16 << 10 {
		_ = s.write.WriteData(1, false, make([]byte, 16<<10))
	}
	s.flush()
	if words := s.frames(); words != "" {
		t.Fatalf("the server got %q", words)
	}
	if n := slow.Unsent(); n > 300<<10 {
		t.Errorf("%d bytes are held for a client that does not read", n)
	}
	s.reply(3)
	answer2(t, quick, "200 OK\r\n")
	// One byte above the window ends the stream, and nothing else.
	_ = s.write.WriteData(1, false, []byte("x"))
	s.flush()
	s.want("FLOW_CONTROL_ERROR:1")
	quick.Write(get)
	r.loop.Run()
	s.want("GET/:5")
	s.reply(5)
	answer2(t, quick, "200 OK\r\n")
}

func TestLiveness(t *testing.T) {
	t.Run("idle connections end", func(t *testing.T) {
		r := h2rig()
		c := r.client()
		c.Write(get)
		r.loop.Run()
		s := r.server2(t, 0)
		s.want("GET/:1")
		s.reply(1)
		r.loop.Advance(pool.DefaultTerms().Idle - engineTick)
		if s.peer.EOF {
			t.Fatal("closed before its time")
		}
		r.loop.Advance(2 * engineTick)
		s.want("away:NO_ERROR")
		if !s.peer.EOF || len(r.w.muxes) != 0 {
			t.Error("an idle connection was not closed")
		}
	})
	// waiting is a request that the server does not answer, of a pool that
	// waits for hours.
	waiting := func(t *testing.T) (*rig, *inmem.Peer, *server2) {
		r := h2rig()
		r.terms(func(t *pool.Terms) { t.HTTP2, t.Response = true, 12*time.Hour })
		h := r.l.Site().HTTP
		h.Exchange = 12 * time.Hour
		r.l.SetSite(siteWith(r, h))
		c := r.client()
		c.Write(get)
		r.loop.Run()
		s := r.server2(t, 0)
		s.want("GET/:1")
		return r, c, s
	}
	t.Run("silence is asked, seldom", func(t *testing.T) {
		r, c, s := waiting(t)
		r.loop.Advance(pingAfter + engineTick)
		s.want("ping")
		s.flush()
		r.loop.Advance(5 * time.Minute)
		s.want("")
		r.loop.Advance(time.Minute + engineTick)
		s.want("ping")
		s.flush()
		s.reply(1)
		answer2(t, c, "200 OK\r\n")
		r.settled(t)
	})
	t.Run("no answer is the end", func(t *testing.T) {
		r, c, s := waiting(t)
		r.loop.Advance(pingAfter + pingWithin + 2*engineTick)
		answer2(t, c, "504 ")
		if !s.peer.Reset {
			t.Error("the dead connection was not reset")
		}
		r.settled(t)
	})
}

// A connection that may be dead gets no more requests, however short the pool
// waits for a response.
func TestAConnectionThatIsSilentIsLeft(t *testing.T) {
	r := h2rig()
	r.terms(func(t *pool.Terms) { t.HTTP2, t.Response = true, time.Second })
	for i := range 2 {
		c := r.client()
		c.Write(post)
		r.loop.Run()
		s := r.server2(t, i)
		r.loop.Advance(time.Second + engineTick)
		answer2(t, c, "504 ")
		s.want("POST/p:1 hello.:1 CANCEL:1 away:NO_ERROR")
		if !s.peer.EOF {
			t.Error("it was not closed")
		}
	}
	// One that answers others lives.
	late, quick := r.client(), r.client()
	late.Write(post)
	r.loop.Run()
	s := r.server2(t, 2)
	for stream := uint32(3); stream < 9; stream += 2 {
		r.loop.Advance(time.Second / 4)
		quick.Write(get)
		r.loop.Run()
		s.reply(stream)
		answer2(t, quick, "200 OK\r\n")
	}
	r.loop.Advance(time.Second / 2)
	answer2(t, late, "504 ")
	quick.Write(get)
	r.loop.Run()
	s.reply(9)
	answer2(t, quick, "200 OK\r\n")
	r.settled(t)
}

func TestUpgradesGoByHTTP1(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", ""} {
		t.Run(fmt.Sprintf("%.12q", answer), func(t *testing.T) {
			r := h2rig()
			c := r.client()
			c.Write("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			r.loop.Run()
			s := r.server(t, 0)
			if got := s.Read(); !strings.HasPrefix(got, "GET / HTTP/1.1\r\n") {
				t.Fatalf("the server got %q", got)
			}
			if answer == "" {
				s.Abort()
			} else {
				s.Write(answer)
			}
			if strings.HasPrefix(answer, "\x00") {
				s.CloseWrite() // as servers of HTTP/2 do
			}
			r.loop.Run()
			if strings.HasPrefix(answer, "HTTP") {
				answer2(t, c, "101 ")
				return
			}
			if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "upgrade-refused") {
				t.Errorf("the client got %q", got)
			}
			r.settled(t)
		})
	}
}

// A body that waits while its server refuses the connection goes on at the
// next one, though that one has a connection already.
func TestABodyGoesOnAtAServerThatIsConnected(t *testing.T) {
	r := newRig()
	two := []pool.ServerSpec{
		{Name: "a", Address: r.pool.Members()[0].Address, Weight: 1},
		{Name: "b", Address: deadServer, Weight: 1},
	}
	warm := r.client()
	warm.Write(get)
	r.loop.Run()
	r.server(t, 0).Write(reply)
	r.loop.Run()
	r.pool.Update(pool.Spec{FailOpen: true, Servers: two})
	accept := r.loop.Accept
	r.loop.Accept = refusing(accept)
	r.server(t, 0).Read()
	for range 2 { // one of them comes to b first
		c := r.client()
		c.Write(post)
		r.loop.Run()
		if got := r.server(t, 0).Read(); !strings.HasSuffix(got, "\r\n\r\nhello") {
			t.Fatalf("the server got %q", got)
		}
		r.server(t, 0).Write(reply)
		r.loop.Run()
		answer2(t, c, "200 OK\r\n")
	}
	r.settled(t)
}

var deadServer = netip.MustParseAddrPort("10.0.0.2:80")

// refusing refuses connections to deadServer.
func refusing(accept func(netip.AddrPort, *inmem.Peer) error) func(netip.AddrPort, *inmem.Peer) error {
	return func(a netip.AddrPort, p *inmem.Peer) error {
		if a == deadServer {
			return inmem.ErrRefused
		}
		return accept(a, p)
	}
}

func siteWith(r *rig, h site.HTTP) *site.Site { return &site.Site{Pool: r.pool, HTTP: h} }
