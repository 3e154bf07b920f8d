package security

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// ServerCredentials are for a gRPC server on Mux.GRPC: its connections have
// done their handshake, so nothing is left but to tell who is there.
func (id *Identity) ServerCredentials() credentials.TransportCredentials {
	return shaken{}
}

// DialOption makes a gRPC client speak mutual TLS, with the member of this name
// or, if it is empty, any member of the cluster.
func (id *Identity) DialOption(peer string) grpc.DialOption {
	return grpc.WithTransportCredentials(credentials.NewTLS(id.ClientTLS(peer, ProtoGRPC)))
}

// CallerName is the name of the node that made a gRPC call.
func CallerName(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("the call has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", errors.New("the call did not come over mutual TLS")
	}
	return PeerName(info.State)
}

// shaken is transport credentials for connections from a Mux.
type shaken struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (shaken) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := raw.(*tls.Conn)
	if !ok || !conn.ConnectionState().HandshakeComplete {
		return nil, nil, errors.New("the connection did not come from the control port's TLS")
	}
	return conn, credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake implements credentials.TransportCredentials; it always fails.
func (shaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers")
}

// Info implements credentials.TransportCredentials.
func (shaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (s shaken) Clone() credentials.TransportCredentials { return s }

// OverrideServerName implements credentials.TransportCredentials.
func (shaken) OverrideServerName(string) error { return nil }
