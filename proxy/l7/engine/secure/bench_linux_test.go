package secure

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	pharostls "github.com/pharos-lb/pharos/proxy/tls"
)

// answerer answers each byte with so many.
type answerer struct {
	c      engine.Conn
	answer []byte
}

func (a *answerer) Opened()      {}
func (a *answerer) Data([]byte)  { a.c.Send(a.answer) }
func (a *answerer) Drained()     {}
func (a *answerer) EOF()         { a.c.Close() }
func (a *answerer) Closed(error) {}

// BenchmarkSocket is a request and a response of 64 KiB over a socket. The
// client decrypts nothing, so that the CPU is the server's and the kernel's.
func BenchmarkSocket(b *testing.B) {
	s := newSockets(b, 1, Limits{})
	const size = 64 << 10
	addr := s.listen(serverConfig(), func(c engine.Conn, _ tls.ConnectionState) engine.Handler {
		return &answerer{c, make([]byte, size)}
	})
	raw, err := net.Dial("tcp", addr.String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	c := tls.Client(raw, clientConfig(tls.VersionTLS12)) // without tickets after the handshake
	if err := c.Handshake(); err != nil {
		b.Fatal(err)
	}
	const overhead = headerSize + 8 + 16 // of a record of AES-GCM
	answer := make([]byte, size+size/maxRecord*overhead)
	b.SetBytes(size)
	before := processCPU(b)
	for b.Loop() {
		if _, err := c.Write([]byte{1}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(raw, answer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processCPU(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

func processCPU(t testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// floodEnv is the address to flood, in a process of its own.
const floodEnv = "PHAROS_TEST_FLOOD"

// callEnv is what a process of its own is to call: see callMany.
const callEnv = "PHAROS_TEST_CALL"

func TestMain(m *testing.M) {
	if addr := os.Getenv(floodEnv); addr != "" {
		flood(addr)
	}
	if what := os.Getenv(callEnv); what != "" {
		callMany(what)
	}
	os.Exit(m.Run())
}

// callMany makes connections, each for one request, and exits.
func callMany(what string) {
	var addr string
	var version uint16
	var curve tls.CurveID
	var resume bool
	var count int
	must(fmt.Sscan(what, &addr, &version, &curve, &resume, &count))
	config := &tls.Config{ServerName: "a.example", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CurvePreferences: []tls.CurveID{curve}}
	if resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	call := func() {
		c := must(net.Dial("tcp", addr))
		if version != 0 {
			c = tls.Client(c, config)
		}
		text := make([]byte, 128)
		must(c.Write(text))
		must(io.ReadFull(c, text))
		_ = c.Close()
	}
	call() // leaves a ticket
	var left atomic.Int64
	left.Store(int64(count))
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				call()
			}
		})
	}
	callers.Wait()
	os.Exit(0)
}

// BenchmarkConnection is a connection, a handshake, a request of 128 bytes,
// its answer, and the end. The client is a process of its own: the CPU is the
// server's and the kernel's on its behalf, alone.
func BenchmarkConnection(b *testing.B) {
	for _, bb := range []struct {
		name    string
		version uint16
		curve   tls.CurveID
		resume  bool
	}{
		{"plain", 0, 0, false},
		{"1.2/full", tls.VersionTLS12, tls.X25519, false},
		{"1.2/resumed", tls.VersionTLS12, tls.X25519, true},
		{"1.3/x25519/full", tls.VersionTLS13, tls.X25519, false},
		{"1.3/x25519/resumed", tls.VersionTLS13, tls.X25519, true},
		{"1.3/x25519mlkem768/full", tls.VersionTLS13, tls.X25519MLKEM768, false},
		{"1.3/x25519mlkem768/resumed", tls.VersionTLS13, tls.X25519MLKEM768, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := newSockets(b, 1, Limits{})
			own := identity()
			store := pharostls.NewStore(nil)
			must(store.Load([]pharostls.Certificate{{
				Name: "a", Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}),
				Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(own.PrivateKey))}),
			}}))
			if err := store.SetTicketKeys([]pharostls.TicketKey{{ID: "a", Key: [32]byte{1}, Encrypt: true}}); err != nil {
				b.Fatal(err)
			}
			addr := s.listenFor(must(store.Server(pharostls.ServerConfig{Certificates: []string{"a"}})), echoes, bb.version == 0)
			caller := exec.CommandContext(b.Context(), os.Args[0])
			caller.Env = append(os.Environ(), fmt.Sprintf("%s=%v %d %d %v %d", callEnv, addr, bb.version, bb.curve, bb.resume, b.N))
			b.ResetTimer()
			before := processCPU(b)
			if err := caller.Run(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((processCPU(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
			if n := s.handshakes.Counts(); bb.resume && n.Resumed() != uint64(b.N) || !bb.resume && n.Resumed() != 0 {
				b.Errorf("%d full, %d resumed", n.Full(), n.Resumed())
			}
		})
	}
}

// flood begins handshakes that cost itself nothing, until it is killed.
func flood(addr string) {
	var first recorder
	_ = tls.Client(&first, &tls.Config{ServerName: "a.example"}).Handshake()
	for range flooders {
		go func() {
			for {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					continue
				}
				_, _ = c.Write(first.sent)
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			}
		}()
	}
	select {}
}

const flooders = 64

// BenchmarkFlood is the latency of requests over an established connection
// while clients that cost themselves nothing make the server begin handshakes
// as fast as it can.
func BenchmarkFlood(b *testing.B) {
	for _, flooders := range []int{0, flooders} {
		name := "quiet"
		if flooders > 0 {
			name = "flooded"
		}
		b.Run(name, func(b *testing.B) {
			s := newSockets(b, 1, Limits{})
			addr := s.listen(serverConfig(), echoes)
			c, err := tls.Dial("tcp", addr.String(), clientConfig(tls.VersionTLS13))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if flooders > 0 {
				flooder := exec.CommandContext(b.Context(), os.Args[0])
				flooder.Env = append(os.Environ(), floodEnv+"="+addr.String())
				if err := flooder.Start(); err != nil {
					b.Fatal(err)
				}
				defer func() {
					_ = flooder.Process.Kill()
					_ = flooder.Wait()
				}()
			}
			var took []time.Duration
			text := make([]byte, 128)
			// Most of those that fail have had our answer: it is their FIN that
			// ends them.
			gone := func() uint64 { return s.handshakes.Counts().Failed(PeerGone) }
			for flooders > 0 && gone() == 0 {
				runtime.Gosched() // it starts
			}
			began, before := time.Now(), gone()
			for b.Loop() {
				at := time.Now()
				if _, err := c.Write(text); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, text); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(at))
			}
			b.ReportMetric(float64(gone()-before)/time.Since(began).Seconds(), "handshakes/s")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-us")
		})
	}
}
