package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func parse(in string) (Request, int, *Error) {
	var r Request
	limits := RequestLimits()
	n, err := r.Parse([]byte(in), &limits)
	return r, n, err
}

func TestRequestRefusals(t *testing.T) {
	const get = "GET / HTTP/1.1\r\n"
	const post = "POST / HTTP/1.1\r\nHost: x\r\n"
	tests := []struct {
		name string
		in   string
		want *Error
	}{
		{"length and coding", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", ErrLength},
		{"coding and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", ErrLength},
		{"length twice, equal", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", ErrLength},
		{"length list", post + "Content-Length: 3, 3\r\n\r\n", ErrLength},
		{"length signed", post + "Content-Length: +3\r\n\r\n", ErrLength},
		{"length negative", post + "Content-Length: -3\r\n\r\n", ErrLength},
		{"length hex", post + "Content-Length: 0x3\r\n\r\n", ErrLength},
		{"length empty", post + "Content-Length:\r\n\r\n", ErrLength},
		{"length too long", post + "Content-Length: 9999999999999999999\r\n\r\n", ErrLength},
		{"coding gzip", post + "Transfer-Encoding: gzip\r\n\r\n", ErrCoding},
		{"coding list", post + "Transfer-Encoding: gzip, chunked\r\n\r\n", ErrCoding},
		{"coding twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ErrCoding},
		{"coding with parameter", post + "Transfer-Encoding: chunked;a=b\r\n\r\n", ErrCoding},
		{"coding with vertical tab", post + "Transfer-Encoding: \vchunked\r\n\r\n", ErrField},
		{"coding on 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ErrCoding10},
		{"body on a 1.0 get", "GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\n", ErrBody10},
		{"body on a 1.0 head", "HEAD / HTTP/1.0\r\nContent-Length: 1\r\n\r\n", ErrBody10},
		{"body on a 1.0 delete", "DELETE / HTTP/1.0\r\nContent-Length: 1\r\n\r\n", ErrBody10},
		{"bare LF after the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", ErrLine},
		{"bare LF in fields", get + "Host: x\nA: b\r\n\r\n", ErrLine},
		{"bare LF only, incomplete", "GET / HTTP/1.1\nHost: x\n\n", ErrLine},
		{"bare CR in a value", get + "Host: x\r\nA: b\rc\r\n\r\n", ErrField},
		{"NUL in a value", get + "Host: x\r\nA: b\x00c\r\n\r\n", ErrField},
		{"DEL in a value", get + "Host: x\r\nA: b\x7fc\r\n\r\n", ErrField},
		{"obs-fold", get + "Host: x\r\nA: b\r\n c\r\n\r\n", ErrField},
		{"space before the colon", get + "Host : x\r\n\r\n", ErrField},
		{"no colon", get + "Host: x\r\nA\r\n\r\n", ErrField},
		{"empty name", get + "Host: x\r\n: b\r\n\r\n", ErrField},
		{"name not a token", get + "Host: x\r\nA(b): c\r\n\r\n", ErrField},
		{"space before the first field", get + " Host: x\r\n\r\n", ErrField},
		{"no host on 1.1", get + "A: b\r\n\r\n", ErrHost},
		{"two hosts", get + "Host: x\r\nHost: x\r\n\r\n", ErrHost},
		{"host list", get + "Host: x, y\r\n\r\n", ErrHost},
		{"host with path", get + "Host: x/y\r\n\r\n", ErrHost},
		{"host with userinfo", get + "Host: a@x\r\n\r\n", ErrHost},
		{"host with a port that is none", get + "Host: x:80a\r\n\r\n", ErrHost},
		{"host with two ports", get + "Host: x:80:90\r\n\r\n", ErrHost},
		{"host of a port only", get + "Host: :80\r\n\r\n", ErrHost},
		{"host with a bracket open", get + "Host: [::1\r\n\r\n", ErrHost},
		{"absolute-form disagrees", "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n", ErrHost},
		{"absolute-form with userinfo", "GET http://a@x/ HTTP/1.1\r\nHost: a@x\r\n\r\n", ErrHost},
		{"absolute-form without host", "GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"other scheme", "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"target relative", "GET a HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"asterisk with GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"control in the target", "GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"byte over 127 in the target", "GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", ErrTarget},
		{"tab in the request line", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", ErrRequestLine},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", ErrRequestLine},
		{"trailing space", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", ErrRequestLine},
		{"HTTP/0.9", "GET /\r\n\r\n", ErrRequestLine},
		{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", ErrVersion},
		{"http in lower case", "GET / http/1.1\r\nHost: x\r\n\r\n", ErrRequestLine},
		{"method not a token", "G,T / HTTP/1.1\r\nHost: x\r\n\r\n", ErrRequestLine},
		{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", ErrRequestLine},
		{"CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", ErrMethod},
		{"TRACE", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", ErrMethod},
		{"unknown expectation", post + "Expect: the-unexpected\r\n\r\n", ErrExpect},
		{"101 fields", get + "Host: x\r\n" + strings.Repeat("A: b\r\n", 100) + "\r\n", ErrTooLarge},
		{"line of more than 8 KiB", get + "Host: x\r\nA: " + strings.Repeat("b", 8190) + "\r\n\r\n", ErrTooLarge},
		{"head of more than 16 KiB", get + "Host: x\r\n" + strings.Repeat("A: "+strings.Repeat("b", 4096)+"\r\n", 4) + "\r\n", ErrTooLarge},
		{"endless head", get + "A: " + strings.Repeat("b", 17000), ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, n, err := parse(tt.in)
			if err != tt.want || n != 0 {
				t.Errorf("Parse = %d, %v; want %v", n, err, tt.want)
			}
		})
	}
}

func TestRequestAccepted(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want Request // Method, Target, Host, Body, ContentLength, Continue, Upgrade
		keep bool
	}{
		{"plain", "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/a?b=c"), Host: []byte("x")}, true},
		{"close", "GET / HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/"), Host: []byte("x")}, false},
		{"1.0 without host", "GET / HTTP/1.0\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/")}, false},
		{"1.0 kept alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/")}, true},
		{"length", "PUT / HTTP/1.1\r\nHost: x:80\r\nContent-Length: 007\r\n\r\n", Request{Method: []byte("PUT"), Target: []byte("/"), Host: []byte("x:80"), Body: Length, ContentLength: 7}, true},
		{"length 0", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", Request{Method: []byte("PUT"), Target: []byte("/"), Host: []byte("x")}, true},
		{"chunked and continue", "POST / HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n", Request{Method: []byte("POST"), Target: []byte("/"), Host: []byte("[::1]:8080"), Body: Chunked, Continue: true}, true},
		{"absolute-form", "GET HTTP://Ex.com?q HTTP/1.1\r\nHost: eX.com\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/?q"), Host: []byte("Ex.com")}, true},
		{"absolute-form of a server", "OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n", Request{Method: []byte("OPTIONS"), Target: []byte("*"), Host: []byte("x")}, true},
		{"upgrade", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/"), Host: []byte("x"), Upgrade: []byte("websocket")}, true},
		{"upgrade without the option", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", Request{Method: []byte("GET"), Target: []byte("/"), Host: []byte("x")}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, n, err := parse(tt.in + "rest")
			if err != nil || n != len(tt.in) {
				t.Fatalf("Parse = %d, %v; want %d", n, err, len(tt.in))
			}
			w := tt.want
			if !bytes.Equal(r.Method, w.Method) || !bytes.Equal(r.Target, w.Target) || !bytes.Equal(r.Host, w.Host) ||
				r.Body != w.Body || r.ContentLength != w.ContentLength || r.Continue != w.Continue || !bytes.Equal(r.Upgrade, w.Upgrade) || r.KeepAlive != tt.keep {
				t.Errorf("got %s %s host=%s body=%d/%d continue=%v upgrade=%s keep=%v", r.Method, r.Target, r.Host, r.Body, r.ContentLength, r.Continue, r.Upgrade, r.KeepAlive)
			}
			// No prefix is taken for the whole, or refused.
			for i := range len(tt.in) {
				if _, n, err := parse(tt.in[:i]); n != 0 || err != nil {
					t.Fatalf("the first %d bytes: Parse = %d, %v; want more to be asked for", i, n, err)
				}
			}
		})
	}
}

