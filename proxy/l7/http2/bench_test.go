package http2

import (
	"bytes"
	"fmt"
	"testing"

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

func (a *answerer) Request(s *Stream, _ *Request, _ bool) {
	s.WriteHeaders(200, a.fields, false)
	s.WriteData(a.body, true)
}
func (a *answerer) Data(s *Stream, b []byte, _ bool) { s.Consume(len(b)) }
func (a *answerer) Trailers(*Stream, []http1.Field)  {}
func (a *answerer) Reset(_ *Stream, why Reset)       { panic(why) }
func (a *answerer) Writable(*Stream)                 {}
func (a *answerer) Refused(err *Error)               { panic(err) }

func BenchmarkBrowserRequest(b *testing.B) {
	a := &answerer{fields: nginxFields(), body: make([]byte, 128)}
	out := &discard{}
	config := ServerConfig()
	c := NewServerConn(NewShared(), out, &config, a)
	in := append([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0)...)
	in = appendWindowUpdate(in, 0, maxWindow-defaultWindow)
	if err := c.Feed(in, 0); err != nil {
		b.Fatal(err)
	}
	// Different paths, as a browser has.
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	var requests [][]byte
	for i := range 1000 {
		block.Reset()
		for _, f := range browserFields(fmt.Sprintf("/static/%d/app.js?v=42", i)) {
			if f.Name == ":path" {
				f.Sensitive = true // browsers do not index it
			}
			if err := enc.WriteField(f); err != nil {
				b.Fatal(err)
			}
		}
		r := appendFrame(nil, block.Len(), frameHeaders, flagEndHeaders|flagEndStream, 0)
		requests = append(requests, append(r, block.Bytes()...))
	}
	b.ReportAllocs()
	id, sent := uint32(1), 0
	update := appendWindowUpdate(nil, 0, 128*1000)
	before := out.sent
	for i := 0; b.Loop(); i++ {
		r := requests[i%len(requests)]
		if i > 0 && i%len(requests) == 0 {
			// The first block alone fills the table.
			r = requests[1]
		}
		putFrame(r, len(r)-headerLength, frameHeaders, flagEndHeaders|flagEndStream, id)
		if err := c.Feed(r, 0); err != nil {
			b.Fatal(err)
		}
		id += 2
		if sent++; sent%1000 == 0 {
			if err := c.Feed(update, 0); err != nil {
				b.Fatal(err)
			}
		}
		if id > maxStreamID-4 {
			b.Fatal("out of ids")
		}
	}
	b.ReportMetric(float64(out.sent-before)/float64(sent), "B/response")
}
