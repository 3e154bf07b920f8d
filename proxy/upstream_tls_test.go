package proxy

import (
	cryptotls "crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/tls"
)

var quietLog = log.New(io.Discard, "", 0)

func TestTLSToServers(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		var resumed, full atomic.Int64
		address, ca := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			if r.TLS.DidResume {
				resumed.Add(1)
			} else {
				full.Add(1)
			}
			_, _ = fmt.Fprintf(w, "%s %s %d", r.Proto, r.TLS.ServerName, n)
		}, func(s *httptest.Server) { s.Config.SetKeepAlivesEnabled(false) })
		p := run(t, pooled(func(p *Pool) { p.TLS = webExample(ca) }, one(address)))
		c := client(t)
		for i := range 10 {
			res, err := c.Post("http://"+listening(p)+"/", "", strings.NewReader(strings.Repeat("x", i*20_000)))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if want := fmt.Sprintf("HTTP/1.1 web.example %d", i*20_000); err != nil || string(b) != want {
				t.Fatalf("%q (%v), want %q", b, err, want)
			}
		}
		if full.Load() != 1 || resumed.Load() != 9 {
			t.Errorf("%d full handshakes and %d resumed, want 1 and 9", full.Load(), resumed.Load())
		}
	})
}

// The end of a handshake was told twice when the loop took the last write
// between the goroutine's end and its telling so: the session ticket that came
// meanwhile was then read twice, which no record survives.
func TestManyHandshakesWithServersAtOnce(t *testing.T) {
	const rounds, requests = 10, 20
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		address, ca := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, n)
		}, nil)
		p := run(t, pooled(func(p *Pool) { p.TLS, p.Timeouts.Connect = webExample(ca), patience }, one(address)))
		for range rounds {
			c := client(t)
			var all sync.WaitGroup
			for i := range requests {
				all.Go(func() {
					res, err := c.Post("http://"+listening(p)+"/", "text/plain", strings.NewReader(strings.Repeat("x", i*1000)))
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = res.Body.Close() }()
					if b, err := io.ReadAll(res.Body); err != nil || string(b) != fmt.Sprint(i*1000) {
						t.Errorf("%q (%v), want %d; %s", b, err, i*1000, res.Header.Get("Proxy-Status"))
					}
				})
			}
			all.Wait()
			c.CloseIdleConnections()
			apply(t, p, again(p, ca, address))
		}
	})
}

// again is the configuration of p's pool with other terms, so that nothing is
// kept but the server.
func again(p *Proxy, ca []byte, address netip.AddrPort) Config {
	return pooled(func(pool *Pool) {
		pool.TLS = webExample(ca)
		pool.Timeouts = PoolTimeouts{Connect: patience, Idle: time.Second + time.Duration(p.Status().Listeners[0].Requests)}
	}, one(address))
}

func TestTLSToServersThatFails(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		address, ca := secureServer(t, named("a"), nil)
		mutual, mutualCA := secureServer(t, named("a"), func(s *httptest.Server) {
			s.TLS.ClientAuth, s.TLS.ClientCAs = cryptotls.RequireAndVerifyClientCert, x509.NewCertPool()
		})
		mutual12, mutual12CA := secureServer(t, named("a"), func(s *httptest.Server) {
			s.TLS.ClientAuth, s.TLS.ClientCAs, s.TLS.MaxVersion = cryptotls.RequireAndVerifyClientCert, x509.NewCertPool(), cryptotls.VersionTLS12
		})
		garbage := proxytest.TCP(t, func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		})
		gone := proxytest.TCP(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })
		silent := proxytest.TCP(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		other := selfSigned(t, "other", "web.example", year).Chain
		wrong := &tls.ClientConfig{ServerName: "other.example", CA: ca}
		tests := []struct {
			name   string
			server Server
			terms  *tls.ClientConfig
			status int
			word   string
		}{
			{"an authority that we don't trust", one(address), webExample(other), 502, "tls-certificate"},
			{"another name", one(address), wrong, 502, "tls-certificate"},
			{"no name: the address is not in it", one(address), &tls.ClientConfig{CA: ca}, 502, "tls-certificate"},
			{"our certificate is missing, TLS 1.3", one(mutual), webExample(mutualCA), 502, "tls-alert"},
			{"our certificate is missing, TLS 1.2", one(mutual12), webExample(mutual12CA), 502, "tls-alert"},
			{"not TLS", one(garbage), webExample(ca), 502, "tls-failed"},
			{"gone in the handshake", one(gone), webExample(ca), 502, "tls-failed"},
			{"silent in the handshake", one(silent), webExample(ca), 504, "connect-timeout"},
		}
		for _, tt := range tests {
			for _, http2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, http2 %v", tt.name, http2), func(t *testing.T) {
					p := run(t, pooled(func(p *Pool) {
						p.TLS, p.HTTP2 = tt.terms, http2
						p.Timeouts.Connect = patience
						if tt.word == "connect-timeout" {
							p.Timeouts.Connect = 50 * time.Millisecond
						}
						p.Health = health.Config{MaxFails: 2, FailTimeout: time.Hour}
					}, tt.server, Server{Name: "spare", Address: address, Weight: 0}))
					for range 2 {
						res, err := client(t).Post("http://"+listening(p)+"/", "text/plain", strings.NewReader("x"))
						if err != nil {
							t.Fatal(err)
						}
						_ = res.Body.Close()
						if got := res.Header.Get("Proxy-Status"); res.StatusCode != tt.status || !strings.Contains(got, `details="`+tt.word+`"`) {
							t.Errorf("status %d, Proxy-Status %q; want %d, %s", res.StatusCode, got, tt.status, tt.word)
						}
					}
					if tt.word == "tls-alert" {
						return // of TLS 1.3, it may come with the reset of what we sent
					}
					proxytest.Eventually(t, "the server's failures count", func() bool { return !p.Status().Pools[0].Servers[0].Healthy })
				})
			}
		}
	})
}

