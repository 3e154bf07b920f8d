package choice_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7"
	"github.com/pharos-lb/pharos/proxy/l7/engine/choice"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// proxy is a server of sessions on one engine.
type proxy struct {
	address netip.AddrPort
	used    time.Duration // CPU time
	took    time.Duration
	served  int
}

func startProxy(b *testing.B, kind choice.Kind, loops int, origin netip.AddrPort) *proxy {
	b.Helper()
	if _, err := choice.Make(kind); err != nil {
		b.Skip(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	servers := pool.New("web", quiet, func() {})
	servers.Update(pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{{Name: "a", Address: origin, Weight: 1}}})
	terms := pool.DefaultTerms()
	terms.Idle = time.Minute // kept while the others have their turn
	servers.SetTerms(&terms)
	s, err := l7.New(quiet, l7.DefaultTimeouts(), loops, l7.WithEngine(kind))
	if err != nil {
		b.Fatal(err)
	}
	socket, err := listener.Bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	fd, err := socket.Dup()
	if err != nil {
		b.Fatal(err)
	}
	a := s.Acceptor(fd, listener.New("front", &site.Site{Pool: servers, HTTP: site.DefaultHTTP()}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	a.Start()
	b.Cleanup(func() {
		a.Stop()
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		_ = socket.Close()
	})
	return &proxy{address: socket.Address()}
}

// turn has the client make requests through p, and counts what this process
// uses for it. The other proxy is idle meanwhile.
func (p *proxy) turn(b *testing.B, client *process, size, conns, requests int) {
	b.Helper()
	before := cpuTime(b)
	if _, err := fmt.Fprintln(client.in, p.address, size, conns, requests); err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseInt(client.line(b), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	p.used += cpuTime(b) - before
	p.took += time.Duration(ns)
	p.served += requests
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEngines compares the engines side by side: CPU time of the proxy
// alone for a request (the process's, without client and server, which are
// other processes), and the requests in a second, over connections that are
// kept on both sides. The engines take turns, so that what else the machine
// does hits both.
//
// A closed loop of clients takes what it can get: with 1 connection it shows
// the latency of one request at a time.
func BenchmarkEngines(b *testing.B) {
	for _, c := range []struct{ size, conns, loops int }{
		{128, 64, 2},
		{128, 64, 1},
		{128, 512, 2},
		{16 << 10, 64, 2},
		{16 << 10, 64, 1},
		{128, 8, 2},
		{128, 1, 1},
	} {
		b.Run(fmt.Sprintf("size=%d/conns=%d/loops=%d", c.size, c.conns, c.loops), func(b *testing.B) {
			// A loop may hold its processor while it waits.
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.loops + 1))
			origin := netip.MustParseAddrPort(spawn(b, "origin").line(b))
			client := spawn(b, "client")
			epoll := startProxy(b, choice.Epoll, c.loops, origin)
			uring := startProxy(b, choice.IOUring, c.loops, origin)
			const turns = 8
			requests := b.N/(2*turns) + c.conns
			for _, p := range []*proxy{epoll, uring} { // warm up
				p.turn(b, client, c.size, c.conns, requests/4+c.conns)
				*p = proxy{address: p.address}
			}
			b.ResetTimer()
			for i := range turns {
				first, second := epoll, uring
				if i%2 == 1 {
					first, second = second, first
				}
				first.turn(b, client, c.size, c.conns, requests)
				second.turn(b, client, c.size, c.conns, requests)
			}
			b.StopTimer()
			cost := func(p *proxy) float64 {
				return float64(p.used.Microseconds()) / float64(p.served)
			}
			b.ReportMetric(cost(epoll), "epoll-cpu-us/req")
			b.ReportMetric(cost(uring), "uring-cpu-us/req")
			b.ReportMetric(cost(uring)/cost(epoll), "uring/epoll-cpu")
			b.ReportMetric(float64(epoll.served)/epoll.took.Seconds(), "epoll-req/s")
			b.ReportMetric(float64(uring.served)/uring.took.Seconds(), "uring-req/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