func TestConnectionCannotNameFramingAway(t *testing.T) {
	r, _, err := parse("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX-A: 1\r\nConnection: host, content-length, x-a\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]Kind{}
	for _, f := range r.Fields {
		kinds[string(f.Name)] = f.Kind
	}
	if kinds["Host"] != Host || kinds["Content-Length"] != ContentLength || kinds["X-A"] != Dropped || r.ContentLength != 3 {
		t.Errorf("kinds = %v, length %d", kinds, r.ContentLength)
	}
}

// Whatever is accepted, net/http reads as the same request, or refuses.
func FuzzRequestAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: x:80\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
		"POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nT: v\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\n\r\n",
		"GET http://x?y HTTP/1.1\r\nHost: X\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n00\r\n\r\nGET",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		limits := RequestLimits()
		kept := bytes.Clone(in)
		n, perr := r.Parse(in, &limits)
		if !bytes.Equal(in, kept) {
			t.Fatal("Parse changed its input")
		}
		if perr != nil || n == 0 {
			if n != 0 {
				t.Fatalf("Parse = %d with %v", n, perr)
			}
			return
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			return
		}
		if theirs.Method != string(r.Method) {
			t.Errorf("method %q, net/http %q", r.Method, theirs.Method)
		}
		if !strings.EqualFold(theirs.Host, string(r.Host)) {
			t.Errorf("host %q, net/http %q", r.Host, theirs.Host)
		}
		if got := theirs.URL.RequestURI(); theirs.RequestURI[0] == '/' && theirs.RequestURI != string(r.Target) {
			t.Errorf("target %q, net/http %q", r.Target, got)
		}
		if theirs.Close == r.KeepAlive {
			t.Errorf("keep-alive %v, net/http close %v", r.KeepAlive, theirs.Close)
		}
		switch r.Body {
		case Chunked:
			if len(theirs.TransferEncoding) != 1 {
				t.Errorf("chunked, net/http %v", theirs.TransferEncoding)
			}
		default:
			if theirs.ContentLength != r.ContentLength || len(theirs.TransferEncoding) != 0 {
				t.Errorf("length %d, net/http %d %v", r.ContentLength, theirs.ContentLength, theirs.TransferEncoding)
			}
		}
		// The body, and where it ends.
		var d Body
		d.Reset(r.Body, r.ContentLength)
		rest := in[n:]
		var ours []byte
		for !d.Done() {
			data, used, err := d.Next(rest)
			if err != nil || used == 0 {
				return // refused, or incomplete
			}
			ours = append(ours, data...)
			rest = rest[used:]
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(theirs.Body); err != nil {
			return
		}
		if !bytes.Equal(body.Bytes(), ours) {
			t.Errorf("body %q, net/http %q", ours, body.Bytes())
		}
	})
}

