package l7

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

var cookieKey = sticky.Key{1}

func jar(t testing.TB, c sticky.Config, keys ...sticky.Key) *sticky.Jar {
	t.Helper()
	c.Name = "SRV"
	if len(keys) == 0 {
		keys = []sticky.Key{cookieKey}
	}
	nonce := byte(0)
	j, err := sticky.New(c, "web", keys, func(b []byte) { nonce++; b[0] = nonce })
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func specOf(i int) pool.ServerSpec {
	return pool.ServerSpec{
		Name: string(rune('a' + i)), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Weight: 1,
	}
}

// trio is a rig of three servers that answer at once, unless they are dead.
type trio struct {
	*rig
	spec  pool.Spec
	heads map[string]string // the last one that each server got
	extra string            // fields of their responses
	dead  map[string]bool
	conns map[string][]*inmem.Peer
}

func newTrio(j *sticky.Jar) *trio {
	r := &trio{rig: newRig(), heads: map[string]string{}, dead: map[string]bool{}, conns: map[string][]*inmem.Peer{}}
	r.spec = pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{specOf(0), specOf(1), specOf(2)}}
	r.pool.Update(r.spec)
	r.pool.SetJar(j)
	r.loop.Accept = func(a netip.AddrPort, p *inmem.Peer) error {
		name := string(rune('a' + a.Addr().As4()[3]))
		if r.dead[name] {
			return inmem.ErrRefused
		}
		r.conns[name] = append(r.conns[name], p)
		return nil
	}
	return r
}

// answer has servers answer what has come.
func (r *trio) answer() {
	r.loop.Run()
	for name, conns := range r.conns {
		for _, p := range conns {
			if got := p.Read(); got != "" {
				r.heads[name] = got
				p.Write("HTTP/1.1 200 OK\r\n" + r.extra + "X-Server: " + name + "\r\nContent-Length: 0\r\n\r\n")
			}
		}
	}
	r.loop.Run()
}

// kill breaks all connections to a server, and lets it take no more.
func (r *trio) kill(name string) {
	r.dead[name] = true
	for _, p := range r.conns[name] {
		p.Abort()
	}
	r.conns[name] = nil
	r.loop.Run()
}

// ask sends a request with cookies, and returns who answered, the Set-Cookie
// fields and the whole head.
func (r *trio) ask(cookies string) (server string, set []string, head string) {
	c := r.client()
	if cookies != "" {
		cookies = "Cookie: " + cookies + "\r\n"
	}
	c.Write("GET / HTTP/1.1\r\nHost: x\r\n" + cookies + "\r\n")
	r.answer()
	head = c.Read()
	c.CloseWrite()
	r.loop.Run()
	for _, l := range strings.Split(head, "\r\n") {
		if v, ok := strings.CutPrefix(l, "X-Server: "); ok {
			server = v
		}
		if v, ok := strings.CutPrefix(l, "Set-Cookie: "); ok {
			set = append(set, v)
		}
	}
	return server, set, head
}

// pair is the name and value of a Set-Cookie field.
func pair(setCookie string) string {
	p, _, _ := strings.Cut(setCookie, ";")
	return p
}

func TestSessionsStayOnTheirServers(t *testing.T) {
	for _, format := range []sticky.Format{sticky.Plain, sticky.Signed, sticky.Hidden} {
		t.Run(string(format), func(t *testing.T) {
			r := newTrio(jar(t, sticky.Config{Format: format, HTTPOnly: true}))
			for range 3 {
				server, set, head := r.ask("")
				if len(set) != 1 || !strings.HasSuffix(set[0], "; Path=/; HttpOnly") || !strings.Contains(head, "\r\nCache-Control: private\r\n") {
					t.Fatalf("a new client got %q in %q", set, head)
				}
				for range 4 {
					again, set, head := r.ask("x=1; " + pair(set[0]) + "; y=2")
					if again != server || len(set) != 0 || strings.Contains(head, "Cache-Control") {
						t.Errorf("a client of %s was answered by %s, and got %q", server, again, set)
					}
					if got := r.heads[server]; !strings.Contains(got, "\r\nCookie: x=1; y=2\r\n") {
						t.Errorf("the server got %q, want the cookies but the proxy's", got)
					}
				}
				r.ask(pair(set[0]))
				if got := r.heads[server]; strings.Contains(got, "Cookie") {
					t.Errorf("the server got %q, want no cookies", got)
				}
			}
			r.settled(t)
		})
	}
}

