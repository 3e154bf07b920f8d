package l7

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/pool"
)

// script is the answers of a server of HTTP/2, made for one stream after the
// other.
type script struct {
	answer []byte
	ids    []int // where the stream's id stands
	next   uint32
}

func newScript() *script {
	var block, out bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":status", "200"}, {"content-type", "text/plain"}, {"content-length", "2"}, {"server", "x"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	s := &script{next: 1}
	f := http2.NewFramer(&out, nil)
	s.ids = append(s.ids, out.Len()+5)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	s.ids = append(s.ids, out.Len()+5)
	_ = f.WriteData(1, true, []byte("ok"))
	s.answer = out.Bytes()
	return s
}

func (s *script) answerNext() []byte {
	for _, at := range s.ids {
		binary.BigEndian.PutUint32(s.answer[at:], s.next)
	}
	s.next += 2
	return s.answer
}

// keptH2 is a client of HTTP/1.1 whose requests go to a server of HTTP/2: what
// it returns makes one request.
func keptH2(request []byte) (once func(), served func() int) {
	var nothing discard
	r := newRig()
	r.terms(func(t *pool.Terms) { t.HTTP2 = true })
	r.w.loop = nothing
	s := r.w.accept(r.l, &nothing).(*session)
	var m *mux
	answers := newScript()
	var settings bytes.Buffer
	_ = http2.NewFramer(&settings, nil).WriteSettings()
	return func() {
		s.Data(request)
		if m == nil {
			m = s.x.up.(*serverStream).m
			m.Opened()
			m.Data(settings.Bytes())
		}
		m.Data(answers.answerNext())
	}, func() int { return s.served }
}

// What a request costs in memory when its server speaks HTTP/2: the stream,
// and the strings of the fields that the decoder makes.
func TestRequestToHTTP2Allocates(t *testing.T) {
	once, served := keptH2([]byte(get))
	once()
	if n := testing.AllocsPerRun(1000, once); n > 5 {
		t.Errorf("a request allocates %v times, want at most 5", n)
	}
	if served() < 1000 {
		t.Fatalf("served %d: not the path that is meant", served())
	}
}

func BenchmarkRequestToHTTP2(b *testing.B) {
	for name, request := range map[string]string{"bare": get, "browser": browser} {
		b.Run(name, func(b *testing.B) {
			once, _ := keptH2([]byte(request))
			once()
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

const browser = "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.com/\r\n" +
	"Cookie: session=0123456789abcdef; theme=dark\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n\r\n"
