package proxy

import (
	"context"
	cryptotls "crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/pharos-lb/pharos/proxy/tls"
)

// startOnEngines runs a test on each engine that works here. run starts a proxy
// on the present one.
func startOnEngines(t *testing.T, test func(t *testing.T, run func(*testing.T, Config) *Proxy)) {
	eachEngine(t, func(t *testing.T, options Options) {
		test(t, func(t *testing.T, c Config) *Proxy {
			t.Helper()
			return startWith(t, options, c)
		})
	})
}

// secureServer serves h by TLS until the test ends, with a certificate for
// web.example that ca verifies.
func secureServer(t *testing.T, h http.HandlerFunc, with func(*httptest.Server)) (address netip.AddrPort, ca []byte) {
	t.Helper()
	c := selfSigned(t, "server", "web.example", year)
	pair, err := cryptotls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}}
	srv.Config.ErrorLog = quietLog
	if with != nil {
		with(srv)
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().(*net.TCPAddr).AddrPort(), c.Chain
}

// plain2 serves h by HTTP/2 without TLS, and HTTP/1.1, until the test ends.
func plain2(t *testing.T, h http.HandlerFunc, with func(*http.Server)) netip.AddrPort {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, Protocols: &protocols, ErrorLog: quietLog}
	if with != nil {
		with(srv)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// pooled is a configuration of one HTTP listener whose pool is told more of. A
// handshake may take long on a busy machine.
func pooled(with func(*Pool), servers ...Server) Config {
	c := oneListener(HTTP, servers...)
	c.Pools[0].Timeouts.Connect = patience
	with(&c.Pools[0])
	return c
}

func one(address netip.AddrPort) Server { return Server{Name: "a", Address: address, Weight: 1} }

// apply applies c to p.
func apply(t *testing.T, p *Proxy, c Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Apply(ctx, c); err != nil {
		t.Fatal(err)
	}
}

// webExample is how the servers of secureServer are verified.
func webExample(ca []byte) *tls.ClientConfig {
	return &tls.ClientConfig{ServerName: "web.example", CA: ca}
}

// secureServerWith is secureServer with a configuration of the test's.
func secureServerWith(t *testing.T, terms *cryptotls.Config) (address netip.AddrPort, ca []byte) {
	t.Helper()
	return secureServer(t, named("a"), func(s *httptest.Server) { s.TLS = terms.Clone() })
}
