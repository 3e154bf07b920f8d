package proxy

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// threeWithSessions is a configuration of three servers, named a to c, which
// answer with their names.
func threeWithSessions(t *testing.T, format sticky.Format) Config {
	t.Helper()
	var servers []Server
	for _, name := range []string{"a", "b", "c"} {
		servers = append(servers, Server{Name: name, Address: webServer(t, named(name)), Weight: 1})
	}
	c := oneListener(HTTP, servers...)
	c.Pools[0].Persistence = &sticky.Config{Name: "SERVERID", Format: format, HTTPOnly: true}
	c.CookieKeys = []sticky.Key{{1}}
	return c
}

// visitor is a client with cookies of its own.
type visitor struct {
	*http.Client
	t    *testing.T
	made int // cookies that it was given
}

// ask returns who answered, and whether a cookie was set.
func (v *visitor) ask(address string) (server string, told bool) {
	v.t.Helper()
	before := v.made
	status, body := get(v.t, v.Client, "http://"+address+"/")
	if status != 200 {
		v.t.Fatalf("status %d", status)
	}
	return body, v.made > before
}

// counting counts the cookies that come.
type counting struct {
	http.RoundTripper
	v *visitor
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.RoundTripper.RoundTrip(r)
	if err == nil {
		c.v.made += len(res.Header.Values("Set-Cookie"))
	}
	return res, err
}

// visitors are clients of HTTP/1.1 and HTTP/2 in turn.
func visitors(t *testing.T, n int) []*visitor {
	t.Helper()
	all := make([]*visitor, n)
	for i := range all {
		c := client(t)
		if i%2 == 1 {
			c = client2(t)
		}
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		v := &visitor{Client: c, t: t}
		c.Jar, c.Transport = jar, counting{c.Transport, v}
		all[i] = v
	}
	return all
}

// with returns c with a change to its servers, by name.
func with(c Config, change map[string]func(*Server)) Config {
	pool := c.Pools[0]
	pool.Servers = append([]Server(nil), pool.Servers...)
	for i := range pool.Servers {
		if f := change[pool.Servers[i].Name]; f != nil {
			f(&pool.Servers[i])
		}
	}
	c.Pools = []Pool{pool}
	return c
}

func mustApply(t *testing.T, p *Proxy, c Config) {
	t.Helper()
	if err := p.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func TestSessionsHoldOverChanges(t *testing.T) {
	for _, format := range []sticky.Format{sticky.Plain, sticky.Signed, sticky.Hidden} {
		t.Run(string(format), func(t *testing.T) {
			config := threeWithSessions(t, format)
			p, second := start(t, config), start(t, config)
			clients := visitors(t, 6)
			homes := make([]string, len(clients))
			spread := map[string]int{}
			for i, c := range clients {
				home, told := c.ask(listening(p))
				if !told {
					t.Fatalf("client %d was given no cookie", i)
				}
				homes[i] = home
				spread[home]++
			}
			if len(spread) != 3 {
				t.Fatalf("homes %v, want all three servers", spread)
			}
			hold := func(when string, p *Proxy) {
				t.Helper()
				for i, c := range clients {
					for range 2 {
						if server, told := c.ask(listening(p)); server != homes[i] || told {
							t.Errorf("%s: client %d of %s was answered by %s, and given a cookie: %v", when, i, homes[i], server, told)
						}
					}
				}
			}
			hold("nothing changed", p)
			hold("on another proxy with the same keys", second)
			one := homes[0]
			mustApply(t, p, with(config, map[string]func(*Server){one: func(s *Server) { s.State = health.Draining }}))
			hold("one drains", p)
			fresh := visitors(t, 1)[0]
			for range 6 {
				fresh.Jar = nil
				if server, _ := fresh.ask(listening(p)); server == one {
					t.Errorf("a new client came to %s, which drains", one)
				}
			}
			mustApply(t, p, with(config, map[string]func(*Server){one: func(s *Server) { s.Weight = 0 }}))
			hold("one has a weight of 0", p)
			changed := config
			changed.Listeners = append([]Listener(nil), config.Listeners...)
			changed.Listeners[0].HTTP.Via = "edge"
			changed.CookieKeys = []sticky.Key{{1}, {2}}
			mustApply(t, p, changed)
			hold("the configuration has changed, and there is one key more", p)
			// Maintenance moves the sessions of one, and those alone.
			mustApply(t, p, with(config, map[string]func(*Server){one: func(s *Server) { s.State = health.Maintenance }}))
			for i, c := range clients {
				server, told := c.ask(listening(p))
				if moved := homes[i] == one; told != moved || (server != homes[i]) != moved {
					t.Errorf("under maintenance: client %d of %s was answered by %s, and given a cookie: %v", i, homes[i], server, told)
				}
				homes[i] = server
			}
			hold("one is under maintenance", p)
			mustApply(t, p, config)
			hold("it has returned", p)
			hold("on the other proxy, after the sessions have moved", second)
		})
	}
}

// A server that checks find dead hands its sessions over; when it is back, they
// stay where they are now.
func TestADeadServerHandsItsSessionsOver(t *testing.T) {
	config := threeWithSessions(t, sticky.Signed)
	var broken atomic.Value // a server's name
	broken.Store("")
	for i := range config.Pools[0].Servers {
		s := &config.Pools[0].Servers[i]
		answer := named(s.Name)
		name := s.Name
		s.Address = webServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/check" && broken.Load() == name {
				w.WriteHeader(503)
				return
			}
			answer(w, r)
		})
	}
	config.Pools[0].Check = &check.Spec{Kind: check.KindHTTP, Path: "/check"}
	config.Pools[0].Health = health.Config{Interval: 20 * time.Millisecond, Timeout: 10 * time.Second, Fall: 1, Rise: 1}
	p := start(t, config)
	healthy := func(n int) {
		t.Helper()
		proxytest.Eventually(t, fmt.Sprintf("%d servers are healthy", n), func() bool { return p.Status().Pools[0].Healthy == n })
	}
	healthy(3)
	clients := visitors(t, 6)
	homes := make([]string, len(clients))
	for i, c := range clients {
		homes[i], _ = c.ask(listening(p))
	}
	dead := homes[0]
	broken.Store(dead)
	healthy(2)
	for i, c := range clients {
		server, told := c.ask(listening(p))
		if moved := homes[i] == dead; server == dead || told != moved || (server != homes[i]) != moved {
			t.Errorf("client %d of %s was answered by %s, and given a cookie: %v; %s is dead", i, homes[i], server, told, dead)
		}
		homes[i] = server
	}
	broken.Store("")
	healthy(3)
	for i, c := range clients {
		if server, told := c.ask(listening(p)); server != homes[i] || told {
			t.Errorf("it is back: client %d of %s was answered by %s, and given a cookie: %v", i, homes[i], server, told)
		}
	}
}

