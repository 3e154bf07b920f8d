package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// webServer serves with net/http until the test ends.
func webServer(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().(*net.TCPAddr).AddrPort()
}

func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	}
}

func client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("body of %s: %v", url, err)
	}
	return res.StatusCode, string(b)
}

func TestHTTPSharesFollowWeightsOnKeptConnections(t *testing.T) {
	p := start(t, oneListener(HTTP,
		Server{Name: "a", Address: webServer(t, named("a")), Weight: 2},
		Server{Name: "b", Address: webServer(t, named("b")), Weight: 1}))
	c := client(t)
	got := map[string]int{}
	for range 60 {
		status, body := get(t, c, "http://"+listening(p)+"/")
		if status != 200 {
			t.Fatalf("status %d", status)
		}
		got[body]++
	}
	if got["a"] != 40 || got["b"] != 20 {
		t.Errorf("requests = %v, want a:40 b:20", got)
	}
	proxytest.Eventually(t, "60 requests on 1 connection are counted", func() bool {
		l := p.Status().Listeners[0]
		return l.Accepted == 1 && l.Requests == 60 && l.Failed == 0
	})
}

func TestHTTPForwardsWhatItShould(t *testing.T) {
	type seen struct {
		header http.Header
		host   string
		url    string
	}
	got := make(chan seen, 1)
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		got <- seen{r.Header, r.Host, r.RequestURI}
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("X-Under_Score", "kept")
		w.WriteHeader(204)
	})}))
	c := dial(t, listening(p))
	_, _ = io.WriteString(c, "GET http://example.com/a?b HTTP/1.1\r\nHost: EXAMPLE.com\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\n"+
		"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.8\r\nX-Forwarded-Proto: https\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nUnder_Score: 1\r\nAccept: */*\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 204 || res.Header.Get("Keep-Alive") != "" || res.Header.Get("X-Under_Score") != "kept" {
		t.Errorf("response = %d %v", res.StatusCode, res.Header)
	}
	s := <-got
	if s.host != "example.com" || s.url != "/a?b" {
		t.Errorf("host %q, target %q", s.host, s.url)
	}
	want := http.Header{
		"X-Forwarded-For":   {"192.0.2.7, 192.0.2.8, 127.0.0.1"},
		"X-Forwarded-Proto": {"http"}, "X-Real-Ip": {"127.0.0.1"},
		"X-Forwarded-Host": {"example.com"},
		"Accept":           {"*/*"},
	}
	if fmt.Sprint(s.header) != fmt.Sprint(want) {
		t.Errorf("fields at the server = %v, want %v", s.header, want)
	}
}

func TestHTTPLargeBodiesBothWays(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		h := sha256.New()
		if r.URL.Path == "/length" {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b)
			return
		}
		_, _ = io.Copy(io.MultiWriter(w, h), r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
	})}))
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	for _, path := range []string{"/length", "/chunked"} {
		for _, known := range []bool{true, false} {
			var r io.Reader = bytes.NewReader(body)
			if !known {
				r = io.MultiReader(r) // hides the length
			}
			res, err := client(t).Post("http://"+listening(p)+path, "", r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s known=%v: %d bytes came back, %v; want %d unchanged", path, known, len(got), err, len(body))
			}
			if path == "/chunked" && res.Trailer.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(body)) {
				t.Errorf("trailer = %v", res.Trailer)
			}
		}
	}
}

// raw sends one string, half-closes, and reads all that comes back.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	c := dial(t, address)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

func TestHTTPPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "<%s:%s>", r.URL.Path, b)
	})}))
	var sb, want strings.Builder
	for i := range 50 {
		if i%2 == 0 {
			fmt.Fprintf(&sb, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			fmt.Fprintf(&want, "</%d:>", i)
		} else {
			fmt.Fprintf(&sb, "POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\n\r\n", i)
			fmt.Fprintf(&want, "</%d:abc>", i)
		}
	}
	br := bufio.NewReader(strings.NewReader(raw(t, listening(p), sb.String())))
	var got strings.Builder
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			break
		}
		_, _ = io.Copy(&got, res.Body)
	}
	if got.String() != want.String() {
		t.Errorf("answers = %s\nwant %s", got.String(), want.String())
	}
}

func TestHTTPRefusals(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, named("a"))}))
	tests := []struct{ name, request, want string }{
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 400 "},
		{"length and coding", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 "},
		{"unknown coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "HTTP/1.1 501 "},
		{"bare LF", "GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400 "},
		{"head too large", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: "+strings.Repeat("b", 4000)+"\r\n", 5) + "\r\n", "HTTP/1.1 431 "},
		{"connect", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 501 "},
		{"body on a 1.0 get", "GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 413 "},
		{"bad chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := raw(t, listening(p), tt.request)
			if !strings.HasPrefix(got, tt.want) || !strings.Contains(got, "\r\nConnection: close\r\n") {
				t.Errorf("answer = %q, want %q and Connection: close", got, tt.want)
			}
			if strings.Count(got, "HTTP/1.1 ") != 1 {
				t.Errorf("answer = %q, want a single response", got)
			}
		})
	}
}

func TestHTTP10(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one")
		_ = http.NewResponseController(w).Flush() // chunked
		_, _ = io.WriteString(w, "two")
	})}))
	got := raw(t, listening(p), "GET / HTTP/1.0\r\n\r\n")
	if !strings.HasSuffix(got, "\r\n\r\nonetwo") || strings.Contains(got, "chunked") || !strings.Contains(got, "Connection: close") {
		t.Errorf("answer = %q, want an unchunked body that ends with the connection", got)
	}
}

