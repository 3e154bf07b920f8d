package tls

import (
	stdtls "crypto/tls"
	"crypto/x509"
	"io"
	"testing"
)

// clients differ in what they can verify.
func rsaOnly(c *stdtls.Config) {
	c.MaxVersion = stdtls.VersionTLS12
	c.CipherSuites = []uint16{stdtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
}

func ecdsaOnly(c *stdtls.Config) {
	c.MaxVersion = stdtls.VersionTLS12
	c.CipherSuites = []uint16{stdtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
}

func upTo12(c *stdtls.Config) { c.MaxVersion = stdtls.VersionTLS12 }

func TestCertificateByServerName(t *testing.T) {
	root := newAuthority("Root")
	ed := newEd25519()
	s := loaded(
		t,
		root.server("default-rsa", rsa2048(), "www.example", "example"),
		root.server("default-ec", newP256(), "www.example"),
		root.server("api", newP256(), "api.example", "API2.Example"),
		root.server("wild-ec", newP256(), "*.example"),
		root.server("wild-rsa", rsa2048(), "*.example"),
		root.server("deep", newP256(), "*.deep.example"),
		root.server("xn", newP256(), "xn--bcher-kva.example"),
		root.server("ed", ed, "ed.example"),
		root.server("ed-rsa", rsa2048(), "ed.example"),
		root.server("elsewhere", newP256(), "other.example"),
	)
	server := serverOf(t, s, ServerConfig{Certificates: []string{
		"default-rsa", "default-ec", "api", "wild-ec", "wild-rsa", "deep", "xn", "ed", "ed-rsa",
	}})
	tests := []struct {
		name   string
		server string
		client func(*stdtls.Config)
		want   string
	}{
		{"exact", "api.example", nil, "api"},
		{"exact, in another case", "Api.EXAMPLE", nil, "api"},
		{"exact, with capitals in the certificate", "api2.example", nil, "api"},
		{"exact goes before wildcard", "www.example", nil, "default-ec"},
		{"wildcard", "any.example", nil, "wild-ec"},
		{"wildcard for one that knows RSA only", "any.example", rsaOnly, "wild-rsa"},
		{"wildcard stands for one label", "a.b.example", nil, "default-ec"},
		{"wildcard, deeper", "a.deep.example", nil, "deep"},
		{"wildcard does not stand for its own domain", "deep.example", nil, "wild-ec"},
		{"international, as A-labels", "xn--bcher-kva.example", nil, "xn"},
		{"both kinds: ECDSA first", "www.example", upTo12, "default-ec"},
		{"both kinds: RSA for one that knows no other", "www.example", rsaOnly, "default-rsa"},
		{"both kinds: ECDSA for one that knows no other", "www.example", ecdsaOnly, "default-ec"},
		{"RSA only there", "example", nil, "default-rsa"},
		{"exact is ECDSA, client knows RSA: the wildcard's", "api.example", rsaOnly, "wild-rsa"},
		{"Ed25519 before RSA", "ed.example", nil, "ed"},
		{"Ed25519 not supported", "ed.example", rsaOnly, "ed-rsa"},
		{"unknown: the default", "nowhere.invalid", nil, "default-ec"},
		{"unknown: the default's RSA", "nowhere.invalid", rsaOnly, "default-rsa"},
		{"no name: the default", "", nil, "default-ec"},
		{"an address is not sent: the default", "192.0.2.1", nil, "default-ec"},
		{"held, but not this listener's", "other.example", nil, "wild-ec"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := &stdtls.Config{ServerName: tt.server, InsecureSkipVerify: true}
			if tt.client != nil {
				tt.client(client)
			}
			d := mustTalk(t, client, server)
			if got := nameOf(s, d.atClient.PeerCertificates[0]); got != tt.want {
				t.Errorf("%s was served, want %s", got, tt.want)
			}
		})
	}
}

func nameOf(s *Store, cert *x509.Certificate) string {
	for name, e := range s.snapshot.Load().entries {
		if e.plain.Leaf.Equal(cert) {
			return name
		}
	}
	return "unknown"
}

// A change of certificates is for new handshakes: connections that stand go
// on, and a listener never lacks a certificate, whatever is changed first.
func TestCertificatesChangeUnderConnections(t *testing.T) {
	root := newAuthority("Root")
	first, second := root.server("web", newP256(), "a.example"), root.server("web", newP256(), "a.example")
	s := loaded(t, first)
	server := serverOf(t, s, ServerConfig{Certificates: []string{"web"}})
	client := &stdtls.Config{ServerName: "a.example", RootCAs: root.pool()}
	before := mustTalk(t, client, server)
	if _, err := s.Load([]Certificate{second}); err != nil {
		t.Fatal(err)
	}
	after := mustTalk(t, client, server)
	if before.atClient.PeerCertificates[0].Equal(after.atClient.PeerCertificates[0]) {
		t.Error("the former certificate is served")
	}
	if _, err := before.client.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(before.server, make([]byte, 1)); err != nil {
		t.Errorf("the connection from before the change: %v", err)
	}
	if _, err := s.Load([]Certificate{root.server("other", newP256(), "b.example")}); err != nil {
		t.Fatal(err)
	}
	gone := mustTalk(t, client, server)
	if !gone.atClient.PeerCertificates[0].Equal(after.atClient.PeerCertificates[0]) {
		t.Error("a listener has lost the certificate that it is configured with")
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	root := newAuthority("Root")
	e := must(parse(root.server("a", newP256(), "a.example", "*.b.example")))
	n := newNames([]*entry{e})
	for _, name := range []string{"a.example", "x.b.example", "unknown.example"} {
		if allocs := testing.AllocsPerRun(100, func() { n.lookup(name) }); allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}