// A server that has died, and no check knows yet: the first request finds out,
// and the session has another server from that response on.
func TestARequestToADeadServerMovesItsSession(t *testing.T) {
	config := threeWithSessions(t, sticky.Signed)
	p := start(t, config)
	c := visitors(t, 1)[0]
	home, _ := c.ask(listening(p))
	address := deadAddress(t)
	mustApply(t, p, with(config, map[string]func(*Server){home: func(s *Server) { s.Address = address }}))
	server, told := c.ask(listening(p))
	if server == home || !told {
		t.Fatalf("answered by %s, cookie %v", server, told)
	}
	if again, told := c.ask(listening(p)); again != server || told {
		t.Errorf("then by %s, cookie %v; want %s, which has the session", again, told, server)
	}
}

func TestJarsAreKeptWhileNothingOfThemChanges(t *testing.T) {
	config := threeWithSessions(t, sticky.Hidden)
	p := start(t, config)
	jar := func() *sticky.Jar { return p.state.pools["web"].pool.Jar() }
	first := jar()
	same := with(config, nil)
	terms := *config.Pools[0].Persistence
	same.Pools[0].Persistence = &terms
	mustApply(t, p, same)
	if jar() != first {
		t.Error("a jar of the same terms and keys was made anew")
	}
	other := same
	other.CookieKeys = []sticky.Key{{2}}
	mustApply(t, p, other)
	if jar() == first {
		t.Error("a jar outlived its keys")
	}
	other = with(other, nil)
	other.Pools[0].Persistence = nil
	mustApply(t, p, other)
	if jar() != nil {
		t.Error("a jar outlived its pool's persistence")
	}
}

func TestPersistenceFaults(t *testing.T) {
	config := threeWithSessions(t, "")
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no keys for the default", func(c *Config) { c.CookieKeys = nil }, "pools[0].persistence.format: a signed or hidden cookie needs cookie_keys"},
		{"no keys for hidden", func(c *Config) { c.CookieKeys, c.Pools[0].Persistence.Format = nil, sticky.Hidden }, "pools[0].persistence.format: a signed or hidden cookie needs cookie_keys"},
		{"no keys for plain", func(c *Config) { c.CookieKeys, c.Pools[0].Persistence.Format = nil, sticky.Plain }, ""},
		{"a key of zeros", func(c *Config) { c.CookieKeys = []sticky.Key{{}} }, "cookie_keys[0]: is all zeros"},
		{"a key twice", func(c *Config) { c.CookieKeys = []sticky.Key{{1}, {2}, {1}} }, "cookie_keys[2]: is there twice"},
		{"nine keys", func(c *Config) {
			c.CookieKeys = nil
			for i := range 9 {
				c.CookieKeys = append(c.CookieKeys, sticky.Key{byte(i + 1)})
			}
		}, "cookie_keys: 9 are more than 8"},
		{"no name", func(c *Config) { c.Pools[0].Persistence.Name = "" }, `pools[0].persistence.name: "" is not a token`},
		{"a server's name", func(c *Config) { c.Pools[0].Servers[1].Name = strings.Repeat("x", 129) }, "pools[0].servers[1].name: is longer than the 128 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := with(config, nil)
			terms := *config.Pools[0].Persistence
			c.Pools[0].Persistence = &terms
			tt.change(&c)
			switch err := c.Validate(); {
			case tt.want == "" && err != nil:
				t.Errorf("error %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNoncesAreNeverTheSame(t *testing.T) {
	var n nonces
	seen := make(map[[12]byte]bool)
	for range 1000 {
		var b [12]byte
		n.fill(b[:])
		if seen[b] {
			t.Fatal("a nonce came twice")
		}
		seen[b] = true
	}
	var b [12]byte
	if a := testing.AllocsPerRun(1000, func() { n.fill(b[:]) }); a >= 0.5 {
		t.Errorf("a nonce allocates %v times, want 0", a) // but for a collection of garbage in between
	}
}
