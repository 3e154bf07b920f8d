package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// pki is a certificate of its own for the run.
type pki struct {
	chain, key string // PEM
	both       string // path of a file with both, for HAProxy
	chainFile  string
	keyFile    string
	roots      *x509.CertPool
}

func (b *box) makeTLS() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the run's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, DNSNames: []string{"bench.example"},
		IPAddresses: []net.IP{net.ParseIP(vip)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make the run's certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b.tls.chain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	b.tls.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	b.tls.roots = x509.NewCertPool()
	b.tls.roots.AppendCertsFromPEM([]byte(b.tls.chain))
	if b.tls.both, err = b.file("both.pem", b.tls.chain+b.tls.key); err != nil {
		return err
	}
	if b.tls.chainFile, err = b.file("chain.pem", b.tls.chain); err != nil {
		return err
	}
	b.tls.keyFile, err = b.file("key.pem", b.tls.key)
	return err
}
