package proxy

import (
	"bytes"
	cryptotls "crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// What bad clients do to the proxy is in bad_clients_test.go (HTTP/1.1),
// bad_clients_http2_test.go and bad_clients_tls_test.go. Each attack is made on a
// proxy of one event loop, over real sockets, while another client asks on a
// connection of its own. Exact times are tested in virtual time, in proxy/l7 and
// proxy/l7/engine/secure.

// besieged is the engine under attack.
var besieged = choice.Epoll

// The same attacks on the other engine, where this machine has it.
func TestBadClientsOnIOUring(t *testing.T) {
	c, err := choice.Make(choice.Auto)
	if err != nil {
		t.Fatal(err)
	}
	if c.Refused != nil {
		t.Skip(c.Refused)
	}
	besieged = choice.IOUring
	defer func() { besieged = choice.Epoll }()
	for name, test := range map[string]func(*testing.T){
		"BadHTTP1Requests":                   TestBadHTTP1Requests,
		"ABodyLongerThanItSaidIsNotPassedOn": TestABodyLongerThanItSaidIsNotPassedOn,
		"TheServerLearnsThatABodyIsCutShort": TestTheServerLearnsThatABodyIsCutShort,
		"ClientsThatReset":                   TestClientsThatReset,
		"ClientsThatStop":                    TestClientsThatStop,
		"ClientsThatDoNotRead":               TestClientsThatDoNotRead,
		"PipelinesWithoutAnEnd":              TestPipelinesWithoutAnEnd,
		"ManyConnectionsThatSayNothing":      TestManyConnectionsThatSayNothing,
		"HTTP2Floods":                        TestHTTP2Floods,
		"HTTP2WindowsThatStayShut":           TestHTTP2WindowsThatStayShut,
		"HTTP2BodiesBeyondTheWindow":         TestHTTP2BodiesBeyondTheWindow,
		"HTTP2ClientsThatStop":               TestHTTP2ClientsThatStop,
		"HTTP2ClientsThatReset":              TestHTTP2ClientsThatReset,
		"BadTLS":                             TestBadTLS,
		"OldVersionsOfTLSAreRefused":         TestOldVersionsOfTLSAreRefused,
		"ManyHandshakesThatHang":             TestManyHandshakesThatHang,
		"BadRecordsAfterTheHandshake":        TestBadRecordsAfterTheHandshake,
	} {
		t.Run(name, test)
	}
}

// siege is a proxy under attack.
type siege struct {
	*Proxy
	t       *testing.T
	address string // of the listener with the usual times
	// Of listeners of which one time each is short.
	shortHeader, shortIdle, shortExchange string
	secure                                string // of one that speaks TLS
	trust                                 *cryptotls.Config
	server                                *victim
	witness                               *http.Client
}

// victim is the server behind it.
type victim struct {
	arrived chan string   // the paths of requests that wait
	release chan struct{} // lets them go on
	broken  chan error    // how bodies ended that did not end well
	writing atomic.Int64  // large responses that are under way
}

func (v *victim) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/wait":
		v.arrived <- r.URL.Path
		select {
		case <-v.release:
		case <-r.Context().Done():
			v.broken <- r.Context().Err()
			return
		}
	case "/large":
		v.writing.Add(1)
		defer v.writing.Add(-1)
		block := bytes.Repeat([]byte("x"), 64<<10)
		for range 1024 { // 64 MiB: more than the kernel's buffers on the way
			if _, err := w.Write(block); err != nil {
				return
			}
		}
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		v.broken <- err
		return
	}
	_, _ = io.WriteString(w, "ok")
}

