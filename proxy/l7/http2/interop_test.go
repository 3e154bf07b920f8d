package http2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Of net/http, whose HTTP/2 is that of golang.org/x/net, only HTTP/2 is used.
func onlyHTTP2() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}

func startServer(t *testing.T, handler http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, Protocols: onlyHTTP2(), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 70_000, MaxReceiveBufferPerConnection: 70_000}}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() {
		_ = s.Close()
		done.Wait()
	})
	return ln.Addr().String()
}

func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: onlyHTTP2()}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// site is the server's handler in these tests.
type site struct {
	canceled chan struct{} // /hang was given up
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		w.Header().Set("Trailer", "X-Length")
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Te", r.Header.Get("Te"))
		w.Header().Set("X-Cookie", r.Header.Get("Cookie"))
		n, err := io.Copy(w, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Length", strconv.FormatInt(n, 10))
		w.Header().Set(http.TrailerPrefix+"X-Late", r.Trailer.Get("X-Late"))
	case "/bytes":
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = w.Write(bytes.Repeat([]byte("x"), n))
	case "/abort":
		_, _ = w.Write([]byte("begun"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "/abort-at-once":
		panic(http.ErrAbortHandler)
	case "/early":
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case "/hints":
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("page"))
	case "/hang":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		s.canceled <- struct{}{}
	default:
		http.NotFound(w, r)
	}
}

func small(front, back *Config) {
	front.StreamWindow, front.ConnWindow, front.MaxStreams = defaultWindow, defaultWindow, 200
	back.StreamWindow, back.ConnWindow, back.MaxStreams = defaultWindow, defaultWindow, 200
}

func startSite(t *testing.T) (base string, s *site) {
	s = &site{canceled: make(chan struct{}, 1)}
	return "http://" + startRelay(t, startServer(t, s), small), s
}

// The client and server of net/http understand us, and through us each
// other.
func TestInterop(t *testing.T) {
	base, s := startSite(t)
	client := newClient(t)

	t.Run("page", func(t *testing.T) {
		res, err := client.Get(base + "/bytes?n=12345")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || len(b) != 12345 || res.ContentLength != 12345 || res.StatusCode != 200 {
			t.Errorf("%d bytes, status %d, length %d, %v", len(b), res.StatusCode, res.ContentLength, err)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		res, err := client.Head(base + "/bytes?n=12345")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.ContentLength != 12345 {
			t.Errorf("length %d", res.ContentLength)
		}
	})
	t.Run("trailers both ways", func(t *testing.T) {
		for _, body := range []string{"", "hello", strings.Repeat("0123456789", 50_000)} {
			req, err := http.NewRequest("PUT", base+"/echo", io.NopCloser(strings.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("TE", "trailers")
			req.Header.Set("Cookie", "a=1; b=2; c=3")
			req.Trailer = http.Header{"X-Late": {"late"}}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(b) != body {
				t.Errorf("%d bytes back of %d, %v", len(b), len(body), err)
			}
			if got := res.Trailer.Get("X-Length"); got != strconv.Itoa(len(body)) {
				t.Errorf("trailer X-Length = %q", got)
			}
			if got := res.Trailer.Get("X-Late"); got != "late" {
				t.Errorf("trailer X-Late = %q", got)
			}
			if res.Header.Get("X-Method") != "PUT" || res.Header.Get("X-Te") != "trailers" || res.Header.Get("X-Cookie") != "a=1; b=2; c=3" {
				t.Errorf("header %v", res.Header)
			}
		}
	})
	t.Run("interim response", func(t *testing.T) {
		hints := ""
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = fmt.Sprint(code, h.Get("Link"))
			return nil
		}})
		req, err := http.NewRequestWithContext(ctx, "GET", base+"/hints", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); string(b) != "page" || err != nil || hints != "103</style.css>" {
			t.Errorf("%q, %v, hints %q", b, err, hints)
		}
	})
	t.Run("server breaks off", func(t *testing.T) {
		res, err := client.Get(base + "/abort")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if string(b) != "begun" || err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
			t.Errorf("%q, %v; want a reset stream", b, err)
		}
		res, err = client.Get(base + "/abort-at-once")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 502 {
			t.Errorf("status %d, want 502", res.StatusCode)
		}
	})
	t.Run("client gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", base+"/hang", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		cancel()
		<-s.canceled
	})
	t.Run("server answers early", func(t *testing.T) {
		for range 20 {
			body := &endless{}
			res, err := client.Post(base+"/early", "a/b", body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != 413 {
				t.Errorf("status %d, want 413", res.StatusCode)
			}
			_ = res.Body.Close()
		}
	})
}

type endless struct{}

func (*endless) Read(b []byte) (int, error) { return len(b), nil }

// Many streams at a time, of all sizes, share small windows and get all of
// their bytes.
func TestInteropConcurrentStreams(t *testing.T) {
	base, _ := startSite(t)
	client := newClient(t)
	var group sync.WaitGroup
	for worker := range 40 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := range 5 {
				size := random.IntN([]int{10, 1000, 100_000, 400_000}[random.IntN(4)])
				body := make([]byte, size)
				for j := range body {
					body[j] = byte(random.Uint32())
				}
				if i%2 == 0 {
					res, err := client.Post(base+"/echo", "a/b", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					b, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil || !bytes.Equal(b, body) {
						t.Errorf("%d bytes back of %d, %v", len(b), len(body), err)
					}
					continue
				}
				res, err := client.Get(base + "/bytes?n=" + strconv.Itoa(size))
				if err != nil {
					t.Error(err)
					return
				}
				// Some give up in the middle.
				if size > 1000 && i == 1 {
					_, _ = io.CopyN(io.Discard, res.Body, 500)
					_ = res.Body.Close()
					continue
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || len(b) != size {
					t.Errorf("%d bytes of %d, %v", len(b), size, err)
				}
			}
		})
	}
	group.Wait()
}

// A server that goes away after some requests on each connection loses none.
func TestInteropGracefulEnd(t *testing.T) {
	l := newLoop(t)
	shared := NewShared()
	left := 0 // connections that went away
	config := ServerConfig()
	addr := listen(t, func(conn net.Conn) {
		k := newLink(l, conn)
		l.call(func() {
			h := &leaving{limit: 20, left: &left}
			c := NewServerConn(shared, k, &config, h)
			h.c = c
			k.feed = func(b []byte, now time.Duration) *Error {
				err := c.Feed(b, now)
				if c.Finished() {
					k.finish()
				}
				return err
			}
			k.drained, k.closed = c.Drained, c.Closed
			shared.Flush()
		})
		if err := k.run(); err != nil {
			t.Error(err)
		}
	})
	client := newClient(t)
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			for range 50 {
				// A POST, which the client repeats only if it was not processed.
				res, err := client.Post("http://"+addr+"/", "a/b", strings.NewReader("hello"))
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := io.ReadAll(res.Body); string(b) != "answer" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				_ = res.Body.Close()
			}
		})
	}
	group.Wait()
	l.call(func() {
		if left < 5 {
			t.Errorf("only %d connections went away", left)
		}
	})
}

// leaving answers requests, and goes away after some.
type leaving struct {
	answerer
	c     *ServerConn
	limit int
	left  *int
}

func (h *leaving) Data(s *Stream, b []byte, end bool) {
	s.Consume(len(b))
	if !end {
		return
	}
	s.WriteHeaders(200, nil, false)
	s.WriteData([]byte("answer"), true)
	if h.limit--; h.limit == 0 {
		*h.left++
		h.c.GoAway()
	}
}
