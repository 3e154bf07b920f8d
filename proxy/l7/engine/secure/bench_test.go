package secure

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
)

// bench is a loop without sockets, whose connections' far ends are given and
// taken as bytes, so that only the server's side is measured.
type bench struct {
	*inmem.Loop
	posted     chan func()
	handshakes *Handshakes
	secure     *Loop
}

func newBench(limits Limits) *bench {
	b := &bench{Loop: inmem.New(), posted: make(chan func(), 1024), handshakes: NewHandshakes(limits)}
	b.secure = NewLoop(b, b.handshakes)
	return b
}

func (b *bench) Post(f func()) bool { b.posted <- f; return true }

// far is a raw connection: what is sent is kept for the client, or dropped.
type far struct{ out chan []byte } // nil: dropped

func (f *far) Send(p []byte) {
	if f.out != nil && len(p) > 0 {
		f.out <- bytes.Clone(p)
	}
}
func (f *far) Pending() int         { return 0 }
func (f *far) Pause()               {}
func (f *far) Resume()              {}
func (f *far) CloseWrite()          {}
func (f *far) Close()               {}
func (f *far) Abort()               {}
func (f *far) Peer() netip.AddrPort { return netip.AddrPort{} }

// near is the client's net.Conn.
type near struct {
	in   chan []byte
	rest []byte
	out  func([]byte)
}

func (n *near) Read(p []byte) (int, error) {
	if len(n.rest) == 0 {
		b, ok := <-n.in
		if !ok {
			return 0, io.EOF
		}
		n.rest = b
	}
	k := copy(p, n.rest)
	n.rest = n.rest[k:]
	return k, nil
}

func (n *near) Write(p []byte) (int, error)      { n.out(bytes.Clone(p)); return len(p), nil }
func (n *near) Close() error                     { return nil }
func (n *near) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (n *near) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (n *near) SetDeadline(time.Time) error      { return nil }
func (n *near) SetReadDeadline(time.Time) error  { return nil }
func (n *near) SetWriteDeadline(time.Time) error { return nil }

// plain is a session that answers with a fixed text.
type plain struct {
	c      engine.Conn
	answer []byte
	got    int
}

func (p *plain) Opened()       {}
func (p *plain) Data(b []byte) { p.got += len(b); p.c.Send(p.answer) }
func (p *plain) Drained()      {}
func (p *plain) EOF()          {}
func (p *plain) Closed(error)  {}

// connect makes an established connection, and returns its raw handler, and a
// function that makes records of what the client sends.
func (b *bench) connect(t testing.TB, server, client *tls.Config, answer []byte) (h engine.Handler, raw *far, seal func([]byte) []byte, c *Conn) {
	t.Helper()
	raw = &far{out: make(chan []byte, 64)}
	accepted := make(chan *Conn, 1)
	h = b.secure.Accept(raw, &Acceptor{Config: server, Accepted: func(c engine.Conn, _ tls.ConnectionState) engine.Handler {
		accepted <- c.(*Conn)
		return &plain{c: c, answer: answer}
	}})
	n := &near{in: raw.out, out: func(p []byte) { b.posted <- func() { h.Data(p) } }}
	conn := tls.Client(n, client)
	failed := make(chan error, 1)
	go func() { failed <- conn.Handshake() }()
	for c == nil {
		select {
		case f := <-b.posted:
			f()
		case c = <-accepted:
		case err := <-failed:
			if err != nil {
				t.Fatal(err)
			}
			failed = nil
		}
	}
	if failed != nil {
		if err := <-failed; err != nil { // the server's last message has been sent
			t.Fatal(err)
		}
	}
	var sealed []byte
	n.out = func(p []byte) { sealed = append(sealed, p...) }
	raw.out = nil
	return h, raw, func(p []byte) []byte {
		sealed = nil
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
		return sealed
	}, c
}

// BenchmarkRequest is one request of 128 bytes and its response over an
// established connection: TLS alone, of the server's side alone.
func BenchmarkRequest(b *testing.B) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{128, 16 << 10, 64 << 10} {
			for _, dynamic := range []bool{false, true} {
				if dynamic && size == 128 {
					continue
				}
				records := "full"
				if dynamic {
					records = "growing" // crypto/tls's own choice
				}
				b.Run(fmt.Sprintf("%s/%d/%s", tls.VersionName(version)[4:], size, records), func(b *testing.B) {
					rig := newBench(Limits{})
					defer rig.handshakes.Close()
					server := serverConfig()
					server.DynamicRecordSizingDisabled = !dynamic
					b.ReportAllocs()
					b.SetBytes(int64(size))
					h, _, seal, _ := rig.connect(b, server, clientConfig(version), make([]byte, size))
					request := make([]byte, 128)
					const ahead = 1000 // sealed without being measured
					sealed := make([][]byte, ahead)
					left := 0
					for b.Loop() {
						if left == 0 {
							b.StopTimer()
							if dynamic { // on new connections only
								h, _, seal, _ = rig.connect(b, server, clientConfig(version), make([]byte, size))
							}
							n := ahead
							if dynamic {
								n = 10
							}
							for i := range n {
								sealed[i] = seal(request)
							}
							left = n
							for i := range n / 2 { // in order
								sealed[i], sealed[n-1-i] = sealed[n-1-i], sealed[i]
							}
							b.StartTimer()
						}
						left--
						h.Data(sealed[left])
					}
				})
			}
		}
	}
}

// BenchmarkUpload is a MiB from the client, as an engine hands it on: in
// pieces of 64 KiB.
func BenchmarkUpload(b *testing.B) {
	rig := newBench(Limits{})
	defer rig.handshakes.Close()
	h, _, seal, _ := rig.connect(b, serverConfig(), clientConfig(tls.VersionTLS13), nil)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	text := make([]byte, 1<<20)
	for b.Loop() {
		b.StopTimer()
		sealed := seal(text)
		b.StartTimer()
		for len(sealed) > 0 {
			n := min(64<<10, len(sealed))
			h.Data(sealed[:n])
			sealed = sealed[n:]
		}
	}
}

// BenchmarkIdle reports what an idle connection holds, after one request.
func BenchmarkIdle(b *testing.B) {
	const conns = 2000
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, exchange := range []tls.CurveID{tls.X25519, tls.X25519MLKEM768} {
			if version == tls.VersionTLS12 && exchange != tls.X25519 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%v", tls.VersionName(version)[4:], exchange), func(b *testing.B) {
				rig := newBench(Limits{})
				defer rig.handshakes.Close()
				server, client := serverConfig(), clientConfig(version)
				client.CurvePreferences = []tls.CurveID{exchange}
				held := make([]engine.Handler, 0, conns)
				var before, after runtime.MemStats
				for b.Loop() {
					clear(held)
					held = held[:0]
					memory(&before)
					for range conns {
						h, _, seal, _ := rig.connect(b, server, client, make([]byte, 512))
						h.Data(seal(make([]byte, 500)))
						held = append(held, h)
					}
					memory(&after)
				}
				b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/conns, "bytes/conn")
				runtime.KeepAlive(held)
			})
		}
	}
}

func memory(m *runtime.MemStats) {
	runtime.GC()
	runtime.GC() // pools are emptied by the second one
	runtime.ReadMemStats(m)
}