func TestHTTPDeadServersCostClientsNothing(t *testing.T) {
	p := start(t, oneListener(HTTP,
		Server{Name: "dead", Address: deadAddress(t), Weight: 5},
		Server{Name: "b", Address: webServer(t, named("b")), Weight: 1}))
	for range 20 {
		if status, body := get(t, client(t), "http://"+listening(p)+"/"); status != 200 || body != "b" {
			t.Fatalf("answer = %d %q", status, body)
		}
	}
}

func TestHTTPWithoutServers(t *testing.T) {
	tests := []struct {
		name    string
		servers []Server
		want    int
	}{
		{"none configured", nil, 503},
		{"none takes work", []Server{{Name: "a", Address: deadAddress(t), Weight: 0}}, 503},
		{"all refuse", []Server{{Name: "a", Address: deadAddress(t), Weight: 1}, {Name: "b", Address: deadAddress(t), Weight: 1}}, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, oneListener(HTTP, tt.servers...))
			c := client(t)
			for range 3 { // a complete request leaves the connection usable
				if status, _ := get(t, c, "http://"+listening(p)+"/"); status != tt.want {
					t.Errorf("status = %d, want %d", status, tt.want)
				}
			}
			// The counters come before the answers.
			if l := p.Status().Listeners[0]; l.Failed != 3 || l.Requests != 3 || l.Accepted != 1 {
				t.Errorf("status = %+v, want 3 failed requests on 1 connection", l)
			}
			got := raw(t, listening(p), strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 3))
			if n := strings.Count(got, fmt.Sprintf("HTTP/1.1 %d ", tt.want)); n != 3 {
				t.Errorf("pipelined: %d of 3 answered in %q", n, got)
			}
		})
	}
}

func TestHTTPKeptConnectionThatDiedIsRetriedOnce(t *testing.T) {
	// The server closes each connection after one answer without saying so,
	// at the moment at which the next request is on its way.
	var served atomic.Int64
	server := proxytest.TCP(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		served.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_, _ = http.ReadRequest(br) // takes the next one, and closes without an answer
	})
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: server, Weight: 1}))
	c := client(t)
	for i := range 10 {
		if status, body := get(t, c, "http://"+listening(p)+"/"); status != 200 || body != "ok" {
			t.Fatalf("request %d: %d %q", i, status, body)
		}
	}
	// A POST may have been acted upon: it is not repeated.
	res, err := c.Post("http://"+listening(p)+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 502 {
		t.Errorf("POST on a dead connection = %d, want 502", res.StatusCode)
	}
}

func TestHTTPResponseCutShortIsSeenByTheClient(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		server := proxytest.TCP(t, func(c *net.TCPConn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, head)
		})
		p := start(t, oneListener(HTTP, Server{Name: "a", Address: server, Weight: 1}))
		res, err := client(t).Get("http://" + listening(p) + "/")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) || string(b) != "abc" {
			t.Errorf("body = %q, %v; want abc and an unexpected EOF", b, err)
		}
	}
}

func TestHTTPGarbageFromTheServerIs502(t *testing.T) {
	for _, answer := range []string{"hello\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", "HTTP/1.1 200 OK\r\nA\r\n\r\n", ""} {
		server := proxytest.TCP(t, func(c *net.TCPConn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, answer)
		})
		p := start(t, oneListener(HTTP, Server{Name: "a", Address: server, Weight: 1}))
		if status, _ := get(t, client(t), "http://"+listening(p)+"/"); status != 502 {
			t.Errorf("status after %q = %d, want 502", answer, status)
		}
	}
}

func TestHTTPEarlyAnswerEndsTheConnection(t *testing.T) {
	server := proxytest.TCP(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig")
		_, _ = io.Copy(io.Discard, c)
	})
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: server, Weight: 1}))
	c := dial(t, listening(p))
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nstart")
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 413 ") || !strings.Contains(string(b), "Connection: close") || !strings.HasSuffix(string(b), "big") {
		t.Errorf("answer = %q, %v", b, err)
	}
}

func TestHTTPContinue(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body) // the first read sends 100
	})}))
	c := dial(t, listening(p))
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("interim = %q, %v", line, err)
	}
	_, _ = br.ReadString('\n')
	_, _ = io.WriteString(c, "body")
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "body" {
		t.Errorf("answer = %q", b)
	}
}

