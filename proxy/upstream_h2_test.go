package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// clients are those that the servers of HTTP/2 are tried with.
func clients(t *testing.T) map[string]*http.Client {
	return map[string]*http.Client{"HTTP/1.1": client(t), "HTTP/2.0": client2(t)}
}

// connections counts the connections of a server.
func connections(n *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}
}

func TestHTTP2ToServers(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %s %d %s", r.Proto, r.Method, r.Host, r.Header.Get("X-Forwarded-For"), len(b), r.URL.Query().Get("n"))
	}
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		for _, secure := range []bool{false, true} {
			for name, c := range clients(t) {
				t.Run(fmt.Sprintf("TLS %v, client %s", secure, name), func(t *testing.T) {
					var made atomic.Int64
					var config Config
					if secure {
						address, ca := secureServer(t, echo, func(s *httptest.Server) {
							s.EnableHTTP2 = true
							s.Config.ConnState = connections(&made)
						})
						config = pooled(func(p *Pool) { p.HTTP2, p.TLS = true, webExample(ca) }, one(address))
					} else {
						config = pooled(func(p *Pool) { p.HTTP2 = true }, one(plain2(t, echo, func(s *http.Server) { s.ConnState = connections(&made) })))
					}
					p := run(t, config)
					get(t, c, "http://"+listening(p)+"/")
					var all sync.WaitGroup
					for i := range 50 {
						all.Go(func() {
							res, err := c.Post(fmt.Sprintf("http://%s/p?n=%d", listening(p), i), "text/plain", strings.NewReader(strings.Repeat("x", i*1000)))
							if err != nil {
								t.Error(err)
								return
							}
							defer func() { _ = res.Body.Close() }()
							got, err := io.ReadAll(res.Body)
							if want := fmt.Sprintf("HTTP/2.0 POST %s 127.0.0.1 %d %d", listening(p), i*1000, i); err != nil || string(got) != want {
								t.Errorf("%q (%v), want %q", got, err, want)
							}
						})
					}
					all.Wait()
					if n := made.Load(); n > 8 { // one for each loop, and a few that were made beside
						t.Errorf("%d connections to the server for 50 requests", n)
					}
					proxytest.Eventually(t, "nothing is in flight", func() bool { return p.Status().InFlight == 0 && p.Status().Pools[0].Servers[0].InFlight == 0 })
				})
			}
		}
	})
}

// A server that picks HTTP/1.1 gets a connection for each request at a time.
func TestHTTP2FallsBack(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		var made atomic.Int64
		address, ca := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %d", r.Proto, len(b))
		}, func(s *httptest.Server) { s.Config.ConnState = connections(&made) })
		p := run(t, pooled(func(p *Pool) { p.HTTP2, p.TLS, p.Timeouts.Idle = true, webExample(ca), time.Hour }, one(address)))
		for name, c := range clients(t) {
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					res, err := c.Post("http://"+listening(p)+"/", "text/plain", strings.NewReader(strings.Repeat("x", i*1000)))
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = res.Body.Close() }()
					if b, err := io.ReadAll(res.Body); err != nil || string(b) != fmt.Sprintf("HTTP/1.1 %d", i*1000) {
						t.Errorf("%s: %q (%v), %v", name, b, err, res.Header)
					}
				})
			}
			all.Wait()
		}
		before := made.Load()
		for range 20 {
			get(t, client(t), "http://"+listening(p)+"/")
		}
		if n := made.Load() - before; n > 2 { // one for each loop at most
			t.Errorf("%d more connections for requests one after the other: they are not kept", n)
		}
	})
}

