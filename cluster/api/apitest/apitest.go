// Package apitest serves a made-up control API, for tests of what speaks to
// one. The TLS, the certificates and the join exchange are the real ones.
package apitest

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/security"
)

// Node is what a test makes up.
type Node struct {
	Dir      string                 // data directory with the node's identity
	Address  string                 // to listen at; empty: a free port of loopback
	Control  pharosv1.ControlServer // nil: no gRPC is served
	Admitter security.Admitter      // nil: no joins are served
}

// Serve runs a node until the test ends, and gives its control address.
func Serve(t testing.TB, n Node) string {
	t.Helper()
	identity, err := security.Load(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if n.Address == "" {
		n.Address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", n.Address)
	if err != nil {
		t.Fatal(err)
	}
	mux := security.NewMux(security.MuxConfig{Listener: listener, Identity: identity})
	ctx, cancel := context.WithCancel(context.Background())
	runs := []func() error{func() error { return mux.Run(ctx) }}
	if n.Admitter != nil {
		joins := security.NewJoinServer(identity, n.Admitter, nil)
		runs = append(runs, func() error { return joins.Run(ctx, mux.Join()) })
	}
	server := grpc.NewServer(grpc.Creds(identity.ServerCredentials()))
	if n.Control != nil {
		pharosv1.RegisterControlServer(server, n.Control)
		runs = append(runs, func() error { return server.Serve(mux.GRPC()) })
	}
	done := make(chan error, len(runs))
	for _, run := range runs {
		go func() { done <- run() }()
	}
	t.Cleanup(func() {
		server.Stop()
		cancel()
		for range runs {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("the made-up node ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("the made-up node did not end")
				return
			}
		}
	})
	return listener.Addr().String()
}
