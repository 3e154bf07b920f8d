package check

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/", "/ok":
			_, _ = io.WriteString(w, "all is well")
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/sick":
			w.WriteHeader(503)
		case "/short":
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("abc"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(204)
		case "/chatter":
			for range 10 {
				w.WriteHeader(http.StatusEarlyHints)
			}
		case "/large":
			_, _ = w.Write(bytes.Repeat([]byte("x"), maxBody-4))
			_, _ = io.WriteString(w, "edge beyond")
			_, _ = w.Write(bytes.Repeat([]byte("x"), 10<<20))
		case "/endless":
			for i := 0; ; i++ {
				w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", 1000))
				if i == 1000 {
					return
				}
			}
		}
	}))
	defer srv.Close()
	server := addrOf(t, srv.Listener.Addr().String())
	tests := []struct {
		name string
		spec Spec
		want string // "" passes
	}{
		{"all defaults", Spec{}, ""},
		{"redirect counts, and is not followed", Spec{Path: "/moved", Expect: []StatusRange{{302, 302}}}, ""},
		{"unexpected status", Spec{Path: "/ok", Expect: []StatusRange{{204, 204}}}, "status 200"},
		{"server error", Spec{Path: "/sick"}, "status 503"},
		{"expected server error", Spec{Path: "/sick", Expect: []StatusRange{{200, 200}, {500, 599}}}, ""},
		{"body cut short", Spec{Path: "/short"}, "http body: closed by the server"},
		{"interim answers are passed over", Spec{Path: "/hints"}, ""},
		{"but not without end", Spec{Path: "/chatter"}, "http: answer too long"},
		{"no body to HEAD", Spec{Method: "HEAD", Path: "/large"}, ""},
		{"body matches", Spec{Body: "^all .* well$"}, ""},
		{"body does not match", Spec{Body: "sick"}, "http body: no match"},
		{"a large body is read to its 64 KiB", Spec{Path: "/large", Body: "edge$"}, ""},
		{"and not beyond", Spec{Path: "/large", Body: "beyond"}, "http body: no match"},
		{"an endless head", Spec{Path: "/endless"}, "http: answer too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.Kind = KindHTTP
			if got := ask(t, compile(t, tt.spec), server); got != tt.want {
				t.Errorf("probe = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHTTPStatusIsATypedReason(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	err := compile(t, Spec{Kind: KindHTTP})(t.Context(), addrOf(t, srv.Listener.Addr().String()))
	var status *StatusError
	if !errors.As(err, &status) || status.Status != 404 {
		t.Errorf("probe = %v, want a StatusError of 404", err)
	}
}

func TestHTTPS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.ServerName+" "+r.Proto)
	}))
	srv.TLS = serverTLS(nil)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	server := addrOf(t, srv.Listener.Addr().String())
	if got := ask(t, compile(t, Spec{Kind: KindHTTP, TLS: clientTLS(t, "web.example"), Body: `^web\.example HTTP/1\.1$`}), server); got != "" {
		t.Errorf("probe by name = %q", got)
	}
	if got := ask(t, compile(t, Spec{Kind: KindHTTP, TLS: clientTLS(t, "b.example")}), server); got != "tls: certificate for another name" {
		t.Errorf("probe by another name = %q", got)
	}
	if got := ask(t, compile(t, Spec{Kind: KindHTTP, TLS: &tls.Config{}}), server); got != "" {
		t.Errorf("probe without a name = %q", got)
	}
	if got := ask(t, compile(t, Spec{Kind: KindHTTP}), server); got != "status 400" {
		t.Errorf("probe in clear of a TLS port = %q", got)
	}
}

