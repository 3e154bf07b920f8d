package proxy

import (
	"bufio"
	"bytes"
	"context"
	cryptotls "crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// introduction is a header that speaks for source: version 1 for IPv4, 2 for IPv6.
func introduction(t *testing.T, source string) []byte {
	t.Helper()
	from := netip.MustParseAddrPort(source)
	if from.Addr().Is4() {
		return proxyproto.AppendV1(nil, from, netip.MustParseAddrPort("192.0.2.1:80"))
	}
	header, err := proxyproto.AppendV2(nil, proxyproto.Header{Source: from, Destination: netip.MustParseAddrPort("[2001:db8::1]:80")}, proxyproto.Extra{Checksum: true})
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// introduce connects to address for source.
func introduce(t *testing.T, address, source string) net.Conn {
	t.Helper()
	c := dial(t, address)
	if _, err := c.Write(introduction(t, source)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheClientIsWhomAPROXYHeaderNames(t *testing.T) {
	seen := func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For"))
	}
	plain := oneListener(HTTP, Server{Name: "a", Address: webServer(t, seen), Weight: 1})
	secure := oneHTTPS(t, seen)
	for _, tt := range []struct {
		config Config
		http2  bool
	}{{plain, false}, {plain, true}, {secure, false}, {secure, true}} {
		config := tt.config
		config.Listeners[0].AcceptProxy = loopback
		protocol := config.Listeners[0].Protocol
		t.Run(fmt.Sprintf("%s, HTTP/2 %v", protocol, tt.http2), func(t *testing.T) {
			p := start(t, config)
			for _, source := range []string{"203.0.113.7:4000", "[2001:db8::7]:4000"} {
				header := introduction(t, source)
				tr := &http.Transport{
					DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
						c, err := new(net.Dialer).DialContext(ctx, network, address)
						if err == nil {
							_, err = c.Write(header)
						}
						return c, err
					},
				}
				defer tr.CloseIdleConnections()
				var use http.Protocols
				use.SetHTTP1(!tt.http2)
				use.SetHTTP2(tt.http2 && protocol == HTTPS)
				use.SetUnencryptedHTTP2(tt.http2 && protocol == HTTP)
				tr.Protocols = &use
				if protocol == HTTPS {
					tr.TLSClientConfig = trusting(config)
				}
				c := &http.Client{Transport: tr, Timeout: patience}
				want := fmt.Sprintf("%s %s", protocol, netip.MustParseAddrPort(source).Addr())
				for range 2 {
					if status, body := get(t, c, string(protocol)+"://"+listening(p)+"/"); status != 200 || body != want {
						t.Errorf("answer %d %q, want %q", status, body, want)
					}
				}
			}
			if l := p.Status().Listeners[0]; l.Accepted != 2 || l.Unintroduced != 0 {
				t.Errorf("%d accepted, %d unintroduced; want 2, 0", l.Accepted, l.Unintroduced)
			}
		})
	}
}

func TestListedSourcesMustSendAPROXYHeader(t *testing.T) {
	plain := oneListener(HTTP, Server{Name: "a", Address: webServer(t, named("a")), Weight: 1})
	plain.Listeners[0].AcceptProxy = loopback
	secure := oneHTTPS(t, named("a"))
	secure.Listeners[0].AcceptProxy = loopback
	p, s := start(t, plain), start(t, secure)
	c := dial(t, listening(p))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("HTTP without a header got %q", b)
	}
	if c, err := cryptotls.Dial("tcp", listening(s), trusting(secure)); err == nil {
		_ = c.Close()
		t.Error("TLS without a header was accepted")
	}
	for name, p := range map[string]*Proxy{"HTTP": p, "HTTPS": s} {
		proxytest.Eventually(t, name+": the connection is counted, and none is open", func() bool {
			l := p.Status().Listeners[0]
			return l.Unintroduced == 1 && l.Accepted == 1 && l.Connections == 0 && l.Handshakes == 0
		})
	}
}

func TestOtherSourcesMustNotSendAPROXYHeader(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	plain := oneListener(HTTP, Server{Name: "a", Address: webServer(t, named("a")), Weight: 1})
	plain.Listeners[0].AcceptProxy = elsewhere
	secure := oneHTTPS(t, named("a"))
	secure.Listeners[0].AcceptProxy = elsewhere
	p, s := start(t, plain), start(t, secure)
	for _, source := range []string{"203.0.113.7:4000", "[2001:db8::7]:4000"} {
		c := introduce(t, listening(p), source)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
			t.Errorf("HTTP answered %q (%v), want 400", b, err)
		}
		c = introduce(t, listening(s), source)
		if err := cryptotls.Client(c, trusting(secure)).Handshake(); err == nil {
			t.Error("a handshake after a header succeeded")
		}
	}
	// Without a header they are served.
	if status, _ := get(t, client(t), "http://"+listening(p)+"/"); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestASourceHashIsThatOfTheToldAddress(t *testing.T) {
	var servers []Server
	for i := range 8 {
		name := fmt.Sprint(i)
		servers = append(servers, Server{Name: name, Address: webServer(t, named(name)), Weight: 1})
	}
	config := oneListener(HTTP, servers...)
	config.Listeners[0].AcceptProxy = loopback
	config.Pools[0].Balance = balance.Config{Algorithm: balance.SourceHash, HashBound: 10}
	p := start(t, config)
	ask := func(source string) string {
		t.Helper()
		c := introduce(t, listening(p), source)
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var b bytes.Buffer
		_, _ = b.ReadFrom(res.Body)
		return b.String()
	}
	seen := map[string]bool{}
	for i := range 16 {
		source := fmt.Sprintf("203.0.113.%d:", i)
		first := ask(source + "1")
		if again := ask(source + "2"); again != first {
			t.Errorf("%s came to %s, then to %s", source, first, again)
		}
		seen[first] = true
	}
	if len(seen) < 2 {
		t.Error("all clients came to one server: the address told counts for nothing")
	}
}

func TestFaultsOfAcceptProxy(t *testing.T) {
	config := oneListener(HTTP, Server{Name: "a", Address: netip.MustParseAddrPort("192.0.2.1:80"), Weight: 1})
	config.Listeners[0].AcceptProxy = []netip.Prefix{loopback[0], {}, netip.MustParsePrefix("::ffff:10.0.0.0/104")}
	err := config.Validate()
	for _, want := range []string{"listeners[0].accept_proxy[1]: ", "listeners[0].accept_proxy[2]: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "accept_proxy[0]") {
		t.Errorf("error %v of a prefix that is fine", err)
	}
}
