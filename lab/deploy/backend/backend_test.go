package backend

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// start runs a backend on loopback and returns its two addresses.
func start(t *testing.T) (httpAddr, tcpAddr string) {
	t.Helper()
	s, err := New(Config{Name: "b7", HTTP: "127.0.0.1:0", TCP: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	bound := make(chan string, 2)
	listen := s.listen
	s.listen = func(ctx context.Context, address string) (net.Listener, error) {
		ln, err := listen(ctx, address)
		if err == nil {
			bound <- ln.Addr().String()
		}
		return ln, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		goleak.VerifyNone(t)
	})
	return <-bound, <-bound
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	addr, _ := start(t)
	tests := []struct {
		path   string
		status int
		answer bool // the body is an Answer
		length int  // otherwise, if not 0
	}{
		{path: "/", status: 200, answer: true},
		{path: "/any/thing", status: 200, answer: true},
		{path: "/healthz", status: 200, length: 3},
		{path: "/slow?ms=1", status: 200, answer: true},
		{path: "/slow?ms=1&stream=1", status: 200, answer: true},
		{path: "/slow?ms=250&stream=1", status: 200, answer: true},
		{path: "/slow", status: 400},
		{path: "/slow?ms=-1", status: 400},
		{path: "/slow?ms=99999999999", status: 400},
		{path: "/bytes?n=0", status: 200},
		{path: "/bytes?n=100000", status: 200, length: 100000},
		{path: "/bytes?n=x", status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			status, body := get(t, "http://"+addr+tt.path)
			if status != tt.status {
				t.Fatalf("status %d, want %d: %s", status, tt.status, body)
			}
			if tt.length != 0 && len(body) != tt.length {
				t.Errorf("%d bytes, want %d", len(body), tt.length)
			}
			if !tt.answer {
				return
			}
			var a Answer
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Fatal(err)
			}
			path, _, _ := strings.Cut(tt.path, "?")
			if a.Backend != "b7" || a.Path != path || !strings.HasPrefix(a.Peer, "127.0.0.1:") {
				t.Errorf("answer %+v", a)
			}
		})
	}
}

func TestEchoSaysWhoItIsAndSendsBack(t *testing.T) {
	_, addr := start(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if want := fmt.Sprintf("b7 %s\n", conn.LocalAddr()); err != nil || line != want {
		t.Fatalf("first line %q, %v, want %q", line, err, want)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("echo %q, %v", line, err)
	}
	// The connection stays open: Run must close it, or the test hangs.
}

func TestAPortTakenEndsRunWithItsReason(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, err := New(Config{Name: "b7", HTTP: "127.0.0.1:0", TCP: ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	var op *net.OpError
	if !errors.As(err, &op) || !strings.Contains(err.Error(), "backend b7: listen for tcp") {
		t.Errorf("error %v", err)
	}
	goleak.VerifyNone(t)
}

func TestNewRefusesABackendWithoutAddresses(t *testing.T) {
	if _, err := New(Config{Name: "b7"}); err == nil {
		t.Error("accepted")
	}
}
