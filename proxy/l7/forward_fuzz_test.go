package l7

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/site"
)

// read is a request that net/http has read.
type read struct{ method, target, body string }

// readAll reads requests, one after the other, until net/http finds no whole
// one, and says why. heads may have one more, whose body is not whole.
func readAll(b []byte) (all []read, heads []*http.Request, err error) {
	br := bufio.NewReader(bytes.NewReader(b))
	for {
		if _, err := br.Peek(1); err != nil {
			return all, heads, nil
		}
		req, err := http.ReadRequest(br)
		if err != nil {
			return all, heads, err
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all, append(heads, req), err
		}
		all = append(all, read{req.Method, req.RequestURI, string(body)})
		heads = append(heads, req)
	}
}

// What a client sends, in whatever pieces, reaches servers as requests that
// net/http reads, one after the other, without a byte between or behind them; and
// they are the ones that net/http reads of the client's own bytes. So nobody
// smuggles a request to a server.
func FuzzForwardedRequestsAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		get + get,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde" + get,
		"GET http://x/a?b HTTP/1.1\r\nHost: x\r\nCookie: a=b; SRV=a\r\nCookie: SRV=b;c=d\r\nConnection: x-a, close\r\nX-A: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + get,
		"DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX_Y: z\r\nForwarded: for=a\r\nX-Forwarded-For: b\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get,
	} {
		f.Add([]byte(s), 1000)
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		if piece < 1 || len(sent) > 4000 {
			return
		}
		r := newRig()
		r.serve(func(s *site.Site) { s.HTTP.NoHTTP2, s.HTTP.Underscores = true, site.KeepUnderscores })
		r.pool.SetJar(jar(t, sticky.Config{Format: sticky.Plain}))
		c := r.client()
		got := map[int][]byte{} // by connection to the server
		answered := map[int]int{}
		var order []read
		look := func() {
			r.loop.Run()
			for i := 0; i < len(r.servers); i++ {
				s := r.servers[i]
				got[i] = append(got[i], s.Read()...)
				all, heads, err := readAll(got[i])
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
					t.Fatalf("the server got %q of %q: %v", got[i], sent, err)
				}
				for _, h := range heads {
					for _, cookie := range h.Cookies() {
						if cookie.Name == "SRV" {
							t.Fatalf("the server got the proxy's cookie in %q", got[i])
						}
					}
				}
				for len(all) > answered[i] {
					order = append(order, all[answered[i]])
					answered[i]++
					s.Write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					r.loop.Run()
				}
			}
		}
		for rest := sent; len(rest) > 0; {
			n := min(piece, len(rest))
			c.Write(string(rest[:n]))
			rest = rest[n:]
			look()
		}
		look()
		look()
		own, _, _ := readAll(sent)
		for i := range min(len(own), len(order)) {
			want := own[i]
			if !strings.HasPrefix(want.target, "/") {
				want.target = order[i].target // an absolute one is cut down
			}
			if order[i] != want {
				t.Fatalf("request %d came as %q, net/http reads %q in %q", i, order[i], want, sent)
			}
		}
	})
}
