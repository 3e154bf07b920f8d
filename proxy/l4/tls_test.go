package l4

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// tlsEcho expects a PROXY header in clear, then speaks TLS and echoes; told gets
// what it was told, and whether the session was resumed. It returns its
// certificate.
func tlsEcho(t *testing.T, told chan<- string) (netip.AddrPort, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"server.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &cryptotls.Config{Certificates: []cryptotls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	at := proxytest.TCP(t, func(c *net.TCPConn) {
		var head []byte
		for one := make([]byte, 1); ; {
			if _, err := c.Read(one); err != nil {
				return
			}
			head = append(head, one[0])
			h, n, err := proxyproto.Parse(head)
			if err != nil {
				told <- err.Error()
				return
			}
			if n > 0 {
				head = []byte(h.Source.Addr().String())
				break
			}
		}
		s := cryptotls.Server(c, config)
		if s.Handshake() != nil {
			return
		}
		told <- fmt.Sprint(string(head), " ", s.ConnectionState().DidResume, " ", s.ConnectionState().NegotiatedProtocol)
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	})
	return at, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTLSToServers(t *testing.T) { proxytest.EachEngine(t, testTLSToServers) }

func testTLSToServers(t *testing.T, kind choice.Kind) {
	told := make(chan string, 10)
	server, ca := tlsEcho(t, told)
	_, l, address := serve(t, kind, patience, server)
	terms := pool.DefaultTerms()
	terms.SendProxy = 2
	var err error
	if terms.TLS, err = tls.NewStore(nil).Client(tls.ClientConfig{ServerName: "server.example", CA: ca}); err != nil {
		t.Fatal(err)
	}
	l.Site().Pool.SetTerms(&terms)
	for i := range 2 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		sent := make([]byte, 1<<20)
		go func() {
			_, _ = c.Write(sent)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || len(got) != len(sent) {
			t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(sent))
		}
		_ = c.Close()
		if got, want := <-told, fmt.Sprint("127.0.0.1 ", i > 0, " "); got != want {
			t.Errorf("the server is told %q, want %q", got, want)
		}
	}

	// Who does not prove who it is gets nothing.
	other := terms
	if other.TLS, err = tls.NewStore(nil).Client(tls.ClientConfig{ServerName: "another.example", CA: ca}); err != nil {
		t.Fatal(err)
	}
	l.Site().Pool.SetTerms(&other)
	c, err := net.Dial("tcp", address)
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(c)
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("with a server of another name: %v, want a reset", err)
	}
}
