package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/pharos-lb/pharos/cluster/security"
)

// peers keeps a connection to each other node that was ever asked, so that a
// question costs no handshake.
type peers struct {
	identity *security.Identity

	mu     sync.Mutex
	conns  map[peerKey]*grpc.ClientConn
	closed bool
}

// peerKey holds the name as well: the node that answers must be the one meant,
// even where it took over another one's address.
type peerKey struct{ name, address string }

// maxPeers bounds the connections: above it, all are closed and made anew. Only
// nodes that come and go by the dozen reach it.
const maxPeers = 64

func newPeers(identity *security.Identity) *peers {
	return &peers{identity: identity, conns: make(map[peerKey]*grpc.ClientConn)}
}

// conn gives the connection to a node. It may not be open yet.
func (p *peers) conn(name, address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, context.Canceled
	}
	key := peerKey{name, address}
	if conn, ok := p.conns[key]; ok {
		return conn, nil
	}
	if len(p.conns) >= maxPeers {
		for key, conn := range p.conns {
			_ = conn.Close()
			delete(p.conns, key)
		}
	}
	conn, err := dial(p.identity, name, address)
	if err != nil {
		return nil, err
	}
	p.conns[key] = conn
	return conn, nil
}

// ready gives the connection to a node once it is open. As long as it has not,
// nothing has been sent: whoever gets an error may try elsewhere.
func (p *peers) ready(ctx context.Context, name, address string) (*grpc.ClientConn, error) {
	conn, err := p.conn(name, address)
	if err != nil {
		return nil, err
	}
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return conn, nil
		case connectivity.Shutdown:
			return nil, fmt.Errorf("the connection to %s at %s was closed", name, address)
		case connectivity.TransientFailure:
			return nil, fmt.Errorf("%s cannot be reached at %s", name, address)
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("connect to %s at %s: %w", name, address, ctx.Err())
		}
	}
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for key, conn := range p.conns {
		_ = conn.Close()
		delete(p.conns, key)
	}
}

// dial makes a connection that opens at the first call, and opens again, soon,
// after a loss.
func dial(identity *security.Identity, name, address string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		identity.DialOption(name),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(), // no retries behind our back
		grpc.WithDisableRetry(),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}