// Bodies far above every window, both ways at once, with trailers.
func TestHTTP2ToServersLargeBodies(t *testing.T) {
	const size = 8 << 20
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		p := run(t, pooled(func(p *Pool) { p.HTTP2 = true }, one(plain2(t, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.Header().Set("Trailer", "X-Sum")
			h := sha256.New()
			_, _ = io.Copy(io.MultiWriter(w, h), r.Body)
			w.Header().Set("X-Sum", fmt.Sprintf("%x %s", h.Sum(nil), r.Trailer.Get("X-Sent")))
		}, nil))))
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		want := fmt.Sprintf("%x there", sha256.Sum256(body))
		for name, c := range clients(t) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listening(p)+"/", io.MultiReader(bytes.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-Sent": {"there"}}
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || !bytes.Equal(got, body) || res.Trailer.Get("X-Sum") != want {
				t.Errorf("%s: %d bytes (%v), trailers %v; want %d bytes, %s", name, len(got), err, res.Trailer, size, want)
			}
		}
	})
}

// The parts of HTTP that look different in the two versions.
func TestHTTP2ToServersSemantics(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		p := run(t, pooled(func(p *Pool) { p.HTTP2 = true }, one(plain2(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/204":
				w.WriteHeader(204)
			case "/304":
				w.Header().Set("Etag", `"x"`)
				w.WriteHeader(304)
			case "/hints":
				w.Header().Set("Link", "</a.css>; rel=preload")
				w.WriteHeader(103)
				_, _ = io.WriteString(w, "ok")
			case "/length":
				w.Header().Set("Content-Length", "5")
				if r.Method != "HEAD" {
					_, _ = io.WriteString(w, "hello")
				}
			case "/early":
				w.WriteHeader(403)
				_, _ = io.WriteString(w, "no")
			default:
				b, _ := io.ReadAll(r.Body)
				_, _ = fmt.Fprintf(w, "%s %s te=%q cookie=%q", r.Proto, b, r.Header.Get("Te"), r.Header.Get("Cookie"))
			}
		}, nil))))
		ask := func(t *testing.T, request, method string) (*http.Response, string, []int) {
			t.Helper()
			c := dial(t, listening(p))
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(c)
			var interim []int
			for {
				res, err := http.ReadResponse(br, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode < 200 {
					interim = append(interim, res.StatusCode)
					continue
				}
				b, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				return res, string(b), interim
			}
		}
		tests := []struct {
			name, request, method string
			status                int
			body                  string
			length                int64
			interim               string
		}{
			{"HEAD", "HEAD /length HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", 200, "", 5, "[]"},
			{"a length", "GET /length HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 200, "hello", 5, "[]"},
			{"204", "GET /204 HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 204, "", 0, "[]"},
			{"304", "GET /304 HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 304, "", 0, "[]"},
			{"early hints", "GET /hints HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 200, "ok", 2, "[103]"},
			{"an answer before the request's end", "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", "POST", 403, "no", 2, "[]"},
			{"HTTP/1.0 without a host", "GET / HTTP/1.0\r\n\r\n", "GET", 200, `HTTP/2.0  te="trailers" cookie=""`, -2, "[]"},
			{"cookies, and fields of the hop", "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; c=d\r\nConnection: keep-alive, X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\r\n", "GET", 200, `HTTP/2.0  te="trailers" cookie="a=b; c=d"`, -2, "[]"},
			{"chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "POST", 200, `HTTP/2.0 abc te="trailers" cookie=""`, -2, "[]"},
			{"an empty body of known length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "POST", 200, `HTTP/2.0  te="trailers" cookie=""`, -2, "[]"},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				res, body, interim := ask(t, tt.request, tt.method)
				if res.StatusCode != tt.status || body != tt.body || fmt.Sprint(interim) != tt.interim || tt.length > -2 && res.ContentLength != tt.length {
					t.Errorf("%d %q, length %d, interim %v", res.StatusCode, body, res.ContentLength, interim)
				}
			})
		}
		t.Run("Expect: 100-continue", func(t *testing.T) {
			c := dial(t, listening(p))
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
			br := bufio.NewReader(c)
			if line, err := textproto.NewReader(br).ReadLine(); err != nil || line != "HTTP/1.1 100 Continue" {
				t.Fatalf("%q (%v)", line, err)
			}
			_, _ = br.ReadString('\n')
			_, _ = io.WriteString(c, "abc")
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(b), "HTTP/2.0 abc ") {
				t.Errorf("body %q", b)
			}
		})
	})
}

// A server's limit of streams is kept: what does not fit goes on other
// connections.
func TestHTTP2ToServersSeveralConnections(t *testing.T) {
	const limit, requests = 3, 30
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		var made, now, most atomic.Int64
		release := make(chan struct{})
		address := plain2(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				<-release
			}
			_, _ = io.Copy(w, r.Body)
		}, func(s *http.Server) {
			s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: limit}
			s.ConnState = connections(&made)
		})
		p := run(t, pooled(func(p *Pool) { p.HTTP2 = true }, one(address)))
		var all sync.WaitGroup
		for i := range requests {
			all.Go(func() {
				body := fmt.Sprint("body ", i)
				res, err := client(t).Post("http://"+listening(p)+"/wait", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 || string(b) != body {
					t.Errorf("status %d, %q, want %q", res.StatusCode, b, body)
				}
			})
		}
		proxytest.Eventually(t, "all requests are with the server", func() bool { return now.Load() == requests })
		close(release)
		all.Wait()
		if made.Load() < requests/limit {
			t.Errorf("%d connections for %d requests, of which each takes %d", made.Load(), requests, limit)
		}
	})
}

