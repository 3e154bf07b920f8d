package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// client2 speaks HTTP/2 by prior knowledge.
func client2(t *testing.T) *http.Client {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func TestHTTP2ManyStreamsOnOneConnection(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %d %s", r.Proto, r.Host, r.Header.Get("X-Forwarded-For"), len(b), r.URL.Query().Get("n"))
	}), Weight: 1}))
	c := client2(t)
	get(t, c, "http://"+listening(p)+"/") // makes the connection that the others share
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			body := strings.Repeat("x", i*100)
			res, err := c.Post(fmt.Sprintf("http://%s/p?n=%d", listening(p), i), "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = res.Body.Close() }()
			got, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("HTTP/1.1 %s 127.0.0.1 %d %d", listening(p), i*100, i); err != nil || string(got) != want || res.ProtoMajor != 2 {
				t.Errorf("%s: %q (%v), want %q", res.Proto, got, err, want)
			}
		})
	}
	all.Wait()
	proxytest.Eventually(t, "101 requests on 1 connection are counted, none in flight", func() bool {
		s := p.Status()
		return s.Listeners[0].Accepted == 1 && s.Listeners[0].Requests == 101 && s.InFlight == 0
	})
}

// Bodies far above every window, both ways at once.
func TestHTTP2LargeBodies(t *testing.T) {
	const size = 20 << 20
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, _ = io.Copy(h, r.Body)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
		for range size / 4096 {
			_, _ = w.Write(bytes.Repeat([]byte("y"), 4096))
		}
	}), Weight: 1}))
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	res, err := client2(t).Post("http://"+listening(p)+"/", "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got, want := res.Header.Get("X-Sum"), fmt.Sprintf("%x", sha256.Sum256(body)); got != want {
		t.Errorf("the server got a body of sum %s, want %s", got, want)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || len(got) != size || bytes.Count(got, []byte("y")) != size {
		t.Errorf("%d bytes came (%v), want %d", len(got), err, size)
	}
}

func TestHTTP2Trailers(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Got")
		_, _ = w.Write(b)
		w.Header().Set("X-Got", r.Trailer.Get("X-Sent"))
	}), Weight: 1}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listening(p)+"/", io.MultiReader(strings.NewReader("hello")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-Sent": {"there"}}
	res, err := client2(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "hello" || res.Trailer.Get("X-Got") != "there" {
		t.Errorf("body %q (%v), trailers %v", b, err, res.Trailer)
	}
}

// A client that cancels one stream ends the server's part of it, and no other.
func TestHTTP2CancelEndsOneStream(t *testing.T) {
	ended := make(chan struct{})
	release := make(chan struct{})
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cancel" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(ended)
			return
		}
		<-release
		_, _ = io.WriteString(w, "ok")
	}), Weight: 1}))
	c := client2(t)
	other := make(chan string, 1)
	go func() {
		_, body := get(t, c, "http://"+listening(p)+"/stays")
		other <- body
	}()
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listening(p)+"/cancel", nil)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the server did not learn that the client had gone")
	}
	close(release)
	if got := <-other; got != "ok" {
		t.Errorf("the other stream got %q", got)
	}
}

// A drain says GOAWAY: what is in flight ends well, and what comes next goes to
// a new connection.
func TestHTTP2Drain(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: webServer(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "ok")
	}), Weight: 1}))
	c := client2(t)
	answer := make(chan string, 1)
	go func() {
		_, body := get(t, c, "http://"+listening(p)+"/")
		answer <- body
	}()
	<-arrived
	report := make(chan DrainReport, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		report <- p.Drain(ctx)
	}()
	proxytest.Eventually(t, "the drain has begun", func() bool { return !p.Status().Listeners[0].Accepting })
	close(release)
	if got := <-answer; got != "ok" {
		t.Errorf("the request in flight got %q", got)
	}
	if r := <-report; r.Finished != 1 || r.Cut != 0 {
		t.Errorf("drain: %+v, want 1 finished", r)
	}
}

// What the server does wrong shows on the stream alone.
func TestHTTP2ServerThatBreaks(t *testing.T) {
	p := start(t, oneListener(HTTP, Server{Name: "a", Address: webServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/before":
			panic(http.ErrAbortHandler)
		case "/within":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	}), Weight: 1}))
	c := client2(t)
	if status, _ := get(t, c, "http://"+listening(p)+"/before"); status != 502 {
		t.Errorf("status %d, want 502", status)
	}
	res, err := c.Get("http://" + listening(p) + "/within")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a broken body ended with %v", err)
	}
	if _, body := get(t, c, "http://"+listening(p)+"/"); body != "ok" {
		t.Errorf("the next request got %q", body)
	}
	if n := p.Status().Listeners[0].Accepted; n != 1 {
		t.Errorf("%d connections, want 1: a stream's failure is not the connection's", n)
	}
}