func TestWhoKeepsItsSessions(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *trio, s *pool.ServerSpec)
		stays  bool
	}{
		{"nothing changed", func(*trio, *pool.ServerSpec) {}, true},
		{"it drains", func(_ *trio, s *pool.ServerSpec) { s.State = health.Draining }, true},
		{"its weight is 0", func(_ *trio, s *pool.ServerSpec) { s.Weight = 0 }, true},
		{"it is a backup", func(_ *trio, s *pool.ServerSpec) { s.Backup = true }, true},
		{"it is at another address", func(_ *trio, s *pool.ServerSpec) { s.Address = specOf(1).Address }, true},
		{"it is under maintenance", func(_ *trio, s *pool.ServerSpec) { s.State = health.Maintenance }, false},
		{"it was removed", func(_ *trio, s *pool.ServerSpec) { *s = specOf(3) }, false},
		{"it refuses connections", func(r *trio, _ *pool.ServerSpec) { r.kill("a") }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newTrio(jar(t, sticky.Config{}))
			_, set, _ := r.ask("")
			cookie := pair(set[0])
			tt.change(r, &r.spec.Servers[0])
			r.pool.Update(r.spec)
			for range 3 {
				_, set, _ := r.ask(cookie)
				if stays := len(set) == 0; stays != tt.stays {
					t.Fatalf("set %q, want that the session stays: %v", set, tt.stays)
				}
				if !tt.stays {
					// It has a new server, and stays there.
					server, more, _ := r.ask(pair(set[0]))
					if server == "a" || len(more) != 0 {
						t.Errorf("answered by %s, set %q after the session was handed over", server, more)
					}
				}
			}
			r.settled(t)
		})
	}
}

// A server at its limit has its sessions served elsewhere for once: a burst of
// a page's images must not cost its reader the session.
func TestAFullServerKeepsItsSessions(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	r.spec.Servers[0].MaxInFlight = 1
	r.pool.Update(r.spec)
	_, set, _ := r.ask("")
	cookie := pair(set[0])
	if !r.pool.Begin(r.pool.Members()[0].Server) {
		t.Fatal("the server is at its limit already")
	}
	if server, set, _ := r.ask(cookie); server == "a" || len(set) != 0 {
		t.Errorf("while it is full: answered by %s, set %q; want another, and no cookie", server, set)
	}
	r.pool.End(r.pool.Members()[0].Server, pool.Outcome{Kind: pool.Cancelled})
	if server, set, _ := r.ask(cookie); server != "a" || len(set) != 0 {
		t.Errorf("after that: answered by %s, set %q; want a, and no cookie", server, set)
	}
}

// A request that waited for the pool goes by what its server is at the end of the
// wait.
func TestASessionsServerLeavesWhileTheRequestWaits(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	_, set, _ := r.ask("")
	// The pool's own clock is not the loop's in memory: long enough for both.
	r.spec.Limits.MaxInFlight, r.spec.Limits.Queue, r.spec.Limits.QueueTimeout = 1, 1, 1<<62
	r.pool.Update(r.spec)
	holder, waiter := r.client(), r.client()
	holder.Write(get)
	r.loop.Run()
	waiter.Write("GET / HTTP/1.1\r\nHost: x\r\nCookie: " + pair(set[0]) + "\r\n\r\n")
	r.loop.Advance(time.Second)
	r.spec.Servers[0].State = health.Maintenance
	r.pool.Update(r.spec)
	r.answer()
	r.answer()
	if got := waiter.Read(); !strings.Contains(got, "Set-Cookie: SRV=") || strings.Contains(got, "X-Server: a\r\n") {
		t.Errorf("answer %q, want that of another server", got)
	}
}

