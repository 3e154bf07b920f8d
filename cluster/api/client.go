package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/security"
)

// Client asks one node. It may be used by several goroutines at once.
type Client struct {
	pharosv1.ControlClient // its methods give *Error for every failure
	address                string
	conn                   *grpc.ClientConn
}

// Dial makes a client of the node at a control address, host:port, which must
// be a member of the identity's cluster. It does not connect yet: the first
// call does.
func Dial(identity *security.Identity, address string) (*Client, error) {
	if err := security.ValidateAddress(address); err != nil {
		return nil, err
	}
	conn, err := dial(identity, "", address)
	if err != nil {
		return nil, err
	}
	return &Client{ControlClient: pharosv1.NewControlClient(explained{conn, address}), address: address, conn: conn}, nil
}

// Address is the one that was dialled.
func (c *Client) Address() string { return c.address }

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// explained is a connection whose errors are for people.
type explained struct {
	grpc.ClientConnInterface
	address string
}

// Invoke implements grpc.ClientConnInterface.
func (e explained) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return explain(e.ClientConnInterface.Invoke(ctx, method, args, reply, opts...), e.address)
}

// NewStream implements grpc.ClientConnInterface. The Control service has no
// streams.
func (e explained) NewStream(_ context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, fmt.Errorf("call %s at %s: streams are not supported", method, e.address)
}
