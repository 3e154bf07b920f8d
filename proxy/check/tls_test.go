package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// authority signs the certificates of the tests.
var authority = sync.OnceValue(func() tls.Certificate {
	return certificate(nil, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
})

func certificate(signer *tls.Certificate, template *x509.Certificate) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(1), pkix.Name{CommonName: "test"}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signKey := template, any(key)
	if signer != nil {
		parent, signKey = signer.Leaf, signer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signKey)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func serverTLS(change func(*x509.Certificate)) *tls.Config {
	ca := authority()
	template := &x509.Certificate{DNSNames: []string{"web.example"}}
	if change != nil {
		change(template)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate(&ca, template)}}
}

func clientTLS(t testing.TB, name string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(authority().Leaf)
	return &tls.Config{RootCAs: pool, ServerName: name}
}

func TestTLSHandshake(t *testing.T) {
	handshake := func(config *tls.Config) func(net.Conn) {
		return func(c net.Conn) {
			s := tls.Server(c, config)
			_ = s.HandshakeContext(t.Context())
			_, _ = s.Read(make([]byte, 1))
		}
	}
	tests := []struct {
		name   string
		server func(net.Conn)
		client *tls.Config
		want   string
	}{
		{"verified by name", handshake(serverTLS(nil)), clientTLS(t, "web.example"), ""},
		{"without a name nothing is verified", handshake(serverTLS(nil)), &tls.Config{}, ""},
		{"another name", handshake(serverTLS(nil)), clientTLS(t, "other.example"), "tls: certificate for another name"},
		{"unknown authority", handshake(serverTLS(nil)), &tls.Config{ServerName: "web.example", RootCAs: x509.NewCertPool()}, "tls: certificate of an unknown authority"},
		{"expired", handshake(serverTLS(func(c *x509.Certificate) { c.NotAfter = time.Unix(1, 0) })), clientTLS(t, "web.example"), "tls: certificate expired or not valid yet"},
		{"no version in common", handshake(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: serverTLS(nil).Certificates}), &tls.Config{MaxVersion: tls.VersionTLS12}, "tls: alert: protocol version not supported"},
		{"not TLS", func(c net.Conn) {
			_, _ = c.Write([]byte("220 mail.example ESMTP\r\n"))
			_, _ = c.Read(make([]byte, 1000))
		}, &tls.Config{}, "tls: the server does not speak TLS"},
		{"closed", func(c net.Conn) { _, _ = c.Read(make([]byte, 1000)) }, &tls.Config{}, "tls: closed by the server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(t, compile(t, Spec{TLS: tt.client}), serve(t, tt.server))
			// What the server had not read yet makes its close a reset.
			if tt.name == "closed" && got == "tls: connection reset by peer" {
				return
			}
			if got != tt.want {
				t.Errorf("probe = %q, want %q", got, tt.want)
			}
		})
	}
}