func TestCookiesThatTheServerSets(t *testing.T) {
	const own = "SRV=mine; Path=/app"
	for preserve, want := range map[bool]string{true: own, false: "ours"} {
		r := newTrio(jar(t, sticky.Config{Preserve: preserve}))
		r.extra = "Set-Cookie: other=1\r\nSet-Cookie: " + own + "\r\n"
		_, set, head := r.ask("")
		if len(set) != 2 || set[0] != "other=1" || preserve != (set[1] == own) {
			t.Errorf("preserve %v: the client got %q, want other=1 and %s", preserve, set, want)
		}
		if preserve == strings.Contains(head, "Cache-Control") {
			t.Errorf("preserve %v: %q", preserve, head)
		}
	}
}

// A rule that takes Set-Cookie out of responses means the server's.
func TestARuleThatRemovesCookies(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{Preserve: true}))
	r.extra = "Set-Cookie: SRV=mine\r\n"
	r.routes(t, site.Rule{Targets: r.targets(), Rewrite: &site.Rewrite{Response: site.Edits{Remove: []string{"set-cookie"}}}})
	server, set, _ := r.ask("")
	if len(set) != 1 || strings.Contains(set[0], "mine") {
		t.Fatalf("the client got %q", set)
	}
	if again, _, _ := r.ask(pair(set[0])); again != server {
		t.Errorf("answered by %s, then by %s", server, again)
	}
}

func TestSessionsOverAChangeOfKeys(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	server, set, _ := r.ask("")
	old := pair(set[0])
	r.pool.SetJar(jar(t, sticky.Config{}, sticky.Key{2}, cookieKey))
	again, set, _ := r.ask(old)
	if again != server || len(set) != 1 {
		t.Fatalf("with an older key: answered by %s, set %q; want %s, and a cookie by the new key", again, set, server)
	}
	r.pool.SetJar(jar(t, sticky.Config{}, sticky.Key{2}))
	if again, more, _ := r.ask(pair(set[0])); again != server || len(more) != 0 {
		t.Errorf("without the old key: answered by %s, set %q; want %s alone", again, more, server)
	}
	if _, set, _ := r.ask(old); len(set) != 1 {
		t.Errorf("a cookie by a key that is gone: set %q, want a new one", set)
	}
}

// A rule that splits between pools by weight splits new sessions: one that is
// there stays in its pool, also when that has a weight of 0 by now.
func TestASplitKeepsSessionsInTheirPools(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	canary := pool.New("canary", r.w.log, func() {})
	spec := specOf(2)
	spec.Name = "a" // as one of the other pool
	canary.Update(pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{spec}})
	j, err := sticky.New(sticky.Config{Name: "SRV"}, "canary", []sticky.Key{cookieKey}, nil)
	if err != nil {
		t.Fatal(err)
	}
	canary.SetJar(j)
	r.spec.Servers = r.spec.Servers[:2]
	r.pool.Update(r.spec)
	weigh := func(weights ...int) {
		split, err := route.NewSplit(weights)
		if err != nil {
			t.Fatal(err)
		}
		r.routes(t, site.Rule{Targets: []*pool.Pool{r.pool, canary}, Split: split})
	}
	weigh(0, 1)
	server, set, _ := r.ask("")
	if server != "c" {
		t.Fatalf("answered by %s, want c of the canary pool", server)
	}
	weigh(1, 0)
	for range 5 {
		if server, set, _ := r.ask(pair(set[0])); server != "c" || len(set) != 0 {
			t.Errorf("a session of the canary pool was answered by %s, and set %q", server, set)
		}
		if server, _, _ := r.ask(""); server == "c" {
			t.Error("a new session came to the canary pool, whose weight is 0")
		}
	}
	canary.Update(pool.Spec{FailOpen: true})
	if server, set, _ := r.ask(pair(set[0])); server == "c" || len(set) != 1 {
		t.Errorf("after the canary pool has lost its server: answered by %s, set %q", server, set)
	}
}