func besiege(t *testing.T) *siege {
	t.Helper()
	v := &victim{arrived: make(chan string, 1000), release: make(chan struct{}), broken: make(chan error, 1000)}
	config := oneListener(HTTP, Server{Name: "a", Address: webServer(t, v.serve), Weight: 1})
	config.Certificates = []tls.Certificate{selfSigned(t, "web", "web.example", year)}
	const short = 50 * time.Millisecond
	for name, terms := range map[string]site.HTTP{"header": {Header: short}, "idle": {Idle: short}, "exchange": {Exchange: short}} {
		config.Listeners = append(config.Listeners, Listener{Name: name, Addresses: []netip.AddrPort{anyPort}, Protocol: HTTP, Pool: "web", HTTP: terms})
	}
	config.Listeners = append(config.Listeners, Listener{
		Name: "secure", Addresses: []netip.AddrPort{anyPort}, Protocol: HTTPS, Pool: "web", TLS: &tls.ServerConfig{Certificates: []string{"web"}},
	})
	config.Listeners[0].HTTP.MaxBody = 1 << 20
	s := &siege{t: t, server: v, trust: trusting(config), witness: client(t)}
	s.Proxy = startWith(t, Options{Loops: 1, Engine: besieged}, config)
	for _, l := range s.Status().Listeners {
		address := l.Addresses[0].String()
		switch l.Name {
		case "front":
			s.address = address
		case "header":
			s.shortHeader = address
		case "idle":
			s.shortIdle = address
		case "exchange":
			s.shortExchange = address
		case "secure":
			s.secure = address
		}
	}
	t.Cleanup(func() { close(v.release) })
	s.served()
	return s
}

// served checks that another client is served now.
func (s *siege) served() {
	s.t.Helper()
	for range 3 {
		if status, body := get(s.t, s.witness, "http://"+s.address+"/"); status != 200 || body != "ok" {
			s.t.Fatalf("another client got %d %q", status, body)
		}
	}
}

// holds checks that no more than so many bytes are buffered now.
func (s *siege) holds(most int) {
	s.t.Helper()
	if n := s.http.Buffered(); n > most {
		s.t.Errorf("%d bytes are held, want at most %d", n, most)
	}
}

// over checks that nothing is left of the attack but the witness.
func (s *siege) over() {
	s.t.Helper()
	proxytest.Eventually(s.t, "the attackers' connections are closed, and nothing is in flight", func() bool {
		st := s.Status()
		return st.InFlight == 0 && st.Connections <= 1
	})
	s.served()
	s.holds(32 << 10)
}

// rest reads until the connection ends, however it does.
func rest(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection did not end; it brought %.200q", b)
	}
	return string(b)
}

// reset ends a connection by a reset.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

const endless = -1