// What is written again reads the same.
func FuzzChunkedRoundTrip(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"), 1)
	f.Add([]byte("a;x=\"y\"\r\n0123456789\r\n00\r\nT: v\r\nHost: evil\r\n\r\nrest"), 3)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if step < 1 || step > 1000 {
			return
		}
		read := func(in []byte, step int) (body []byte, trailer string, used int, ok bool) {
			var d Body
			d.Reset(Chunked, 0)
			for !d.Done() {
				end := min(used+step, len(in))
				data, n, err := d.Next(in[used:end])
				if err != nil || n == 0 {
					return nil, "", 0, false
				}
				body = append(body, data...)
				used += n
			}
			for _, f := range d.Trailer() {
				if f.Kind != Other || EqualFold(f.Name, "cookie") {
					t.Fatalf("trailer %s is passed on", f.Name)
				}
				trailer += string(f.Name) + "=" + string(f.Value) + "\n"
			}
			return body, trailer, used, true
		}
		body, trailer, used, ok := read(in, len(in)+1)
		body2, trailer2, used2, ok2 := read(in, step)
		if ok != ok2 || !bytes.Equal(body, body2) || trailer != trailer2 || used != used2 {
			t.Fatalf("in pieces of %d: %q %q %d %v; at once: %q %q %d %v", step, body2, trailer2, used2, ok2, body, trailer, used, ok)
		}
		if !ok {
			return
		}
		var d Body
		d.Reset(Chunked, 0)
		for rest := in; !d.Done(); {
			_, n, _ := d.Next(rest)
			rest = rest[n:]
		}
		out := AppendLastChunk(AppendChunk(nil, body), d.Trailer())
		body3, trailer3, used3, ok3 := read(out, len(out))
		if !ok3 || used3 != len(out) || !bytes.Equal(body, body3) || trailer != trailer3 {
			t.Fatalf("written anew: %q reads %q %q", out, body3, trailer3)
		}
	})
}