// A session that goes on keeps its beginning, and its server, when its date is
// made new.
func TestACookieIsRenewed(t *testing.T) {
	terms := sticky.Config{MaxIdle: time.Hour, MaxLife: 24 * time.Hour}
	j := jar(t, terms)
	r := newTrio(j)
	began, last := time.Now().Add(-10*time.Hour), time.Now().Add(-10*time.Minute)
	old, err := j.Append(nil, new(sticky.Scratch), "b", began, last)
	if err != nil {
		t.Fatal(err)
	}
	server, set, _ := r.ask(pair(string(old)))
	if server != "b" || len(set) != 1 {
		t.Fatalf("answered by %s, set %q; want b, and a new cookie", server, set)
	}
	// The date of the beginning stands behind the format.
	if got, want := pair(set[0])[len("SRV=1"):][:6], pair(string(old))[len("SRV=1"):][:6]; got != want {
		t.Errorf("the session began at %s, want %s", got, want)
	}
	if again, more, _ := r.ask(pair(set[0])); again != "b" || len(more) != 0 {
		t.Errorf("with the new one: answered by %s, set %q", again, more)
	}
	gone, err := j.Append(nil, new(sticky.Scratch), "b", time.Now().Add(-25*time.Hour), last)
	if err != nil {
		t.Fatal(err)
	}
	if _, set, _ := r.ask(pair(string(gone))); len(set) != 1 || pair(set[0])[len("SRV=1"):][:6] == pair(string(gone))[len("SRV=1"):][:6] {
		t.Errorf("a session beyond its life: set %q, want a new one", set)
	}
}

// A WebSocket's session begins with the answer that switches protocols: there is
// no later one.
func TestASwitchOfProtocolsBringsTheCookie(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	c := r.client()
	c.Write("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	r.loop.Run()
	for _, conns := range r.conns {
		conns[0].Write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	}
	r.loop.Run()
	got := c.Read()
	hints, switched, _ := strings.Cut(got, "\r\n\r\n")
	if strings.Contains(hints, "Set-Cookie") || !strings.HasPrefix(switched, "HTTP/1.1 101 ") || strings.Count(switched, "Set-Cookie: SRV=") != 1 {
		t.Errorf("answer %q, want the cookie in the 101 alone", got)
	}
}

func TestSessionsAreCounted(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	_, set, _ := r.ask("")
	r.ask(pair(set[0]))
	r.ask("SRV=forged")
	r.spec.Servers[0].State = health.Maintenance
	r.pool.Update(r.spec)
	r.ask(pair(set[0]))
	n := &r.pool.Sessions
	if begun, moved, unusable := n.Begun.Load(), n.Moved.Load(), n.Unusable.Load(); begun != 2 || moved != 1 || unusable != 1 {
		t.Errorf("%d begun, %d moved, %d unusable cookies; want 2, 1, 1", begun, moved, unusable)
	}
}

// Forged and broken cookies are as none: they cost nobody an error.
func TestCookiesThatAreNotOurs(t *testing.T) {
	r := newTrio(jar(t, sticky.Config{}))
	for _, cookie := range []string{"SRV=a", "SRV=", "SRV", "SRV=1" + strings.Repeat("A", 40) + "a", "SRV=" + strings.Repeat("x", 4000), "SRV=2\x80", "SRV=\"1\""} {
		server, set, head := r.ask(cookie)
		if server == "" || len(set) != 1 {
			t.Errorf("%.40q: answer %q", cookie, head)
		}
		if got := r.heads[server]; strings.Contains(got, "SRV=") {
			t.Errorf("%.40q reached the server", cookie)
		}
	}
}

// Whatever happens to servers: a session stays as long as its server may take
// its work, without a word; else the client learns in that same response where
// it is now.
func TestSessionsHoldProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j, err := sticky.New(sticky.Config{Name: "SRV"}, "web", []sticky.Key{cookieKey}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := newTrio(j)
		cookies := make([]string, 5)
		homes := make([]string, len(cookies))
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				i := rapid.IntRange(0, len(cookies)-1).Draw(t, "client")
				stays := false
				if home := homes[i]; home != "" {
					stays = r.pool.Persisted([]byte(home)) != nil && !r.dead[home]
				}
				server, set, head := r.ask(cookies[i])
				switch {
				case server == "":
					if len(set) != 0 {
						t.Fatalf("a cookie without a server in %q", head)
					}
				case stays:
					if server != homes[i] || len(set) != 0 {
						t.Fatalf("a session of %s was answered by %s, and set %q", homes[i], server, set)
					}
				default:
					if len(set) != 1 {
						t.Fatalf("%s answered a session of %q, and set %q", server, homes[i], set)
					}
					cookies[i], homes[i] = pair(set[0]), server
				}
			},
			"change a server": func(t *rapid.T) {
				s := &r.spec.Servers[rapid.IntRange(0, 2).Draw(t, "server")]
				s.Weight = rapid.SampledFrom([]int{0, 1, 3}).Draw(t, "weight")
				s.Backup = rapid.Bool().Draw(t, "backup")
				s.State = rapid.SampledFrom([]health.Admin{health.InService, health.InService, health.Draining, health.Maintenance}).Draw(t, "state")
				r.pool.Update(r.spec)
			},
			"kill or revive": func(t *rapid.T) {
				name := fmt.Sprintf("%c", 'a'+rapid.IntRange(0, 2).Draw(t, "server"))
				if r.dead[name] {
					r.dead[name] = false
				} else {
					r.kill(name)
				}
			},
			"replace a server": func(t *rapid.T) {
				i := rapid.IntRange(0, 2).Draw(t, "server")
				r.spec.Servers[i].ID = fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "id"))
				r.pool.Update(r.spec)
			},
		})
	})
}

