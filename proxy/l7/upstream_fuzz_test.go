package l7

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// Whatever a server of HTTP/2 sends, in whatever pieces, to whomever: nothing
// panics, each client gets one answer or its connection's end, and when all
// have gone nothing is left.
func FuzzServerOfHTTP2(f *testing.F) {
	seed := func(write func(f *http2.Framer, ok []byte)) []byte {
		var b bytes.Buffer
		fr := http2.NewFramer(&b, nil)
		_ = fr.WriteSettings()
		write(fr, []byte{0x88}) // :status 200
		return b.Bytes()
	}
	head := func(f *http2.Framer, stream uint32, end bool, b []byte) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b, EndHeaders: true, EndStream: end})
	}
	f.Add(seed(func(f *http2.Framer, ok []byte) {
		head(f, 1, false, ok)
		_ = f.WriteData(1, true, []byte("ok"))
		head(f, 3, true, ok)
		head(f, 5, false, ok)
		head(f, 5, true, nil)
	}), 7)
	f.Add(seed(func(f *http2.Framer, _ []byte) { _ = f.WriteGoAway(1, http2.ErrCodeNo, nil) }), 100)
	f.Add(seed(func(f *http2.Framer, ok []byte) {
		_ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		_ = f.WriteRSTStream(3, http2.ErrCodeInternal)
		head(f, 5, false, ok)
		_ = f.WriteRSTStream(5, http2.ErrCodeNo)
	}), 1000)
	f.Add(seed(func(f *http2.Framer, _ []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		_ = f.WriteWindowUpdate(5, 2)
	}), 3)
	f.Fuzz(func(t *testing.T, fromServer []byte, n int) {
		if n < 1 {
			return
		}
		r := h2rig()
		slow, quick, upload := r.client(), r.client(), r.client()
		slow.Limit(10)
		slow.Write(get)
		quick.Write("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get)
		upload.Write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		for range 300 {
			r.loop.Run()
			for _, s := range r.servers {
				s.Read() // only the last connection answers
			}
			if len(fromServer) == 0 {
				break
			}
			m := min(n, len(fromServer))
			r.servers[len(r.servers)-1].Write(string(fromServer[:m]))
			fromServer = fromServer[m:]
		}
		upload.Write("0\r\n\r\n")
		r.loop.Run()
		if len(r.servers) > 20 {
			t.Fatalf("%d connections to the server for 4 requests", len(r.servers))
		}
		for _, c := range []*inmem.Peer{slow, quick, upload} {
			c.Read()
			c.Abort()
		}
		r.loop.Run()
		r.loop.Advance(pool.DefaultTerms().Idle + time.Second)
		r.settled(t)
		if len(r.w.muxes) != 0 || len(r.w.sessions) != 0 {
			t.Errorf("left: %d sessions, connections to %d servers", len(r.w.sessions), len(r.w.muxes))
		}
		for i, s := range r.servers {
			if !s.EOF {
				t.Errorf("connection %d to the server is left", i)
			}
		}
	})
}
