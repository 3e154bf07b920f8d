package proxy

import (
	"bufio"
	"bytes"
	cryptotls "crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// behindHeader serves connections that begin with a PROXY header; each answer
// says what that said.
func behindHeader(t *testing.T, terms *cryptotls.Config) netip.AddrPort {
	return proxytest.TCP(t, func(raw *net.TCPConn) {
		var head []byte
		var h proxyproto.Header
		for {
			one := make([]byte, 1) // not a byte of what follows
			if _, err := io.ReadFull(raw, one); err != nil {
				return
			}
			head = append(head, one...)
			var n int
			var err error
			if h, n, err = proxyproto.Parse(head); err != nil {
				_, _ = io.WriteString(raw, "HTTP/1.1 400 "+err.Error()+"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			} else if n > 0 {
				break
			}
		}
		var c net.Conn = raw
		if terms != nil {
			c = cryptotls.Server(raw, terms)
		}
		br := bufio.NewReader(c)
		for served := 1; ; served++ {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			body := fmt.Sprintf("v%d %v %v %d", h.Version, h.Source, h.Destination, served)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
}

func TestProxyHeaderToServers(t *testing.T) {
	cert := selfSigned(t, "server", "web.example", year)
	pair, err := cryptotls.X509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		for _, version := range []string{ProxyV1, ProxyV2} {
			for _, secure := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, TLS %v", version, secure), func(t *testing.T) {
					var terms *cryptotls.Config
					if secure {
						terms = &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}}
					}
					p := run(t, pooled(func(p *Pool) {
						p.SendProxy, p.Timeouts.Idle = version, time.Hour
						if secure {
							p.TLS = webExample(cert.Chain)
						}
					}, one(behindHeader(t, terms))))
					// Two clients in turn: each has its own connection to the server,
					// and keeps it.
					one, two := dial(t, listening(p)), dial(t, listening(p))
					for i := 1; i <= 3; i++ {
						for _, c := range []*net.TCPConn{one, two} {
							_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
							res, err := http.ReadResponse(bufio.NewReader(c), nil)
							if err != nil {
								t.Fatal(err)
							}
							b, _ := io.ReadAll(res.Body)
							if want := fmt.Sprintf("%s %v %v %d", version, c.LocalAddr(), c.RemoteAddr(), i); string(b) != want {
								t.Errorf("the server saw %d %q, want %q", res.StatusCode, b, want)
							}
						}
					}
				})
			}
		}
		t.Run("a client of HTTP/2", func(t *testing.T) {
			p := run(t, pooled(func(p *Pool) { p.SendProxy = ProxyV2 }, one(behindHeader(t, nil))))
			c := client2(t)
			_, first := get(t, c, "http://"+listening(p)+"/")
			_, second := get(t, c, "http://"+listening(p)+"/")
			if first[:len(first)-1] != second[:len(second)-1] || !bytes.HasSuffix([]byte(second), []byte(" 2")) {
				t.Errorf("%q, then %q: want one connection for both", first, second)
			}
		})
	})
}
