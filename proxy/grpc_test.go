package proxy

import (
	"context"
	cryptotls "crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/proxytest"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// calls is a gRPC service with a method of each kind.
type calls struct{}

// unary answers with the message's length; "fail" with an error.
func (c *calls) unary(ctx context.Context, m *wrapperspb.BytesValue) (*wrapperspb.Int64Value, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", strings.Join(md.Get("x-asked"), "")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "late", "x-bin", string([]byte{0, 1, 0xff})))
	switch string(m.Value) {
	case "fail":
		return nil, status.Error(codes.FailedPrecondition, "not so: 100%")
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return wrapperspb.Int64(int64(len(m.Value))), nil
}

// stream answers each message with as many of its own as the message says, and
// the end with their sum. So it is of every kind that streams.
func (c *calls) stream(s grpc.ServerStream) error {
	sum := int64(0)
	for {
		var m wrapperspb.Int64Value
		if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
			return s.SendMsg(wrapperspb.Int64(sum))
		} else if err != nil {
			return err
		}
		sum += m.Value
		for i := range m.Value {
			if err := s.SendMsg(wrapperspb.Int64(i)); err != nil {
				return err
			}
		}
	}
}

func (c *calls) register(s *grpc.Server) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "Calls", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var m wrapperspb.BytesValue
			if err := dec(&m); err != nil {
				return nil, err
			}
			return srv.(*calls).unary(ctx, &m)
		}}},
		Streams: []grpc.StreamDesc{{
			StreamName: "Stream", ServerStreams: true, ClientStreams: true,
			Handler: func(srv any, s grpc.ServerStream) error { return srv.(*calls).stream(s) },
		}},
	}, c)
}

// grpcServer serves calls until the test ends; by TLS with a certificate for
// web.example, if so.
func grpcServer(t *testing.T, secure bool) (address netip.AddrPort, ca []byte, s *grpc.Server) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if secure {
		c := selfSigned(t, "server", "web.example", year)
		pair, err := cryptotls.X509KeyPair(c.Chain, c.Key)
		if err != nil {
			t.Fatal(err)
		}
		opts, ca = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(&pair))), c.Chain
	}
	s = grpc.NewServer(opts...)
	(&calls{}).register(s)
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() {
		s.Stop()
		done.Wait()
	})
	return ln.Addr().(*net.TCPAddr).AddrPort(), ca, s
}

// grpcClient is a client of an address; by TLS, if roots say what to trust.
func grpcClient(t *testing.T, address string, roots []byte) *grpc.ClientConn {
	t.Helper()
	how := insecure.NewCredentials()
	if roots != nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(roots)
		how = credentials.NewClientTLSFromCert(pool, "web.example")
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(how))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var streams = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func TestGRPC(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
				address, ca, _ := grpcServer(t, secure)
				config := pooled(func(p *Pool) { p.HTTP2 = true }, one(address))
				var roots []byte
				if secure {
					config.Pools[0].TLS = webExample(ca)
					config.Certificates = []tls.Certificate{selfSigned(t, "web", "web.example", year)}
					config.Listeners[0].Protocol, config.Listeners[0].TLS = HTTPS, &tls.ServerConfig{Certificates: []string{"web"}}
					roots = config.Certificates[0].Chain
				}
				p := run(t, config)
				tryCalls(t, grpcClient(t, listening(p), roots))
				proxytest.Eventually(t, "nothing is in flight", func() bool { return p.Status().InFlight == 0 && p.Status().Pools[0].Servers[0].InFlight == 0 })
			})
		}
	})
}

