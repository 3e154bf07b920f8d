package http2

import (
	"bytes"
	"fmt"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// browserFields are what a browser sends, in its order.
func browserFields(path string) []hpack.HeaderField {
	return []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":authority", Value: "www.example.com"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: path},
		{Name: "sec-ch-ua", Value: `"Chromium";v="130", "Not?A_Brand";v="99"`},
		{Name: "sec-ch-ua-mobile", Value: "?0"},
		{Name: "sec-ch-ua-platform", Value: `"Linux"`},
		{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"},
		{Name: "accept", Value: "*/*"},
		{Name: "sec-fetch-site", Value: "same-origin"},
		{Name: "sec-fetch-mode", Value: "no-cors"},
		{Name: "sec-fetch-dest", Value: "script"},
		{Name: "referer", Value: "https://www.example.com/"},
		{Name: "accept-encoding", Value: "gzip, deflate, br, zstd"},
		{Name: "accept-language", Value: "en-US,en;q=0.9"},
		{Name: "cookie", Value: "session=0123456789abcdef0123456789abcdef"},
		{Name: "cookie", Value: "theme=dark"},
		{Name: "priority", Value: "u=1"},
	}
}

// nginxFields are what a server answers with.
func nginxFields() []http1.Field {
	return []http1.Field{
		{Name: []byte("Server"), Value: []byte("nginx/1.22.1")},
		{Name: []byte("Date"), Value: []byte("Sun, 22 Nov 2026 10:00:00 GMT")},
		{Name: []byte("Content-Type"), Value: []byte("application/javascript")},
		{Name: []byte("Content-Length"), Value: []byte("128"), Kind: http1.ContentLength},
		{Name: []byte("Last-Modified"), Value: []byte("Mon, 16 Nov 2026 09:00:00 GMT")},
		{Name: []byte("Connection"), Value: []byte("keep-alive"), Kind: http1.Connection},
		{Name: []byte("ETag"), Value: []byte(`"65f2c0de-80"`)},
		{Name: []byte("Cache-Control"), Value: []byte("max-age=3600")},
		{Name: []byte("Accept-Ranges"), Value: []byte("bytes")},
	}
}

type discard struct{ sent int }

func (d *discard) Send(b []byte) { d.sent += len(b) }
func (d *discard) Pending() int  { return 0 }

// answerer answers each request at once with the same response.
type answerer struct {
	fields []http1.Field
	body   []byte
}

func (a *answerer) Request(s *Stream, _ *Request, end bool) {
	if !end {
		return
	}
	s.WriteHeaders(200, a.fields, false)
	s.WriteData(a.body, true)
}
func (a *answerer) Data(s *Stream, b []byte, _ bool) { s.Consume(len(b)) }
func (a *answerer) Trailers(*Stream, []http1.Field)  {}
func (a *answerer) Reset(_ *Stream, why Reset)       { panic(why) }
func (a *answerer) Writable(*Stream)                 {}
func (a *answerer) Refused(err *Error)               { panic(err) }

// browser is a client whose requests are ready to be fed.
type browser struct {
	requests [][]byte
	id       uint32
	n        int
}

func newBrowser(tb testing.TB) *browser {
	r := &browser{id: 1}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	// Different paths, which browsers do not index.
	for i := range 1000 {
		block.Reset()
		for _, f := range browserFields(fmt.Sprintf("/static/%d/app.js?v=42", i)) {
			f.Sensitive = f.Name == ":path"
			if err := enc.WriteField(f); err != nil {
				tb.Fatal(err)
			}
		}
		f := appendFrame(nil, block.Len(), frameHeaders, flagEndHeaders|flagEndStream, 0)
		r.requests = append(r.requests, append(f, block.Bytes()...))
	}
	return r
}

// next returns the next request. The first one fills the table, and comes
// once.
func (r *browser) next() []byte {
	b := r.requests[r.n]
	if r.n++; r.n == len(r.requests) {
		r.n = 1
	}
	putFrame(b, len(b)-headerLength, frameHeaders, flagEndHeaders|flagEndStream, r.id)
	r.id += 2
	return b
}

func answering(tb testing.TB, body int) (*ServerConn, *discard) {
	a := &answerer{fields: nginxFields(), body: make([]byte, body)}
	out := &discard{}
	config := ServerConfig()
	c := NewServerConn(NewShared(), out, &config, a)
	window := settingsFrame(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: maxWindow})
	if err := c.Feed(append([]byte(Preface), append(window, appendWindowUpdate(nil, 0, maxWindow-defaultWindow)...)...), 0); err != nil {
		tb.Fatal(err)
	}
	return c, out
}

// A request costs two allocations: its stream, and the string of its path.
func TestRequestAllocations(t *testing.T) {
	c, _ := answering(t, 128)
	r := newBrowser(t)
	one := func() {
		if err := c.Feed(r.next(), 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		one()
	}
	if n := testing.AllocsPerRun(1000, one); n > 2 {
		t.Errorf("%v allocations a request, want at most 2", n)
	}
}

// A browser's request and a response of 128 bytes.
func BenchmarkBrowserRequest(b *testing.B) {
	c, out := answering(b, 128)
	r := newBrowser(b)
	update := appendWindowUpdate(nil, 0, 128*1000)
	b.ReportAllocs()
	before, n := out.sent, 0
	for b.Loop() {
		if err := c.Feed(r.next(), 0); err != nil {
			b.Fatal(err)
		}
		if n++; n%1000 == 0 {
			if err := c.Feed(update, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(out.sent-before)/float64(n), "B/response")
}

// A response of 1 MiB.
func BenchmarkDownload(b *testing.B) {
	c, _ := answering(b, 1<<20)
	r := newBrowser(b)
	update := appendWindowUpdate(nil, 0, 1<<20)
	b.ReportAllocs()
	b.SetBytes(1 << 20)
	for b.Loop() {
		if err := c.Feed(r.next(), 0); err != nil {
			b.Fatal(err)
		}
		if err := c.Feed(update, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// 64 KiB of a request's body, in frames that do not end where reads do.
func BenchmarkUpload(b *testing.B) {
	c, _ := answering(b, 0)
	p := newPeer(nil)
	if err := c.Feed(p.post(1), 0); err != nil {
		b.Fatal(err)
	}
	c.h = &sink{}
	frame := raw(frameData, 0, 1, make([]byte, maxFrame))
	stream := bytes.Repeat(frame, 64)
	at := 0
	b.ReportAllocs()
	b.SetBytes(64 << 10)
	for b.Loop() {
		end := min(at+64<<10, len(stream))
		if err := c.Feed(stream[at:end], 0); err != nil {
			b.Fatal(err)
		}
		at = end % len(stream)
	}
}

// sink passes on all that it gets.
type sink struct{ answerer }

func (*sink) Data(s *Stream, b []byte, _ bool) { s.Consume(len(b)) }