func TestHTTPAnswersThatAreNone(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"garbage", "\x00\x01\x02\r\n\r\n", "http: malformed answer"},
		{"secrets are not quoted", "password=hunter2\r\n\r\n", "http: malformed answer"},
		{"half a head", "HTTP/1.1 200 OK\r\n", "http: closed by the server"},
		{"nothing", "", "http: closed by the server"},
		{"a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "http body: malformed answer"},
		{"an old server", "HTTP/1.0 200 OK\r\n\r\nhello", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := serve(t, func(c net.Conn) {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, tt.answer)
			})
			if got := ask(t, compile(t, Spec{Kind: KindHTTP}), server); got != tt.want {
				t.Errorf("probe = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHTTPRequest(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"defaults", Spec{}, "GET / HTTP/1.1\nHost: ADDRESS\nUser-Agent: pharos-check\nAccept: */*\nConnection: close\n\n"},
		{
			"all set",
			Spec{Method: "POST", Path: "/health?deep=1", Host: "web.example", Headers: [][2]string{{"accept", "text/plain"}, {"X-Token", "a b"}, {"X-Token", ""}}},
			"POST /health?deep=1 HTTP/1.1\nHost: web.example\nUser-Agent: pharos-check\naccept: text/plain\nX-Token: a b\nX-Token: \nContent-Length: 0\nConnection: close\n\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			server := serve(t, func(c net.Conn) {
				var b strings.Builder
				r := bufio.NewReader(c)
				for line := "-"; line != "\r\n"; {
					line, _ = r.ReadString('\n')
					b.WriteString(strings.ReplaceAll(line, "\r\n", "\n"))
				}
				got <- b.String()
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			})
			tt.spec.Kind = KindHTTP
			if reason := ask(t, compile(t, tt.spec), server); reason != "" {
				t.Errorf("probe = %q", reason)
			}
			want := strings.ReplaceAll(tt.want, "ADDRESS", server.String())
			if diff := cmp.Diff(want, <-got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever Validate lets pass is one request, with the fields that were set:
// nothing in a configuration adds a line.
func TestValidSpecsMakeOneRequest(t *testing.T) {
	text := rapid.OneOf(
		rapid.StringMatching(`[ -~]{0,12}`), rapid.String(),
		rapid.SampledFrom([]string{"/", "/a b", "x\r\nEvil: 1", "a:b", "GET", "web.example:80", "X-A", "\t", "ü"}))
	rapid.Check(t, func(t *rapid.T) {
		s := Spec{Kind: KindHTTP, Method: text.Draw(t, "method"), Path: "/" + text.Draw(t, "path"), Host: text.Draw(t, "host")}
		for range rapid.IntRange(0, 2).Draw(t, "fields") {
			s.Headers = append(s.Headers, [2]string{text.Draw(t, "name"), text.Draw(t, "value")})
		}
		faults := 0
		s.Validate(func(string, string) { faults++ })
		if faults > 0 {
			return
		}
		h := &httpCheck{Spec: s}
		if _, err := httpProbe(s); err != nil {
			t.Fatal(err)
		}
		raw := orGet(s.Method) + " " + s.Path + " HTTP/1.1\r\nHost: " + s.Host + "\r\n" + h.fields() + "\r\n"
		r := bufio.NewReader(strings.NewReader(raw))
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("%q is no request: %v", raw, err)
		}
		if r.Buffered() != 0 {
			t.Fatalf("%q is more than one request", raw)
		}
		if want := 3 + len(s.Headers); strings.Count(raw, "\n") > want+4 || req.RequestURI != s.Path || req.Host != s.Host {
			t.Fatalf("%q: %d lines, target %q, host %q", raw, strings.Count(raw, "\n"), req.RequestURI, req.Host)
		}
	})
}

func orGet(method string) string {
	if method == "" {
		return "GET"
	}
	return method
}

func FuzzHTTPAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.0 503 Sick\r\n\r\n", "\x16\x03\x01", "",
	} {
		f.Add([]byte(s))
	}
	h := &httpCheck{Spec: Spec{Expect: []StatusRange{{200, 399}}}, method: &http.Request{Method: "GET"}}
	f.Fuzz(func(t *testing.T, answer []byte) {
		x := &exchange{reader: bufio.NewReader(&bounded{bytes.NewReader(answer), maxAnswer})}
		err := h.judge(x)
		if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/")) {
			t.Errorf("%q passed", answer)
		}
		if err != nil && (len(err.Error()) > 60 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' })) {
			t.Errorf("the reason is no short text: %q", err.Error())
		}
	})
}