func tryCalls(t *testing.T, c *grpc.ClientConn) {
	t.Run("unary", func(t *testing.T) {
		for _, size := range []int{0, 10, 1 << 20} {
			var got wrapperspb.Int64Value
			var head, trailer metadata.MD
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-asked", "this")
			if err := c.Invoke(ctx, "/Calls/Unary", wrapperspb.Bytes(make([]byte, size)), &got, grpc.Header(&head), grpc.Trailer(&trailer)); err != nil || got.Value != int64(size) {
				t.Errorf("%d, %v; want %d", got.Value, err, size)
			}
			if fmt.Sprint(head.Get("x-head"), trailer.Get("x-trailer"), trailer.Get("x-bin")) != "[this] [late] [\x00\x01\xff]" {
				t.Errorf("head %v, trailer %v", head, trailer)
			}
		}
	})
	t.Run("unary that fails, trailers only", func(t *testing.T) {
		var trailer metadata.MD
		err := c.Invoke(t.Context(), "/Calls/Unary", wrapperspb.Bytes([]byte("fail")), new(wrapperspb.Int64Value), grpc.Trailer(&trailer))
		if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "not so: 100%" || len(trailer.Get("x-trailer")) != 1 {
			t.Errorf("%v, trailer %v", err, trailer)
		}
	})
	t.Run("a method that is not there", func(t *testing.T) {
		if err := c.Invoke(t.Context(), "/Calls/None", wrapperspb.Bytes(nil), new(wrapperspb.Int64Value)); status.Code(err) != codes.Unimplemented {
			t.Error(err)
		}
	})
	t.Run("a deadline of the client's", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := c.Invoke(ctx, "/Calls/Unary", wrapperspb.Bytes([]byte("wait")), new(wrapperspb.Int64Value)); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
	// How many messages go and come is what makes the other three kinds.
	for name, sends := range map[string][]int64{"server streaming": {1000}, "client streaming": make([]int64, 1000), "both ways": {3, 0, 500, 1}} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					if err := converse(t.Context(), c, sends); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		})
	}
}

// converse sends messages on a stream, and checks what comes back for each.
func converse(ctx context.Context, c *grpc.ClientConn, sends []int64) error {
	s, err := c.NewStream(ctx, streams, "/Calls/Stream")
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, n := range sends {
		sum += n
		if err := answers(s, n); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	var m wrapperspb.Int64Value
	if err := s.RecvMsg(&m); err != nil || m.Value != sum {
		return fmt.Errorf("the sum is %d (%w), want %d", m.Value, err, sum)
	}
	if err := s.RecvMsg(&m); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the end: %w", err)
	}
	return nil
}

// answers sends n, and takes its answers.
func answers(s grpc.ClientStream, n int64) error {
	if err := s.SendMsg(wrapperspb.Int64(n)); err != nil {
		return err
	}
	for i := range n {
		var m wrapperspb.Int64Value
		if err := s.RecvMsg(&m); err != nil || m.Value != i {
			return fmt.Errorf("answer %d is %d (%w)", i, m.Value, err)
		}
	}
	return nil
}

// A stream lives on while the pool is spoken to in another way, and when its
// server has left.
func TestGRPCStreamsOutliveConfigurations(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		first, _, _ := grpcServer(t, false)
		second, _, _ := grpcServer(t, false)
		config := pooled(func(p *Pool) { p.HTTP2 = true }, one(first))
		p := run(t, config)
		c := grpcClient(t, listening(p), nil)
		s, err := c.NewStream(t.Context(), streams, "/Calls/Stream")
		if err != nil {
			t.Fatal(err)
		}
		if err := answers(s, 3); err != nil {
			t.Fatal(err)
		}
		config.Pools[0].Timeouts.Idle = time.Second
		apply(t, p, config)
		if err := answers(s, 3); err != nil {
			t.Errorf("after a change of the terms: %v", err)
		}
		config.Pools[0].Servers = []Server{{Name: "b", Address: second, Weight: 1}}
		apply(t, p, config)
		if err := answers(s, 3); err != nil {
			t.Errorf("after the server has left: %v", err)
		}
		if err := converse(t.Context(), c, []int64{2}); err != nil {
			t.Errorf("the next stream: %v", err)
		}
		_ = s.CloseSend()
		var m wrapperspb.Int64Value
		if err := s.RecvMsg(&m); err != nil || m.Value != 9 {
			t.Errorf("the sum is %d (%v), want 9", m.Value, err)
		}
	})
}