// A kept connection is not used once the configuration speaks to the server in
// another way, and goes on to be when it does not.
func TestKeptConnectionsFollowTheTerms(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("http2 %v", http2), func(t *testing.T) {
				address, ca := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = fmt.Fprintf(w, "%s %s", r.RemoteAddr, r.TLS.ServerName)
				}, func(s *httptest.Server) { s.EnableHTTP2 = true })
				config := func(name string) Config {
					return pooled(func(p *Pool) {
						p.HTTP2 = http2
						p.TLS = &tls.ClientConfig{InsecureSkipVerify: name != "", ServerName: name}
						if name == "" {
							p.TLS = webExample(ca)
						}
						p.Timeouts.Idle = time.Hour
					}, one(address))
				}
				p := run(t, config("")) // one client connection stays on one loop
				c := client(t)
				_, first := get(t, c, "http://"+listening(p)+"/")
				apply(t, p, config(""))
				if _, again := get(t, c, "http://"+listening(p)+"/"); again != first {
					t.Errorf("%q, then %q: a connection was lost though nothing changed", first, again)
				}
				apply(t, p, config("second.example"))
				if _, other := get(t, c, "http://"+listening(p)+"/"); other == first || !strings.HasSuffix(other, " second.example") {
					t.Errorf("%q after the change", other)
				}
			})
		}
	})
}

func TestTLSTermsAreValidated(t *testing.T) {
	c := pooled(func(p *Pool) {
		p.TLS = &tls.ClientConfig{ServerName: "a b", CA: []byte("x"), ALPN: []string{"h2"}}
		p.HTTP2, p.SendProxy = true, "v1"
		p.Timeouts = PoolTimeouts{Connect: -1, Response: -1, Idle: -1}
	}, one(deadAddress(t)))
	err := c.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, field := range []string{"tls.server_name", "tls.ca", "tls.alpn", "send_proxy", "timeouts.connect", "timeouts.response", "timeouts.idle"} {
		if !strings.Contains(err.Error(), "pools[0]."+field) {
			t.Errorf("nothing of %s in %v", field, err)
		}
	}
	p := start(t, oneListener(HTTP, one(deadAddress(t))))
	missing := pooled(func(p *Pool) { p.TLS = &tls.ClientConfig{Certificate: "none"} }, one(deadAddress(t)))
	if err := p.Apply(t.Context(), missing); err == nil || !strings.Contains(err.Error(), `no certificate "none"`) {
		t.Errorf("Apply = %v", err)
	}
	for _, tt := range []struct {
		protocol Protocol
		field    func(*Pool)
		valid    bool
	}{
		{TCP, func(p *Pool) { p.HTTP2 = true }, false},
		{TCP, func(p *Pool) { p.TLS = &tls.ClientConfig{} }, true},
		{TLS, func(p *Pool) { p.TLS = &tls.ClientConfig{} }, false},
		{UDP, func(p *Pool) { p.TLS = &tls.ClientConfig{} }, false},
		{TLS, func(p *Pool) { p.SendProxy = "v1" }, true},
		{UDP, func(p *Pool) { p.SendProxy = "v1" }, false},
	} {
		c := oneListener(tt.protocol, one(deadAddress(t)))
		tt.field(&c.Pools[0])
		if err := c.Validate(); (err == nil) != tt.valid {
			t.Errorf("%s with %+v: %v", tt.protocol, c.Pools[0], err)
		}
	}
}

// Our own certificate is shown to a server that asks, and replaced without a
// change of the pool.
func TestOurCertificateToServers(t *testing.T) {
	ours := selfSigned(t, "ours", "pharos.example", year)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ours.Chain)
	address, ca := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].DNSNames[0])
	}, func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = cryptotls.RequireAndVerifyClientCert, roots
		s.EnableHTTP2 = true
	})
	for _, http2 := range []bool{false, true} {
		config := pooled(func(p *Pool) {
			p.TLS, p.HTTP2 = webExample(ca), http2
			p.TLS.Certificate = "ours"
		}, one(address))
		config.Certificates = []tls.Certificate{ours}
		p := start(t, config)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if status, body := get(t, client(t), "http://"+listening(p)+"/"); status != 200 || body != "pharos.example" {
					t.Errorf("status %d, %q", status, body)
				}
			})
		}
		all.Wait()
	}
}