func TestBadHTTP1Requests(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\n"
	random := make([]byte, 4096)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(source.Uint32())
	}
	tests := []struct {
		name   string
		begin  string
		more   string // sent so many times after begin
		times  int
		finish bool   // the client then closes its side
		want   string // the answer's beginning; "" for none
	}{
		{"a field that is too long", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 9<<10) + "\r\n\r\n", "", 0, false, "HTTP/1.1 431 "},
		{"a target that is too long", "GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "", 0, false, "HTTP/1.1 431 "},
		{"too many fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 200) + "\r\n", "", 0, false, "HTTP/1.1 431 "},
		{"a head without an end", "GET / HTTP/1.1\r\nHost: x\r\n", "A: b\r\n", endless, false, "HTTP/1.1 431 "},
		{"a line without an end", "GET /", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", endless, false, "HTTP/1.1 431 "},
		{"empty lines without an end", "", "\r\n", endless, false, "HTTP/1.1 4"},
		{"a body above the limit", post + "Content-Length: 1048577\r\n\r\n", "x", 1000, false, "HTTP/1.1 413 "},
		{"a body without an end", post + "Transfer-Encoding: chunked\r\n\r\n", "400\r\n" + strings.Repeat("x", 1024) + "\r\n", endless, false, "HTTP/1.1 413 "},
		{"a chunk's extension without an end", post + "Transfer-Encoding: chunked\r\n\r\n1;", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", endless, false, "HTTP/1.1 4"},
		{"a chunk's size without an end", post + "Transfer-Encoding: chunked\r\n\r\n", "0000000000000000", endless, false, "HTTP/1.1 400 "},
		{"chunks of one byte with long extensions", post + "Transfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("a", 200) + "\r\nx\r\n", endless, false, "HTTP/1.1 4"},
		{"trailers without an end", post + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", endless, false, "HTTP/1.1 4"},

		{"a body shorter than its length", post + "Content-Length: 100\r\n\r\nabc", "", 0, true, ""},
		{"a chunk shorter than its size", post + "Transfer-Encoding: chunked\r\n\r\n64\r\nabc", "", 0, true, ""},
		{"no last chunk", post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "", 0, true, ""},
		{"a chunk longer than its size", post + "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "", 0, false, "HTTP/1.1 400 "},
		{"a negative length", post + "Content-Length: -1\r\n\r\n", "", 0, false, "HTTP/1.1 400 "},
		{"a length beyond all", post + "Content-Length: 99999999999999999999\r\n\r\n", "", 0, false, "HTTP/1.1 4"},
		{"a list of lengths", post + "Content-Length: 3, 3\r\n\r\nabc", "", 0, false, "HTTP/1.1 400 "},
		{"half a head", "GET / HTTP/1.1\r\nHo", "", 0, true, ""},

		{"random bytes", string(random), "", 0, false, "HTTP/1.1 400 "},
		{"random bytes without an end", "", string(random), endless, false, "HTTP/1.1 4"},
		{"zeros without an end", "", strings.Repeat("\x00", 1024), endless, false, "HTTP/1.1 4"},
		{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + strings.Repeat("\x7f", 160) + "\r\n\r\n", "", 0, false, "HTTP/1.1 400 "},
		{"HTTP/0.9", "GET /\r\n\r\n", "", 0, false, "HTTP/1.1 400 "},
		{"HTTP/3", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", "", 0, false, "HTTP/1.1 505 "},
		{"half a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "", 0, false, "HTTP/1.1 "},
		{"a request behind garbage", "\x00GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", 0, false, "HTTP/1.1 400 "},
	}
	s := besiege(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			c := dial(t, s.address)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, err := io.WriteString(c, tt.begin)
				more := strings.Repeat(tt.more, max(1, 4096/max(len(tt.more), 1)))
				for i := 0; err == nil && (i < tt.times || tt.times == endless); i++ {
					_, err = io.WriteString(c, more)
				}
				if tt.finish {
					_ = c.CloseWrite()
				}
			}()
			s.served()
			s.holds(192 << 10)
			got := rest(t, c)
			<-sent
			// A client that sends on and on may be reset before it has read.
			if (got != "" || tt.times != endless) && !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("answer %.200q, want %q", got, tt.want)
			}
			if strings.Count(got, "HTTP/1.1 ") > 1 {
				t.Errorf("answer %.400q, want one at most", got)
			}
			_ = c.Close()
			s.over()
		})
	}
}

// What a client sends after a body whose length it has understated is another
// request, and malformed.
func TestABodyLongerThanItSaidIsNotPassedOn(t *testing.T) {
	s := besiege(t)
	c := dial(t, s.address)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcdef\r\n\r\n")
	got := rest(t, c)
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Count(got, "HTTP/1.1 400 ") != 1 {
		t.Errorf("answers %q, want 200 to the request and 400 to the rest", got)
	}
	_ = c.Close()
	s.over()
}

// A body that ends early must not look complete to the server.
func TestTheServerLearnsThatABodyIsCutShort(t *testing.T) {
	for name, head := range map[string]string{
		"a length": "Content-Length: 100\r\n\r\nabc",
		"chunks":   "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		for how, end := range map[string]func(*net.TCPConn){"FIN": func(c *net.TCPConn) { _ = c.CloseWrite() }, "reset": reset} {
			t.Run(name+", "+how, func(t *testing.T) {
				s := besiege(t)
				c := dial(t, s.address)
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+head)
				proxytest.Eventually(t, "the request is under way", func() bool { return s.Status().InFlight == 1 })
				end(c)
				select {
				case err := <-s.server.broken:
					if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("the body ended with %v", err)
					}
				case <-time.After(patience):
					t.Fatal("the server did not learn of it")
				}
				s.over()
			})
		}
	}
}