func TestHTTPWebSocketTunnel(t *testing.T) {
	server := proxytest.TCP(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		r, err := http.ReadRequest(br)
		if err != nil || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		_, _ = io.Copy(c, br)
		_ = c.CloseWrite()
	})
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: server, Weight: 1}))
	c := dial(t, listening(p))
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly")
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("answer = %v, %v", res, err)
	}
	want := "helloearly" + strings.Repeat("x", 300000)
	go func() {
		_, _ = io.WriteString(c, strings.Repeat("x", 300000))
		_ = c.CloseWrite()
	}()
	b, err := io.ReadAll(br)
	if err != nil || string(b) != want {
		t.Errorf("tunnel gave %d bytes, %v; want %d", len(b), err, len(want))
	}
	proxytest.Eventually(t, "the tunnel is settled", func() bool { st := p.Status(); return st.InFlight == 0 && st.Connections == 0 })
}

func TestHTTPDrain(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 2)
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "done")
	})}))
	address := listening(p)
	idle := dial(t, address)
	br := bufio.NewReader(idle)
	_, _ = io.WriteString(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if res, err := http.ReadResponse(br, nil); err != nil || res.Close {
		t.Fatalf("before the drain: %v, %v", res, err)
	} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	slow := dial(t, address)
	_, _ = io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-arrived
	p.BeginDrain()
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection reads %v, want EOF", err)
	}
	// Still served, and told to go.
	if got := raw(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.Contains(got, "200 OK") || !strings.Contains(got, "Connection: close") {
		t.Errorf("during the drain: %q", got)
	}
	report := make(chan DrainReport, 1)
	go func() { report <- p.FinishDrain(context.Background()) }()
	proxytest.Eventually(t, "listener closed", func() bool { return !p.Status().Listeners[0].Accepting })
	close(release)
	b, err := io.ReadAll(slow)
	if err != nil || !strings.HasSuffix(string(b), "done") || !strings.Contains(string(b), "Connection: close") {
		t.Errorf("in flight during the drain: %q, %v", b, err)
	}
	if got, want := <-report, (DrainReport{Finished: 1}); got != want {
		t.Errorf("report = %+v, want %+v", got, want)
	}
}

func TestHTTPDrainCutsAtTheDeadline(t *testing.T) {
	arrived := make(chan struct{}, 1)
	release := make(chan struct{})
	p := start(t, oneListener(HTTP, Server{Name: "a", Weight: 1, Address: webServer(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})}))
	defer close(release)
	c := dial(t, listening(p))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-arrived
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, want := p.FinishDrain(ctx), (DrainReport{Cut: 1}); got != want {
		t.Errorf("report = %+v, want %+v", got, want)
	}
}

// Under load, pools are swapped, and servers come and go: no request fails.
func TestHTTPNothingFailsWhileTheConfigurationChanges(t *testing.T) {
	a, b, c := webServer(t, named("a")), webServer(t, named("b")), webServer(t, named("c"))
	fixed := deadAddress(t)
	config := func(pool string, servers ...Server) Config {
		return Config{
			Listeners: []Listener{{Name: "front", Addresses: []netip.AddrPort{fixed}, Protocol: HTTP, Pool: pool}},
			Pools:     []Pool{{Name: pool, Servers: servers}},
		}
	}
	p := start(t, config("one", Server{Name: "a", Address: a, Weight: 1}))
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	var done, failed atomic.Int64
	for i := range 8 {
		workers.Go(func() {
			cl := client(t)
			if i%2 == 0 {
				cl.Transport.(*http.Transport).DisableKeepAlives = true
			}
			for ctx.Err() == nil {
				res, err := cl.Get("http://" + fixed.String() + "/")
				if err != nil {
					failed.Add(1)
					t.Errorf("request failed: %v", err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != 200 {
					failed.Add(1)
					t.Errorf("status %d, %v", res.StatusCode, err)
					return
				}
				done.Add(1)
			}
		})
	}
	for i := range 100 {
		before := done.Load()
		next := config("one", Server{Name: "a", Address: a, Weight: 1 + i%5}, Server{Name: "b", Address: b, Weight: 2})
		if i%2 == 0 {
			next = config("two", Server{Name: "c", Address: c, Weight: 1}, Server{Name: "gone", Address: deadAddress(t), Weight: 3})
		}
		if i%7 == 0 {
			next.Listeners[0].Name = "renamed"
		}
		if err := p.Apply(ctx, next); err != nil {
			t.Fatal(err)
		}
		proxytest.Eventually(t, "requests go on", func() bool { return done.Load() > before+5 || failed.Load() > 0 })
	}
	cancel()
	workers.Wait()
	t.Logf("%d requests across 100 changes", done.Load())
}

func TestHTTPServerDeathMidTraffic(t *testing.T) {
	dying := httptest.NewServer(named("dying"))
	p := start(t, oneListener(HTTP,
		Server{Name: "dying", Address: dying.Listener.Addr().(*net.TCPAddr).AddrPort(), Weight: 1},
		Server{Name: "b", Address: webServer(t, named("b")), Weight: 1}))
	c := client(t)
	for i := range 60 {
		if i == 20 {
			dying.CloseClientConnections()
			dying.Close()
		}
		if status, _ := get(t, c, "http://"+listening(p)+"/"); status != 200 {
			t.Fatalf("request %d: status %d", i, status)
		}
	}
}