func TestKeepAliveRequestWithACookieDoesNotAllocate(t *testing.T) {
	for _, format := range []sticky.Format{sticky.Plain, sticky.Signed, sticky.Hidden} {
		for _, valid := range []bool{true, false} {
			var nothing discard
			r := newRig()
			j := jar(t, sticky.Config{Format: format})
			r.pool.SetJar(j)
			r.w.loop = nothing
			s := r.w.accept(r.l, &nothing).(*session)
			var up *serverConn
			cookie := "SRV=none"
			if valid {
				set, err := j.Append(nil, new(sticky.Scratch), "a", time.Time{}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				cookie = pair(string(set))
			}
			request := []byte("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; " + cookie + "; c=d\r\n\r\n")
			response := []byte(reply)
			once := func() {
				s.Data(request)
				if up == nil {
					up = s.x.up.(*serverConn)
					up.Opened()
				}
				if s.x.bond.right != valid {
					t.Fatalf("the cookie is right: %v, want %v", s.x.bond.right, valid)
				}
				up.Data(response)
			}
			once()
			if n := testing.AllocsPerRun(100, once); n != 0 {
				t.Errorf("%s, valid %v: a request allocates %v times, want 0", format, valid, n)
			}
			if up.gone || s.served < 100 {
				t.Fatalf("served %d, connection gone %v: not the path that is meant", s.served, up.gone)
			}
		}
	}
}

func BenchmarkKeepAliveRequestWithACookie(b *testing.B) {
	for _, format := range []sticky.Format{sticky.Plain, sticky.Signed, sticky.Hidden} {
		b.Run(string(format), func(b *testing.B) {
			var nothing discard
			r := newRig()
			j := jar(b, sticky.Config{Format: format})
			r.pool.SetJar(j)
			r.w.loop = nothing
			s := r.w.accept(r.l, &nothing).(*session)
			set, err := j.Append(nil, new(sticky.Scratch), "a", time.Time{}, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			request, response := []byte("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; "+pair(string(set))+"; c=d\r\n\r\n"), []byte(reply)
			s.Data(request)
			up := s.x.up.(*serverConn)
			up.Opened()
			up.Data(response)
			b.ReportAllocs()
			for b.Loop() {
				s.Data(request)
				up.Data(response)
			}
		})
	}
}

func TestAppendCookies(t *testing.T) {
	j := jar(t, sticky.Config{Format: sticky.Plain})
	for value, want := range map[string]string{
		"a=1":           "Cookie: a=1\r\n",
		"a=1; SRV=x":    "Cookie: a=1\r\n",
		"SRV=x;a=1":     "Cookie: a=1\r\n",
		"SRV=x; SRV=y":  "",
		"SRVX=x; XSRV=": "Cookie: SRVX=x; XSRV=\r\n",
	} {
		if got := string(appendCookies(nil, &http1.Field{Name: []byte("Cookie"), Value: []byte(value)}, j)); got != want {
			t.Errorf("%q becomes %q, want %q", value, got, want)
		}
	}
}
