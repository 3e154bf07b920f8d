package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// The protocols of the control port, by their ALPN names (RFC 7301).
const (
	ProtoGRPC  = "h2"           // the control API (RFC 9113); client certificate required
	ProtoRaft  = "pharos-raft"  // Raft's transport; client certificate required
	ProtoLease = "pharos-lease" // leases of ARP-mode VIPs; client certificate required
	ProtoJoin  = "pharos-join"  // the join exchange; no client certificate
)

// ErrRefused: the peer's certificate is of this cluster, but its node is not
// welcome, such as one that was removed.
var ErrRefused = errors.New("the node is not a member of this cluster")

// Authorize says whether a node, whose certificate has been verified, may speak
// a protocol. It must be quick, since it runs inside handshakes.
//
// It sees the protocol because an allow-list by the replicated members is right
// for ProtoGRPC and dangerous for ProtoRaft: a node that was down while the
// present leader joined does not know that leader yet, and would refuse the one
// connection by which it could learn of it.
type Authorize func(proto, node string) bool

// ServerTLS is the configuration of the control port. A nil authorize admits
// every node with a certificate of this cluster.
func (id *Identity) ServerTLS(authorize Authorize) *tls.Config {
	members := id.base()
	members.NextProtos = []string{ProtoGRPC, ProtoRaft, ProtoLease}
	members.ClientAuth = tls.RequireAndVerifyClientCert
	members.ClientCAs = id.pool
	members.VerifyConnection = func(cs tls.ConnectionState) error {
		name, err := id.verifyMember(cs)
		if err != nil {
			return err
		}
		if authorize != nil && !authorize(cs.NegotiatedProtocol, name) {
			return fmt.Errorf("node %s: %w", name, ErrRefused)
		}
		return nil
	}
	join := id.base()
	join.NextProtos = []string{ProtoJoin}
	join.ClientAuth = tls.NoClientCert

	root := members.Clone()
	root.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		// A client that asks for join alone gets join alone; nothing that asks
		// for a protocol of members can end up without a certificate.
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ProtoJoin {
			return join, nil
		}
		return members, nil
	}
	return root
}

// ClientTLS is the configuration to reach a member with: the one with this
// name, or, if it is empty, any member of the cluster.
func (id *Identity) ClientTLS(peer string, protos ...string) *tls.Config {
	config := id.base()
	config.NextProtos = protos
	config.RootCAs = id.pool
	config.ServerName = memberDNS(id.clusterID, peer)
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := id.verifyMember(cs)
		return err
	}
	return config
}

// DialRaft connects to a member's control port to speak Raft. The timeout
// bounds connecting and handshake together.
func (id *Identity) DialRaft(ctx context.Context, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dialer := tls.Dialer{Config: id.ClientTLS("", ProtoRaft)}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s for raft: %w", address, err)
	}
	return conn, nil
}

// DialLease connects to a member's control port to ask for leases. ctx bounds
// connecting and handshake together.
func (id *Identity) DialLease(ctx context.Context, node, address string) (net.Conn, error) {
	dialer := tls.Dialer{Config: id.ClientTLS(node, ProtoLease)}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s at %s for leases: %w", node, address, err)
	}
	return conn, nil
}

// PeerName is the name of the node at the other end of a finished handshake.
func PeerName(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", errors.New("the peer showed no certificate")
	}
	_, name, err := memberOf(cs.PeerCertificates[0])
	return name, err
}

func (id *Identity) base() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return id.certificate()
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return id.certificate()
		},
	}
}

// verifyMember checks, after the chain has been verified, that the certificate
// is a node's of this cluster.
func (id *Identity) verifyMember(cs tls.ConnectionState) (string, error) {
	if len(cs.VerifiedChains) == 0 || len(cs.PeerCertificates) == 0 {
		return "", errors.New("the peer's certificate was not verified")
	}
	clusterID, name, err := memberOf(cs.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	if clusterID != id.clusterID {
		return "", fmt.Errorf("node %s is of cluster %s, and this is %s", name, clusterID, id.clusterID)
	}
	return name, nil
}

// joinTLS is the configuration of a node that has no identity yet: the server
// must show a chain that ends in the CA whose fingerprint the token carries.
func joinTLS(ca Fingerprint) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{ProtoJoin},
		SessionTicketsDisabled: true,
		// The usual verification needs the CA's certificate, of which only the
		// fingerprint is known: VerifyConnection does all of it instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := verifyByFingerprint(cs, ca, time.Now())
			return err
		},
	}
}

// verifyByFingerprint finds the CA in the chain that the server showed, and
// verifies the server's certificate with it.
func verifyByFingerprint(cs tls.ConnectionState, want Fingerprint, now time.Time) (*x509.Certificate, error) {
	if len(cs.PeerCertificates) < 2 {
		return nil, ErrFingerprint
	}
	for _, ca := range cs.PeerCertificates[1:] {
		if fingerprintOf(ca) != want {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(ca)
		leaf := cs.PeerCertificates[0]
		clusterID, _, err := memberOf(leaf)
		if err != nil {
			return nil, err
		}
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: pool, CurrentTime: now, DNSName: memberDNS(clusterID, ""),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}); err != nil {
			return nil, fmt.Errorf("verify the member's certificate: %w", err)
		}
		return ca, nil
	}
	return nil, ErrFingerprint
}
