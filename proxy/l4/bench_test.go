package l4

import (
	"io"
	"net"
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// The client and the server are of this process: what they cost is counted,
// too.

func benchOnEngines(b *testing.B, bench func(b *testing.B, address string)) {
	for _, kind := range []choice.Kind{choice.Epoll, choice.IOUring} {
		b.Run(string(kind), func(b *testing.B) {
			if _, err := choice.Make(kind); err != nil {
				b.Skip(err)
			}
			_, _, address := serve(b, kind, patience, proxytest.TCP(b, proxytest.Echo))
			b.ReportAllocs()
			bench(b, address)
		})
	}
}

// BenchmarkTCPExchange is a message of 128 bytes there and back on one
// connection.
func BenchmarkTCPExchange(b *testing.B) {
	benchOnEngines(b, func(b *testing.B, address string) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		message := make([]byte, 128)
		for b.Loop() {
			if _, err := c.Write(message); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, message); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTCPBulk is a MiB there and back on one connection.
func BenchmarkTCPBulk(b *testing.B) {
	benchOnEngines(b, func(b *testing.B, address string) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		sent, got := make([]byte, 1<<20), make([]byte, 1<<20)
		b.SetBytes(int64(len(sent)))
		for b.Loop() {
			wrote := make(chan error, 1)
			go func() {
				_, err := c.Write(sent)
				wrote <- err
			}()
			if _, err := io.ReadFull(c, got); err != nil {
				b.Fatal(err)
			}
			if err := <-wrote; err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTCPConnection is a connection, a message of 128 bytes there and back,
// and its end.
func BenchmarkTCPConnection(b *testing.B) {
	benchOnEngines(b, func(b *testing.B, address string) {
		message := make([]byte, 128)
		for b.Loop() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.Write(message); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, message); err != nil {
				b.Fatal(err)
			}
			// By reset, so that ports do not run out.
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	})
}
