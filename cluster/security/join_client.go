package security

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	joinDialTimeout = 4 * time.Second // connect and handshake: a dead address is told within 5 s
	joinRetryWait   = 500 * time.Millisecond
	joinPatience    = 10 * time.Second // with a cluster that has no leader
)

// JoinConfig says who joins what.
type JoinConfig struct {
	Server  string // control address of any member, host:port
	Token   Token
	Name    string // of the joining node
	Address string // its control address, host:port
	Dir     string // its data directory
}

// Joined is what a join gave, beside the files.
type Joined struct {
	Identity *Identity
	Members  map[string]string // control addresses of the members, by name
	// ClockOffset is how far the server's clock is ahead of ours, less the time
	// that its answer was on its way.
	ClockOffset time.Duration
}

// Join makes this node a member of the cluster: it spends the token, and puts
// the identity into Dir/security. On any error nothing is left in Dir. A
// refusal by the member is a *JoinError; a server of another cluster is
// ErrFingerprint, and gets neither token nor name. While the cluster has no
// leader Join tries again, for about 10 s or until ctx ends.
func Join(ctx context.Context, c JoinConfig) (*Joined, error) {
	if err := ValidateName(c.Name); err != nil {
		return nil, err
	}
	if err := ValidateAddress(c.Address); err != nil {
		return nil, err
	}
	if err := ValidateAddress(c.Server); err != nil {
		return nil, err
	}
	if exists, err := Exists(c.Dir); err != nil {
		return nil, err
	} else if exists {
		return nil, fmt.Errorf("%s: %w: leave it as it is, or empty %s to join anew", Path(c.Dir), ErrExists, c.Dir)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the node key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	request := joinRequest{TokenID: c.Token.ID(), Secret: c.Token.secret[:], Node: c.Name, Address: c.Address, CSR: csr}
	for start := time.Now(); ; {
		joined, err := joinOnce(ctx, c, key, request)
		if err == nil || !errors.Is(err, ErrRetry) || time.Since(start) > joinPatience {
			return joined, err
		}
		select {
		case <-time.After(joinRetryWait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func joinOnce(ctx context.Context, c JoinConfig, key crypto.Signer, request joinRequest) (*Joined, error) {
	conn, err := dialJoin(ctx, c.Server, c.Token.Fingerprint())
	if err != nil {
		return nil, fmt.Errorf("join at %s: %w", c.Server, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, joinTimeout+time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if err := writeMessage(conn, request); err != nil {
		return nil, fmt.Errorf("join at %s: %w", c.Server, err)
	}
	var answer joinAnswer
	if err := readMessage(conn, &answer); err != nil {
		return nil, fmt.Errorf("join at %s: no answer came, so %w: try again, with a new token if this one is refused: %w", c.Server, ErrUncertain, err)
	}
	received := time.Now()
	if answer.Code != "" {
		return nil, &JoinError{Address: c.Server, Message: answer.Message, Cause: refusals()[answer.Code]}
	}
	files, err := joinedFiles(c, key, answer)
	if err != nil {
		return nil, fmt.Errorf("join at %s: the answer is unusable: %w", c.Server, err)
	}
	if err := install(c.Dir, files); err != nil {
		return nil, fmt.Errorf("join at %s was granted, but its files could not be kept: %w: join again with a new token", c.Server, err)
	}
	identity, err := Load(c.Dir)
	if err != nil {
		return nil, err
	}
	return &Joined{Identity: identity, Members: answer.Members, ClockOffset: answer.Time.Sub(received)}, nil
}

// dialJoin connects, and verifies that the server is of the token's cluster.
func dialJoin(ctx context.Context, address string, ca Fingerprint) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, joinDialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w: check the address, and that \"pharos serve\" runs there", err)
	}
	secured := tls.Client(conn, joinTLS(ca))
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		if errors.Is(err, ErrFingerprint) {
			return nil, err
		}
		return nil, fmt.Errorf("no secure connection: %w: check that the address is a member's control address, and both clocks", err)
	}
	if secured.ConnectionState().NegotiatedProtocol != ProtoJoin {
		_ = conn.Close()
		return nil, errors.New("the server does not take joins: check that the address is a member's control address")
	}
	return secured, nil
}

// joinedFiles checks an answer, and makes the files of the new node from it.
func joinedFiles(c JoinConfig, key crypto.Signer, answer joinAnswer) (map[string][]byte, error) {
	ca, err := x509.ParseCertificate(answer.CACert)
	if err != nil {
		return nil, fmt.Errorf("read the CA certificate: %w", err)
	}
	if fingerprintOf(ca) != c.Token.Fingerprint() {
		return nil, ErrFingerprint
	}
	leaf, err := x509.ParseCertificate(answer.NodeCert)
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	if err := belongs(leaf, ca, key); err != nil {
		return nil, err
	}
	clusterID, name, err := memberOf(leaf)
	if err != nil {
		return nil, err
	}
	if name != c.Name || clusterID != answer.ClusterID {
		return nil, fmt.Errorf("the certificate is for node %s of cluster %s, asked was %s of %s", name, clusterID, c.Name, answer.ClusterID)
	}
	if len(answer.GossipKey) != keyBytes {
		return nil, fmt.Errorf("the gossip key has %d bytes, want %d", len(answer.GossipKey), keyBytes)
	}
	if _, err := unseal(answer.ClusterKey, caKeyFile, clusterID, answer.SealedCA); err != nil {
		return nil, fmt.Errorf("open the CA key: %w", err)
	}
	der, err := marshalKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(answer.ClusterKey, nodeKeyFile, clusterID, der)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		caCertFile:     encodeCertificate(ca.Raw),
		caKeyFile:      answer.SealedCA,
		nodeCertFile:   encodeCertificate(leaf.Raw),
		nodeKeyFile:    sealed,
		clusterKeyFile: encodeKey(answer.ClusterKey),
		gossipKeyFile:  encodeKey(answer.GossipKey),
	}, nil
}
