package proxy

import (
	"bytes"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// badServer2 is a server of HTTP/2 that takes requests, and does with each as
// misbehave says. What the proxy sends is read all the while.
func badServer2(t *testing.T, settings []http2.Setting, misbehave func(c net.Conn, f *http2.Framer, stream uint32)) netip.AddrPort {
	return proxytest.TCP(t, func(c *net.TCPConn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		in := http2.NewFramer(c, c)
		_ = in.WriteSettings(settings...)
		var all sync.WaitGroup
		defer all.Wait()
		for {
			frame, err := in.ReadFrame()
			if err != nil {
				_ = c.Close()
				return
			}
			if h, ok := frame.(*http2.HeadersFrame); ok {
				stream := h.StreamID
				all.Go(func() { misbehave(c, http2.NewFramer(c, nil), stream) })
			}
		}
	})
}

// block is an encoded header block.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// until writes until the other side ends the connection, or has taken far too
// much.
func until(write func() error, overflow *atomic.Bool) {
	for range 2_000_000 {
		if write() != nil {
			return
		}
	}
	overflow.Store(true)
}

func TestBadServersOfHTTP2(t *testing.T) {
	ok := block(":status", "200")
	var overflow atomic.Bool
	head := func(f *http2.Framer, stream uint32, end bool, b []byte) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b, EndHeaders: true, EndStream: end})
	}
	type conduct func(c net.Conn, f *http2.Framer, stream uint32)
	tests := []struct {
		name string
		conduct
		settings []http2.Setting
		status   int // 0: the response begins, and is cut
		word     string
	}{
		{name: "floods SETTINGS", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, _ uint32) {
			until(func() error { return f.WriteSettings() }, &overflow)
		}},
		{name: "floods PING", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, _ uint32) {
			until(func() error { return f.WritePing(false, [8]byte{1}) }, &overflow)
		}},
		{name: "floods CONTINUATION", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: ok})
			b := block("x-a", "1")
			until(func() error { return f.WriteContinuation(stream, false, b) }, &overflow)
		}},
		{name: "floods empty DATA", word: "", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, false, ok)
			until(func() error { return f.WriteData(stream, false, nil) }, &overflow)
		}},
		{name: "floods interim responses", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			b := block(":status", "103")
			until(func() error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b, EndHeaders: true})
			}, &overflow)
		}},
		{name: "resets every stream", status: 502, word: "server-broke", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			_ = f.WriteRSTStream(stream, http2.ErrCodeInternal)
		}},
		{name: "refuses every stream", status: 503, word: "server-refused", conduct: func(c net.Conn, f *http2.Framer, stream uint32) {
			_ = f.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		}},
		{name: "goes away at once", status: 503, word: "server-refused", conduct: func(c net.Conn, f *http2.Framer, _ uint32) {
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		}},
		{name: "a bomb of fields", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			// One large entry in the table, and then a byte for each copy of it.
			b := append(block(":status", "200", "x-bomb", strings.Repeat("x", 4000)), bytes.Repeat([]byte{0x80 | 62}, 16000)...)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b[:16384], EndStream: true})
			_ = f.WriteContinuation(stream, true, b[16384:])
		}},
		{name: "data beyond the window", word: "", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, false, block(":status", "200", "content-length", "5"))
			_ = f.WriteData(stream, false, make([]byte, 16<<10))
		}},
		{name: "data before the head", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			_ = f.WriteData(stream, true, []byte("x"))
		}},
		{name: "a response for an unknown stream", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream+100, true, ok)
		}},
		{name: "a response on a stream of its own", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, _ uint32) {
			head(f, 2, true, ok)
		}},
		{name: "answers twice", word: "", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, false, ok)
			head(f, stream, false, ok)
		}},
		{name: "answers again after the end", status: 200, conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, true, ok)
			head(f, stream, true, ok)
		}},
		{name: "upper-case fields", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, true, block(":status", "200", "X-Upper", "1"))
		}},
		{name: "fields of a connection", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, true, block(":status", "200", "transfer-encoding", "chunked"))
		}},
		{name: "a broken field block", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, true, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}},
		{name: "pushes", status: 502, word: "server-malformed", conduct: func(_ net.Conn, f *http2.Framer, stream uint32) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: stream, PromiseID: 2, BlockFragment: block(":method", "GET"), EndHeaders: true})
		}},
		{name: "garbage", status: 502, word: "server-malformed", conduct: func(c net.Conn, _ *http2.Framer, _ uint32) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+strings.Repeat("x", 100))
		}},
		{name: "breaks in the middle", word: "", conduct: func(c net.Conn, f *http2.Framer, stream uint32) {
			head(f, stream, false, block(":status", "200", "content-length", "10"))
			_ = f.WriteData(stream, false, []byte("abc"))
			_ = c.(*net.TCPConn).CloseWrite()
		}},
		{name: "is silent", status: 504, word: "server-timeout", conduct: func(net.Conn, *http2.Framer, uint32) {}},
		{
			name: "zero windows", status: 504, word: "server-timeout", settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}},
			conduct: func(net.Conn, *http2.Framer, uint32) {},
		},
	}
	config := Config{
		Listeners: []Listener{{Name: "front", Addresses: []netip.AddrPort{anyPort}, Protocol: HTTP, Pool: "good"}},
		Pools:     []Pool{{Name: "good", HTTP2: true, Servers: []Server{one(plain2(t, named("good"), nil))}}},
	}
	for i, tt := range tests {
		name := fmt.Sprintf("p%d", i)
		address := badServer2(t, tt.settings, tt.conduct)
		pool := Pool{Name: name, HTTP2: true, Servers: []Server{one(address)}}
		pool.Timeouts.Response = patience
		if tt.status == 504 {
			pool.Timeouts.Response = 50 * time.Millisecond
		}
		config.Pools = append(config.Pools, pool)
		config.Listeners[0].Routes = append(config.Listeners[0].Routes, Route{
			Name: name, Match: route.Rule{Path: "/" + name + "/"}, Targets: []Target{{Pool: name}},
		})
	}
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		p := run(t, config)
		stop := keepAsking(t, "http://"+listening(p)+"/")
		for name, c := range clients(t) {
			for i, tt := range tests {
				t.Run(tt.name+" "+name, func(t *testing.T) {
					url := fmt.Sprintf("http://%s/p%d/", listening(p), i)
					res, err := c.Post(url, "text/plain", strings.NewReader(strings.Repeat("x", 1000)))
					if err != nil {
						if tt.status != 0 {
							t.Fatal(err)
						}
						return // it was cut before the client saw its head
					}
					_, err = io.ReadAll(res.Body)
					_ = res.Body.Close()
					if tt.status == 0 {
						if err == nil {
							t.Errorf("status %d and a whole response", res.StatusCode)
						}
						return
					}
					if got := res.Header.Get("Proxy-Status"); err != nil || res.StatusCode != tt.status || tt.word != "" && !strings.Contains(got, `details="`+tt.word+`"`) {
						t.Errorf("status %d, Proxy-Status %q (%v); want %d, %s", res.StatusCode, got, err, tt.status, tt.word)
					}
				})
			}
		}
		stop()
		proxytest.Eventually(t, "nothing is in flight", func() bool { return p.Status().InFlight == 0 })
		if overflow.Load() {
			t.Error("a flood was taken to its end")
		}
	})
}

