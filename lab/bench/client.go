package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// The loads that no tool makes as they are wanted. They run in this process, on
// both cores: their CPU time is not the proxy's.

// repeat calls one, over and over, in several goroutines for a while, and counts.
// A goroutine whose call fails goes on.
func repeat(ctx context.Context, d time.Duration, workers int, one func(ctx context.Context, worker int) error) (Sample, error) {
	began := time.Now()
	end := began.Add(d)
	ctx, stop := context.WithDeadline(ctx, end)
	defer stop()
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		total Sample
	)
	for worker := range workers {
		group.Go(func() {
			var s Sample
			for {
				err := one(ctx, worker)
				if ctx.Err() != nil || !time.Now().Before(end) {
					break // what the end cut off has not failed
				}
				s.Units++
				if err != nil {
					s.Failed++
					s.Why = err.Error()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.Units += s.Units
			total.Failed += s.Failed
			total.Why = cmp.Or(total.Why, s.Why)
		})
	}
	group.Wait()
	total.Took = time.Since(began)
	if total.Units == total.Failed {
		return total, fmt.Errorf("nothing was answered: %s", total.Why)
	}
	return total, nil
}

// handshakes are new TLS connections, with one request on each. All proxies are
// asked for the same key exchange, X25519 (P-256 is for TLS 1.2, which wants the
// certificate's curve in the list): HAProxy's library has no post-quantum one.
type handshakes struct {
	resume bool // the session of the connection before
	old    bool // TLS 1.2
}

func (h handshakes) run(ctx context.Context, b *box, _ string, d time.Duration) (Sample, error) {
	const workers = 8
	configs := make([]*tls.Config, workers)
	for i := range configs {
		configs[i] = &tls.Config{
			RootCAs: b.tls.roots, ServerName: "bench.example", NextProtos: []string{"http/1.1"},
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}, MaxVersion: tls.VersionTLS13,
		}
		if h.old {
			configs[i].MaxVersion = tls.VersionTLS12
		}
		if h.resume {
			configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
	}
	fresh := make([]bool, workers) // the worker has had a connection
	return repeat(ctx, d, workers, func(ctx context.Context, worker int) error {
		resumed, err := h.once(ctx, configs[worker])
		if err == nil && h.resume && fresh[worker] && !resumed {
			return errors.New("the session was not resumed")
		}
		fresh[worker] = true
		return err
	})
}

func (h handshakes) once(ctx context.Context, config *tls.Config) (resumed bool, err error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", vip, httpsPort))
	if err != nil {
		return false, err
	}
	// A reset in place of a FIN, once all was read: no port is kept in TIME-WAIT.
	_ = raw.(*net.TCPConn).SetLinger(0)
	c := tls.Client(raw, config)
	defer func() { _ = c.Close() }()
	if err := c.HandshakeContext(ctx); err != nil {
		return false, err
	}
	if _, err := io.WriteString(c, "GET /small HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return false, err
	}
	if len(answer) < 12 || string(answer[9:12]) != "200" {
		return false, fmt.Errorf("the answer was %q", answer)
	}
	return c.ConnectionState().DidResume, nil
}

// calls are unary gRPC calls.
type calls struct{}

func (calls) run(ctx context.Context, _ *box, _ string, d time.Duration) (Sample, error) {
	const connections, each = 8, 8
	var clients []grpc_health_v1.HealthClient
	for range connections {
		c, err := grpc.NewClient(fmt.Sprintf("passthrough:///%s:%d", vip, grpcPort), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return Sample{}, err
		}
		defer func() { _ = c.Close() }()
		clients = append(clients, grpc_health_v1.NewHealthClient(c))
	}
	return repeat(ctx, d, connections*each, func(ctx context.Context, worker int) error {
		_, err := clients[worker%connections].Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	})
}

// grpcServers starts the servers that calls go to.
func (b *box) grpcServers() error {
	for _, port := range grpcBackends {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		s := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		go func() { _ = s.Serve(l) }()
		b.stop = append(b.stop, s.Stop)
	}
	return nil
}
