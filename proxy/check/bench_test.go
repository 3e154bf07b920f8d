package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// webServer answers as little as a server can, so that the benchmarks show
// the check's cost; what the kernel and this server do is in it nevertheless.
func webServer(b *testing.B) netip.AddrPort {
	return serve(b, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
				return
			}
		}
	})
}

func run(b *testing.B, s Spec, server netip.AddrPort) {
	p := compile(b, s)
	b.ReportAllocs()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		if err := p(ctx, server); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := func(r syscall.Rusage) time.Duration {
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	b.ReportMetric(float64((cpu(after)-cpu(before)).Microseconds())/float64(b.N), "cpu-µs/op")
}

func BenchmarkTCP(b *testing.B)  { run(b, Spec{}, deaf(b)) }
func BenchmarkHTTP(b *testing.B) { run(b, Spec{Kind: KindHTTP}, webServer(b)) }

func BenchmarkHTTPBody(b *testing.B) {
	run(b, Spec{Kind: KindHTTP, Body: "^ok"}, webServer(b))
}
func BenchmarkGRPC(b *testing.B) { run(b, Spec{Kind: KindGRPC}, grpcServer(b, false)) }

func BenchmarkTLS(b *testing.B) {
	config := serverTLS(nil)
	run(b, Spec{TLS: clientTLS(b, "web.example")}, serve(b, func(c net.Conn) {
		_ = tls.Server(c, config).HandshakeContext(b.Context())
	}))
}

// BenchmarkGRPCClient is grpc-go's own client for the same question, a
// channel for each: what BenchmarkGRPC is measured against.
func BenchmarkGRPCClient(b *testing.B) {
	server := grpcServer(b, false)
	b.ReportAllocs()
	for b.Loop() {
		channel, err := grpc.NewClient(server.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := healthpb.NewHealthClient(channel).Check(b.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			b.Fatal(err)
		}
		_ = channel.Close()
	}
}

// BenchmarkWaitingTasks is what a server costs that waits for its next check.
func BenchmarkWaitingTasks(b *testing.B) {
	p := compile(b, Spec{Kind: KindHTTP})
	r := NewRunner(0)
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	var tasks []*Running
	before := heap()
	for b.Loop() {
		tasks = append(tasks, r.Start(Task{Probe: p, Timeout: time.Second, First: time.Hour, Report: func(Result) Next { return Next{} }}))
	}
	b.ReportMetric((heap()-before)/float64(len(tasks)), "B/server")
	for _, t := range tasks {
		t.Stop()
	}
	r.Wait()
}