// keepAsking asks a good server all the while, until the function that it
// returns is called. Nobody else's misdeeds may be seen there.
func keepAsking(t *testing.T, url string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, c := range clients(t) {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				res, err := c.Get(url)
				if err != nil {
					t.Errorf("another client: %v", err)
					return
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || string(b) != "good" {
					t.Errorf("another client got %d %q (%v)", res.StatusCode, b, err)
					return
				}
			}
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { close(done) }); all.Wait() }
	t.Cleanup(stop)
	return stop
}

// One stream that a server breaks is no other's concern, on the same
// connection.
func TestABadStreamIsNobodyElses(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		var made atomic.Int64
		p := run(t, pooled(func(p *Pool) { p.HTTP2 = true }, one(plain2(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/bad" {
				_, _ = io.WriteString(w, "abc")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "good")
		}, func(s *http.Server) { s.ConnState = connections(&made) }))))
		stop := keepAsking(t, "http://"+listening(p)+"/")
		for _, c := range clients(t) {
			for range 20 {
				res, err := c.Get("http://" + listening(p) + "/bad")
				if err != nil {
					continue
				}
				if _, err = io.ReadAll(res.Body); err == nil {
					t.Error("a broken response came whole")
				}
				_ = res.Body.Close()
			}
		}
		stop()
		if n := made.Load(); n > 8 {
			t.Errorf("%d connections to the server: a stream's end was the connection's", n)
		}
	})
}

