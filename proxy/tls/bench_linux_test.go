package tls

import (
	stdtls "crypto/tls"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func cpu(t testing.TB, who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHandshake measures handshakes in memory, without sockets.
//
//	server-us/op: CPU of the thread that runs the server's side, alone
//	both-us/op:   CPU of the process: both sides, with the collector
func BenchmarkHandshake(b *testing.B) {
	root := newAuthority("Root")
	for _, key := range []struct {
		name string
		cert Certificate
	}{{"ecdsa", root.server("web", newP256(), "a.example")}, {"rsa2048", root.server("web", rsa2048(), "a.example")}} {
		for _, version := range []uint16{stdtls.VersionTLS12, stdtls.VersionTLS13} {
			for _, classic := range []bool{true, false} {
				if version == stdtls.VersionTLS12 && !classic {
					continue // its key exchanges are of 1.3 alone
				}
				for _, resumed := range []bool{false, true} {
					exchange, kind := "x25519mlkem768", "full"
					if classic {
						exchange = "x25519"
					}
					if resumed {
						kind = "resumed"
					}
					name := fmt.Sprintf("%s/%s/%s/%s", key.name, stdtls.VersionName(version)[4:], exchange, kind)
					b.Run(name, func(b *testing.B) { benchmarkHandshake(b, root, key.cert, version, classic, resumed) })
				}
			}
		}
	}
}

func benchmarkHandshake(b *testing.B, root *authority, cert Certificate, version uint16, classic, resumed bool) {
	s := loaded(b, cert)
	if err := s.SetTicketKeys([]TicketKey{{"a", newKey(), true}}); err != nil {
		b.Fatal(err)
	}
	server := serverOf(b, s, ServerConfig{Certificates: []string{"web"}, NoPostQuantum: classic})
	client := resuming(root, version)
	if classic {
		client.CurvePreferences = classicCurves() // and makes no key share for nothing
	}
	mustTalk(b, client, server) // leaves a ticket
	if !resumed {
		client.ClientSessionCache = nil
	}
	work := make(chan *pipe)
	done := make(chan error)
	spent := make(chan time.Duration)
	go func() {
		// A thread of its own, whose CPU time is the server's.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := cpu(b, unix.RUSAGE_THREAD)
		for end := range work {
			conn := stdtls.Server(end, server)
			_, err := conn.Write([]byte{1})
			done <- err
		}
		spent <- cpu(b, unix.RUSAGE_THREAD) - before
	}()
	one := make([]byte, 1)
	before := cpu(b, unix.RUSAGE_SELF)
	b.ReportAllocs()
	for b.Loop() {
		near, far := newPipe()
		work <- far
		conn := stdtls.Client(near, client)
		if _, err := io.ReadFull(conn, one); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if conn.ConnectionState().DidResume != resumed {
			b.Fatal("resumed is not", resumed)
		}
		_ = near.Close()
	}
	both := cpu(b, unix.RUSAGE_SELF) - before
	close(work)
	alone := <-spent
	b.ReportMetric(float64(alone.Microseconds())/float64(b.N), "server-us/op")
	b.ReportMetric(float64(both.Microseconds())/float64(b.N), "both-us/op")
}

func BenchmarkTicket(b *testing.B) {
	keys := must(newTickets([]TicketKey{{"a", newKey(), true}}, time.Now))
	state, binding := make([]byte, 120), make([]byte, 45)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(keys.seal(state, binding))
		}
	})
	ticket := must(keys.seal(state, binding))
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if keys.open(ticket, binding) == nil {
				b.Fatal("does not open")
			}
		}
	})
}