func TestChunkedRefusals(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want *Error
	}{
		{"no size", "\r\n", ErrChunk},
		{"size with 0x", "0x3\r\nabc\r\n", ErrChunk},
		{"size signed", "+3\r\nabc\r\n", ErrChunk},
		{"size of 14 digits", "00000000000003\r\nabc\r\n", ErrChunk},
		{"space after the size", "3 \r\nabc\r\n", ErrChunk},
		{"bare LF after the size", "3\nabc\r\n", ErrChunk},
		{"bare LF in an extension", "3;a\nabc\r\n", ErrChunk},
		{"CR in an extension", "3;a\rb\r\nabc\r\n", ErrChunk},
		{"data longer than the size", "3\r\nabcd\r\n", ErrChunk},
		{"bare LF after the data", "3\r\nabc\n0\r\n\r\n", ErrChunk},
		{"long extension", "3;" + strings.Repeat("a", 300) + "\r\nabc\r\n", ErrChunkOverhead},
		{"many extensions", strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\na\r\n", 100), ErrChunkOverhead},
		{"bare LF in the trailer", "0\r\nA: b\n\r\n", ErrTrailer},
		{"malformed trailer", "0\r\nA b\r\n\r\n", ErrTrailer},
		{"endless trailer", "0\r\n" + strings.Repeat("A: b\r\n", 2000), ErrTrailer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d Body
			d.Reset(Chunked, 0)
			rest := []byte(tt.in)
			for {
				_, n, err := d.Next(rest)
				if err != nil {
					if err != tt.want {
						t.Errorf("error = %v, want %v", err, tt.want)
					}
					return
				}
				if n == 0 {
					t.Fatalf("accepted (done=%v), want %v", d.Done(), tt.want)
				}
				rest = rest[n:]
			}
		})
	}
}

const browser = "GET /static/app.js?v=42 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n" +
	"sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n" +
	"Accept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\nReferer: https://www.example.com/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-US,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n"

func TestParseDoesNotAllocate(t *testing.T) {
	var r Request
	limits := RequestLimits()
	in := []byte(browser)
	if _, err := r.Parse(in, &limits); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Parse(in, &limits) }); n != 0 {
		t.Errorf("Parse allocates %v times, want 0", n)
	}
}

func BenchmarkParseBrowserRequest(b *testing.B) {
	var r Request
	limits := RequestLimits()
	in := []byte(browser)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = r.Parse(in, &limits)
	}
}

func TestResponses(t *testing.T) {
	tests := []struct {
		name   string
		in     string
		head   bool
		body   Framing
		length int64
		keep   bool
		err    *Error
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, Length, 3, true, nil},
		{"to a HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, NoBody, 0, true, nil},
		{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false, NoBody, 0, true, nil},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", false, NoBody, 0, true, nil},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", false, NoBody, 0, true, nil},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", false, Chunked, 0, false, nil},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\n", false, UntilEOF, 0, false, nil},
		{"1.0 kept alive", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", false, Length, 1, true, nil},
		{"no reason, no space", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", false, Length, 1, true, nil},
		{"both framings", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false, 0, 0, false, ErrLength},
		{"chunked on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 0, 0, false, ErrCoding10},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", false, 0, 0, false, ErrStatusLine},
		{"status 600", "HTTP/1.1 600 OK\r\n\r\n", false, 0, 0, false, ErrStatusLine},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", false, 0, 0, false, ErrStatusLine},
		{"control in the reason", "HTTP/1.1 200 a\x01\r\n\r\n", false, 0, 0, false, ErrStatusLine},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Response
			limits := ResponseLimits()
			n, err := r.Parse([]byte(tt.in), &limits, tt.head)
			if err != tt.err {
				t.Fatalf("error = %v, want %v", err, tt.err)
			}
			if err == nil && (n != len(tt.in) || r.Body != tt.body || r.ContentLength != tt.length || r.KeepAlive != tt.keep) {
				t.Errorf("n=%d body=%d/%d keep=%v", n, r.Body, r.ContentLength, r.KeepAlive)
			}
		})
	}
}

func FuzzResponseAgainstNetHTTP(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.0 304 x\r\nConnection: keep-alive\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		var r Response
		limits := ResponseLimits()
		n, perr := r.Parse(in, &limits, head)
		if perr != nil || n == 0 || r.Status == 101 {
			return
		}
		req := &http.Request{Method: "GET"}
		if head {
			req.Method = "HEAD"
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), req)
		if err != nil {
			return
		}
		if theirs.StatusCode != r.Status || !strings.HasPrefix(theirs.Status, strconv.Itoa(r.Status)) {
			t.Errorf("status %d, net/http %q", r.Status, theirs.Status)
		}
		if got := len(theirs.TransferEncoding) > 0; r.Body == Chunked && !got {
			t.Errorf("chunked, net/http not")
		}
		if r.Body == Length && theirs.ContentLength != r.ContentLength {
			t.Errorf("length %d, net/http %d", r.ContentLength, theirs.ContentLength)
		}
		if r.Body == UntilEOF && theirs.ContentLength != -1 {
			t.Errorf("until EOF, net/http %d", theirs.ContentLength)
		}
	})
}
