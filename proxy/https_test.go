package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// selfSigned makes a certificate for a name, valid for a while from now.
func selfSigned(t *testing.T, name, host string, valid time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{
		Name:  name,
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

const year = 365 * 24 * time.Hour

// oneHTTPS is a configuration of one HTTPS listener and one server.
func oneHTTPS(t *testing.T, h http.HandlerFunc) Config {
	t.Helper()
	c := oneListener(HTTPS, Server{Name: "a", Address: webServer(t, h), Weight: 1})
	c.Certificates = []tls.Certificate{selfSigned(t, "web", "web.example", year)}
	c.TicketKeys = []tls.TicketKey{{ID: "one", Key: [32]byte{1}, Encrypt: true}}
	c.Listeners[0].TLS = &tls.ServerConfig{Certificates: []string{"web"}}
	return c
}

// trusting is a client configuration that trusts the certificate of c.
func trusting(c Config) *cryptotls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Certificates[0].Chain)
	return &cryptotls.Config{RootCAs: roots, ServerName: "web.example"}
}

func TestHTTPS(t *testing.T) {
	config := oneHTTPS(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %d", r.Header.Get("X-Forwarded-Proto"), len(b))
	})
	config.Listeners[0].HTTP.HSTS = []byte("max-age=300")
	p := start(t, config)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			tr := &http.Transport{TLSClientConfig: trusting(config), ForceAttemptHTTP2: protocol == "HTTP/2.0"}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: patience}
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					res, err := c.Post("https://"+listening(p)+"/", "", strings.NewReader(strings.Repeat("x", i*10000)))
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = res.Body.Close() }()
					b, err := io.ReadAll(res.Body)
					if want := fmt.Sprintf("https %d", i*10000); err != nil || string(b) != want || res.Proto != protocol {
						t.Errorf("%s: %q (%v), want %q", res.Proto, b, err, want)
					}
					if res.Header.Get("Strict-Transport-Security") != "max-age=300" {
						t.Error("HSTS is not sent")
					}
				})
			}
			all.Wait()
		})
	}
}

// A session made on one node resumes on another, and still after the first has
// gone and the keys were rotated.
func TestTLSSessionsResumeOnAnotherNode(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": cryptotls.VersionTLS12, "1.3": cryptotls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			config := oneHTTPS(t, named("a"))
			second := config
			second.TicketKeys = []tls.TicketKey{{ID: "one", Key: [32]byte{1}}, {ID: "two", Key: [32]byte{2}, Encrypt: true}}
			one, two := start(t, config), start(t, second)
			terms := trusting(config)
			terms.ClientSessionCache = cryptotls.NewLRUClientSessionCache(1)
			terms.MinVersion, terms.MaxVersion = version, version
			ask := func(address string) (resumed bool) {
				c, err := cryptotls.Dial("tcp", address, terms)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
				if b, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(b), "a") {
					t.Fatalf("answer %q (%v)", b, err)
				}
				return c.ConnectionState().DidResume
			}
			if ask(listening(one)) {
				t.Fatal("the first connection resumed a session")
			}
			if !ask(listening(two)) {
				t.Error("the session of one node did not resume on another, whose keys are one step ahead")
			}
		})
	}
}

// A new certificate is served to new connections, and no old one is dropped.
func TestCertificateIsSwappedUnderConnections(t *testing.T) {
	config := oneHTTPS(t, named("a"))
	p := start(t, config)
	dial := func(terms *cryptotls.Config) *cryptotls.Conn {
		t.Helper()
		c, err := cryptotls.Dial("tcp", listening(p), terms)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	old := dial(trusting(config))
	renewed := config
	renewed.Certificates = []tls.Certificate{selfSigned(t, "web", "web.example", 10*24*time.Hour)}
	if err := p.Apply(t.Context(), renewed); err != nil {
		t.Fatal(err)
	}
	dial(trusting(renewed))
	_, _ = io.WriteString(old, "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(old); err != nil || !strings.HasSuffix(string(b), "a") {
		t.Errorf("the old connection got %q (%v)", b, err)
	}
	if w := strings.Join(p.Status().Warnings, "\n"); !strings.Contains(w, "certificate web for web.example ends at") {
		t.Errorf("warnings %q, want that the certificate ends within 30 days", w)
	}
}

func TestABadCertificateChangesNothing(t *testing.T) {
	config := oneHTTPS(t, named("a"))
	p := start(t, config)
	bad := config
	bad.Certificates = []tls.Certificate{config.Certificates[0]}
	bad.Certificates[0].Key = selfSigned(t, "x", "x", year).Key
	err := p.Apply(t.Context(), bad)
	if err == nil || !strings.Contains(err.Error(), "certificates[0]") {
		t.Fatalf("error %v, want one of certificates[0]", err)
	}
	c, err := cryptotls.Dial("tcp", listening(p), trusting(config))
	if err != nil {
		t.Fatalf("after a refused change: %v", err)
	}
	_ = c.Close()
}

func TestHTTPSRefusesPlainHTTP(t *testing.T) {
	p := start(t, oneHTTPS(t, named("a")))
	c := client(t)
	if res, err := c.Get("http://" + listening(p) + "/"); err == nil {
		_ = res.Body.Close()
		t.Errorf("plain HTTP on a TLS port got %s", res.Status)
	}
	proxytest.Eventually(t, "the failed handshake is counted", func() bool { return p.Status().Listeners[0].Handshakes == 1 })
}

func TestHTTPToHTTPS(t *testing.T) {
	config := oneListener(HTTP, Server{Name: "a", Address: webServer(t, named("a")), Weight: 1})
	l := &config.Listeners[0]
	l.Pool, l.HTTP.RedirectHTTPS = "", &site.Redirect{Status: 308, Scheme: "https"}
	l.Routes = []Route{{Name: "acme", Match: route.Rule{Path: "/.well-known/acme-challenge"}, Targets: []Target{{Pool: "web", Weight: 1}}}}
	p := start(t, config)
	c := client(t)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, tt := range []struct {
		path, to string
		status   int
	}{{"/a?b=c", "https://127.0.0.1/a?b=c", 308}, {"/.well-known/acme-challenge/x", "", 200}} {
		res, err := c.Get("http://" + listening(p) + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := res.Header.Get("Location"); res.StatusCode != tt.status || got != tt.to {
			t.Errorf("%s: %d to %q, want %d to %q", tt.path, res.StatusCode, got, tt.status, tt.to)
		}
	}
}