// A server whose TLS is broken after the handshake.
func TestBadRecordsFromAServer(t *testing.T) {
	c := selfSigned(t, "server", "web.example", year)
	pair, err := cryptotls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{
		"not a record":          strings.Repeat("garbage", 10),
		"cannot be decrypted":   "\x17\x03\x03\x00\x20" + strings.Repeat("x", 32),
		"longer than allowed":   "\x17\x03\x03\xff\xff" + strings.Repeat("x", 100),
		"an alert in clear":     "\x15\x03\x03\x00\x02\x02\x28",
		"a FIN within a record": "\x17\x03\x03\x00\x20xxx",
	}
	for name, record := range records {
		address := proxytest.TCP(t, func(raw *net.TCPConn) {
			secure := cryptotls.Server(raw, &cryptotls.Config{Certificates: []cryptotls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}})
			if _, err := secure.Read(make([]byte, 1)); err != nil {
				return
			}
			_, _ = io.WriteString(raw, record)
			_ = raw.CloseWrite()
			_, _ = io.Copy(io.Discard, raw)
		})
		startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
			for _, http2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, http2 %v", name, http2), func(t *testing.T) {
					p := run(t, pooled(func(p *Pool) { p.TLS, p.HTTP2 = webExample(c.Chain), http2 }, one(address)))
					for range 3 {
						if status, _ := get(t, client(t), "http://"+listening(p)+"/"); status != 502 {
							t.Errorf("status %d, want 502", status)
						}
					}
				})
			}
		})
	}
}

// Servers of HTTP/1.1 that break it, by TLS and in clear, on kept connections
// and on new ones.
func TestBadServersOfHTTP1(t *testing.T) {
	tests := []struct {
		name, answer string
		reset        bool
		status       int // 0: the response begins, and is cut
		body         string
	}{
		{"garbage", "\x16\x03\x01 this is not HTTP\r\n\r\n", false, 502, ""},
		{"no answer", "", false, 502, ""},
		{"reset before the answer", "", true, 502, ""},
		{"reset in the head", "HTTP/1.1 200 OK\r\nContent-", true, 502, ""},
		{"reset in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", true, 0, ""},
		{"ends in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false, 0, ""},
		{"a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, 0, ""},
		{"answers twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false, 200, "ok"},
		{"says more than its length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", false, 200, "ok"},
		{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", false, 502, ""},
		{"a head without an end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: 1\r\n", 20_000), false, 502, ""},
		{"switches unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false, 502, ""},
	}
	for _, tt := range tests {
		address := proxytest.TCP(t, func(c *net.TCPConn) {
			b := make([]byte, 4096)
			for seen := ""; !strings.HasSuffix(seen, "hello"); {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				seen += string(b[:n])
			}
			_, _ = io.WriteString(c, tt.answer)
			if tt.reset {
				_ = c.SetLinger(0)
				return
			}
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		})
		startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
			p := run(t, oneListener(HTTP, one(address)))
			for name, c := range clients(t) {
				t.Run(tt.name+" "+name, func(t *testing.T) {
					for range 3 {
						res, err := c.Post("http://"+listening(p)+"/", "text/plain", strings.NewReader("hello"))
						if err != nil {
							if tt.status != 0 || errors.Is(err, io.EOF) {
								t.Error(err)
							}
							continue
						}
						b, err := io.ReadAll(res.Body)
						_ = res.Body.Close()
						switch {
						case tt.status == 0 && err == nil:
							t.Errorf("status %d and a whole response", res.StatusCode)
						case tt.status != 0 && (err != nil || res.StatusCode != tt.status || tt.body != "" && string(b) != tt.body):
							t.Errorf("status %d %q (%v), want %d %q", res.StatusCode, b, err, tt.status, tt.body)
						}
					}
				})
			}
		})
	}
}