// A slow client holds back its own response, at the server, and no other's.
func TestHTTP2ToServersSlowClient(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		var sent atomic.Int64
		p := run(t, pooled(func(p *Pool) { p.HTTP2 = true }, one(plain2(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/endless" {
				_, _ = io.WriteString(w, "ok")
				return
			}
			b := make([]byte, 64<<10)
			for {
				n, err := w.Write(b)
				if err != nil {
					return
				}
				sent.Add(int64(n))
			}
		}, nil))))
		const slow = 40
		for range slow {
			c := dial(t, listening(p))
			_ = c.SetReadBuffer(4 << 10)
			_, _ = io.WriteString(c, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		last, same := int64(0), 0
		proxytest.Eventually(t, "the server is held back", func() bool {
			n := sent.Load()
			if same++; n != last || n == 0 {
				last, same = n, 0
			}
			return same == 50
		})
		// Windows, and what the kernel holds for each client.
		if n := sent.Load(); n > slow*(8<<20) {
			t.Errorf("the server could send %d bytes to clients that don't read", n)
		}
		for range 20 {
			if _, body := get(t, client(t), "http://"+listening(p)+"/"); body != "ok" {
				t.Errorf("another client got %q", body)
			}
		}
	})
}

// WebSocket goes by HTTP/1.1 to servers that speak HTTP/2 otherwise.
func TestUpgradeBesideHTTP2(t *testing.T) {
	upgrade := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, r.Proto)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			w.WriteHeader(500)
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, rw)
	}
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
				config := pooled(func(p *Pool) { p.HTTP2 = true }, one(plain2(t, upgrade, nil)))
				if secure {
					address, ca := secureServer(t, upgrade, func(s *httptest.Server) { s.EnableHTTP2 = true })
					config = pooled(func(p *Pool) { p.HTTP2, p.TLS = true, webExample(ca) }, one(address))
				}
				p := run(t, config)
				if _, body := get(t, client(t), "http://"+listening(p)+"/"); body != "HTTP/2.0" {
					t.Errorf("an ordinary request went by %s", body)
				}
				c := dial(t, listening(p))
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				br := bufio.NewReader(c)
				res, err := http.ReadResponse(br, nil)
				if err != nil || res.StatusCode != 101 {
					t.Fatalf("%v (%v)", res, err)
				}
				_, _ = io.WriteString(c, "hello\n")
				if line, err := br.ReadString('\n'); err != nil || line != "hello\n" {
					t.Errorf("%q (%v)", line, err)
				}
			})
		}
	})
}