// Resets at any moment end the exchange, at the server too, and no other.
func TestClientsThatReset(t *testing.T) {
	tests := []struct {
		name, send string
		ready      func(s *siege, c *net.TCPConn)
	}{
		{"at once", "", nil},
		{"within a head", "GET / HTTP/1.1\r\nHo", nil},
		{"while the server works", "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", func(s *siege, _ *net.TCPConn) { <-s.server.arrived }},
		{"within the response", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", func(s *siege, c *net.TCPConn) {
			if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
				s.t.Error(err)
			}
		}},
		{"with requests ahead", strings.Repeat("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", 100), func(s *siege, _ *net.TCPConn) { <-s.server.arrived }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := besiege(t)
			const n = 20
			var clients []*net.TCPConn
			for range n {
				c := dial(t, s.address)
				_, _ = io.WriteString(c, tt.send)
				if tt.ready != nil {
					tt.ready(s, c)
				}
				clients = append(clients, c)
			}
			s.served()
			s.holds(n * (192 << 10))
			for _, c := range clients {
				reset(c)
			}
			s.over()
			if p := s.Status().Pools[0].Servers[0]; p.InFlight != 0 {
				t.Errorf("%d are in flight at the server", p.InFlight)
			}
		})
	}
}

// A client that is gone without a word, or does not go on, is given up after
// its time, wherever it stopped.
func TestClientsThatStop(t *testing.T) {
	s := besiege(t)
	tests := []struct{ name, address, send, want string }{
		{"before the first byte", s.shortHeader, "", ""},
		{"within a head", s.shortHeader, "GET / HTTP/1.1\r\nHo", "HTTP/1.1 408 "},
		{"within a body", s.shortExchange, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 408 "},
		{"within a chunk", s.shortExchange, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", "HTTP/1.1 408 "},
		{"between two requests", s.shortIdle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			c := dial(t, tt.address)
			_, _ = io.WriteString(c, tt.send)
			s.served()
			// On a machine so slow that the time is over before the first byte is
			// read, there is nothing to answer.
			if got := rest(t, c); (got != "" || tt.address != s.shortHeader) && !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			_ = c.Close()
			s.over()
		})
	}
}

// Clients that ask for much and read nothing hold a bounded part of it, and
// are cut off after a time in which nothing moved.
func TestClientsThatDoNotRead(t *testing.T) {
	s := besiege(t)
	const n = 20
	var clients []*net.TCPConn
	for range n {
		c := dial(t, s.shortExchange)
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		_, _ = io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
		clients = append(clients, c)
	}
	s.served()
	s.holds(n * (192 << 10))
	proxytest.Eventually(t, "they are cut off, and the server writes no more", func() bool {
		return s.Status().InFlight == 0 && s.server.writing.Load() == 0
	})
	for _, c := range clients {
		_ = c.Close()
	}
	s.over()
}

// Requests ahead of their answers wait with the client, beyond a bound.
func TestPipelinesWithoutAnEnd(t *testing.T) {
	s := besiege(t)
	c := dial(t, s.address)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		request := []byte(strings.Repeat("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", 100))
		for {
			if _, err := c.Write(request); err != nil {
				return
			}
		}
	}()
	<-s.server.arrived
	for range 10 {
		s.served()
		s.holds(192 << 10)
	}
	if len(s.server.arrived) != 0 {
		t.Error("a second request was passed on before the first was answered")
	}
	reset(c)
	<-stop
	s.over()
}

func TestManyConnectionsThatSayNothing(t *testing.T) {
	s := besiege(t)
	const n = 500
	var clients []*net.TCPConn
	for i := range n {
		address := s.address
		if i%2 == 1 {
			address = s.secure
		}
		clients = append(clients, dial(t, address))
	}
	proxytest.Eventually(t, "all are accepted", func() bool { return s.Status().Connections >= n/2 })
	s.served()
	s.holds(32 << 10)
	for _, c := range clients {
		_ = c.Close()
	}
	s.over()
}
