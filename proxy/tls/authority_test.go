package tls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	stdtls "crypto/tls"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// keys that are slow to make are made once for all tests.
var (
	rsa1024 = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	rsa2048 = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newP256() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func newEd25519() crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serials = struct {
	sync.Mutex
	last int64
}{}

func nextSerial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.last++
	return big.NewInt(serials.last)
}

func template(name string, change ...func(*x509.Certificate)) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: nextSerial(),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(90 * 24 * time.Hour),
	}
	for _, f := range change {
		f(t)
	}
	return t
}

func newAuthority(name string, change ...func(*x509.Certificate)) *authority {
	key := newP256()
	t := template(name, change...)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der := must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))
	return &authority{must(x509.ParseCertificate(der)), key}
}

// intermediate is an authority below a.
func (a *authority) intermediate(name string) *authority {
	key := newP256()
	t := template(name)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der := must(x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key))
	return &authority{must(x509.ParseCertificate(der)), key}
}

func (a *authority) issue(key crypto.Signer, change ...func(*x509.Certificate)) *x509.Certificate {
	t := template("leaf", change...)
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key))))
}

// server issues a certificate for server names, with a's own in the chain.
func (a *authority) server(name string, key crypto.Signer, names ...string) Certificate {
	leaf := a.issue(key, forNames(names...))
	return Certificate{Name: name, Chain: chainPEM(leaf, a.cert), Key: keyPEM(key)}
}

func forNames(names ...string) func(*x509.Certificate) {
	return func(t *x509.Certificate) {
		t.DNSNames = names
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

func forClient(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

func (a *authority) pem() []byte { return chainPEM(a.cert) }

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func chainPEM(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(key crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}

// pipe is one end of a connection in memory, which buffers, and counts how
// often the direction turned.
type pipe struct {
	*shared
	side int
}

type shared struct {
	mu     sync.Mutex
	wake   *sync.Cond
	bytes  [2][]byte // sent by each side
	closed bool
	spoke  int    // who sent last
	passes [2]int // turns that each side began
}

func newPipe() (a, b *pipe) {
	s := &shared{spoke: -1}
	s.wake = sync.NewCond(&s.mu)
	return &pipe{s, 0}, &pipe{s, 1}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.bytes[1-p.side]) == 0 {
		if p.closed {
			return 0, io.EOF
		}
		p.wake.Wait()
	}
	n := copy(b, p.bytes[1-p.side])
	p.bytes[1-p.side] = p.bytes[1-p.side][n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	if p.spoke != p.side {
		p.spoke = p.side
		p.passes[p.side]++
	}
	p.bytes[p.side] = append(p.bytes[p.side], b...)
	p.wake.Broadcast()
	return len(b), nil
}

func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.wake.Broadcast()
	return nil
}

func (p *pipe) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (p *pipe) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// dialogue is a handshake, and one byte from the server, with which tickets
// of TLS 1.3 arrive.
type dialogue struct {
	client, server       *stdtls.Conn
	atClient, atServer   stdtls.ConnectionState
	clientErr, serverErr error
	pipe                 *pipe
}

func (d *dialogue) err() error { return errors.Join(d.clientErr, d.serverErr) }

func (d *dialogue) close() {
	_ = d.pipe.Close()
}

func talk(client, server *stdtls.Config) *dialogue {
	a, b := newPipe()
	d := &dialogue{client: stdtls.Client(a, client), server: stdtls.Server(b, server), pipe: a}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.serverErr = d.server.Handshake(); d.serverErr == nil {
			_, d.serverErr = d.server.Write([]byte{'!'})
		}
		if d.serverErr != nil {
			_ = b.Close()
		}
	}()
	if d.clientErr = d.client.Handshake(); d.clientErr == nil {
		_, d.clientErr = io.ReadFull(d.client, make([]byte, 1))
	}
	if d.clientErr != nil {
		_ = a.Close()
	}
	<-done
	d.atClient, d.atServer = d.client.ConnectionState(), d.server.ConnectionState()
	return d
}

// mustTalk is a handshake that succeeds.
func mustTalk(t testing.TB, client, server *stdtls.Config) *dialogue {
	t.Helper()
	d := talk(client, server)
	t.Cleanup(d.close)
	if err := d.err(); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return d
}

func loaded(t testing.TB, certificates ...Certificate) *Store {
	t.Helper()
	s := NewStore(nil)
	if _, err := s.Load(certificates); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return s
}

func serverOf(t testing.TB, s *Store, c ServerConfig) *stdtls.Config {
	t.Helper()
	config, err := s.Server(c)
	if err != nil {
		t.Fatalf("Server: %v", err)
	}
	return config
}

// fields are the paths of an error's faults, in order.
func fields(err error) (paths []string) {
	if err == nil {
		return nil
	}
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		paths = append(paths, e.(*policy.Fault).Field)
	}
	return slices.Clip(paths)
}