// Servers of gRPC that go (a rolling update) say so, and no call is lost.
func TestGRPCServersThatGo(t *testing.T) {
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		first, _, going := grpcServer(t, false)
		second, _, _ := grpcServer(t, false)
		p := run(t, pooled(func(p *Pool) { p.HTTP2 = true }, one(first), Server{Name: "b", Address: second, Weight: 1}))
		c := grpcClient(t, listening(p), nil)
		stop, gone := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					var got wrapperspb.Int64Value
					if err := c.Invoke(t.Context(), "/Calls/Unary", wrapperspb.Bytes(make([]byte, 1000)), &got); err != nil || got.Value != 1000 {
						t.Errorf("%d, %v", got.Value, err)
						return
					}
				}
			})
		}
		proxytest.Eventually(t, "both servers are at work", func() bool {
			s := p.Status().Pools[0].Servers
			return s[0].Connections > 100 && s[1].Connections > 100
		})
		go func() {
			going.GracefulStop()
			close(gone)
		}()
		<-gone
		n := p.Status().Pools[0].Servers[1].Connections
		proxytest.Eventually(t, "the other one takes all", func() bool { return p.Status().Pools[0].Servers[1].Connections > n+200 })
		close(stop)
		all.Wait()
	})
}

// What the proxy itself answers to a call is a status of gRPC.
func TestGRPCProxyErrors(t *testing.T) {
	silent := plain2(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil)
	config := Config{
		Listeners: []Listener{{
			Name: "front", Addresses: []netip.AddrPort{anyPort}, Protocol: HTTP, HTTP: site.HTTP{MaxBody: 100},
		}},
	}
	tests := []struct {
		name   string
		server netip.AddrPort
		size   int
		code   codes.Code
		word   string
	}{
		{"none", deadAddress(t), 0, codes.Unimplemented, "no-route"},
		{"dead", deadAddress(t), 0, codes.Unavailable, "connect-failed"},
		{"breaks", proxytest.TCP(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 100)); _ = c.SetLinger(0) }), 0, codes.Unavailable, "server-broke"},
		{"silent", silent, 0, codes.DeadlineExceeded, "server-timeout"},
		{"large", silent, 1000, codes.ResourceExhausted, "request-too-large"},
		{"full", silent, 0, codes.Unavailable, "pool-full"},
	}
	for _, tt := range tests {
		pool := Pool{Name: tt.name, HTTP2: true, Servers: []Server{one(tt.server)}}
		switch tt.name {
		case "silent":
			pool.Timeouts.Response = 20 * time.Millisecond
		case "full":
			pool.Limits.MaxInFlight = 1
		}
		config.Pools = append(config.Pools, pool)
		if tt.name != "none" {
			config.Listeners[0].Routes = append(config.Listeners[0].Routes, Route{
				Name: tt.name, Match: route.Rule{Path: "/" + tt.name}, Targets: []Target{{Pool: tt.name}},
			})
		}
	}
	startOnEngines(t, func(t *testing.T, run func(*testing.T, Config) *Proxy) {
		p := run(t, config)
		c := grpcClient(t, listening(p), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		holds := make(chan struct{})
		go func() {
			defer close(holds)
			_ = c.Invoke(ctx, "/full/Unary", wrapperspb.Bytes(nil), new(wrapperspb.Int64Value))
		}()
		proxytest.Eventually(t, "the pool is full", func() bool {
			return slices.ContainsFunc(p.Status().Pools, func(s PoolStatus) bool { return s.Name == "full" && s.Servers[0].InFlight == 1 })
		})
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				err := c.Invoke(t.Context(), "/"+tt.name+"/Unary", wrapperspb.Bytes(make([]byte, tt.size)), new(wrapperspb.Int64Value))
				if s := status.Convert(err); s.Code() != tt.code || s.Message() != "pharos: "+tt.word {
					t.Errorf("%v %q, want %v of %s", s.Code(), s.Message(), tt.code, tt.word)
				}
			})
		}
		cancel()
		<-holds
	})
}
