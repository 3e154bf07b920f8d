package security

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	joinTimeout = 20 * time.Second // of one exchange, an election included
	joinsAtOnce = 16
)

// Admitter is what the join server needs of the cluster.
type Admitter interface {
	// Admit spends a token for a node, and makes the node a member, through
	// the leader. It returns when both are committed. Errors wrap fsm's
	// refusals (unknown, used, expired token, name taken), ErrRetry where
	// nothing happened for want of a leader, or ErrUncertain where it may have.
	Admit(ctx context.Context, id string, hash []byte, node, address string) error
	// Members gives the control addresses of all members, by name.
	Members() map[string]string
}

// JoinServer answers nodes that want to join. Any member can.
type JoinServer struct {
	identity *Identity
	admitter Admitter
	logger   *slog.Logger
}

// NewJoinServer makes a join server. It starts nothing.
func NewJoinServer(identity *Identity, admitter Admitter, logger *slog.Logger) *JoinServer {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &JoinServer{identity: identity, admitter: admitter, logger: logger}
}

// Run answers the connections of Mux.Join until ctx ends or the listener is
// closed, and returns when no exchange is under way any more.
func (s *JoinServer) Run(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var exchanges sync.WaitGroup
	defer exchanges.Wait()
	slots := make(chan struct{}, joinsAtOnce)
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept a join: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			// Refused rather than queued: the peers are strangers.
			s.logger.Warn("join refused", "remote", conn.RemoteAddr().String(), "error", "too many at once")
			_ = conn.Close()
			continue
		}
		exchanges.Go(func() {
			defer func() { <-slots }()
			s.exchange(ctx, conn)
		})
	}
}

// exchange is one join: a request, an answer.
func (s *JoinServer) exchange(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	log := s.logger.With("remote", conn.RemoteAddr().String())
	var request joinRequest
	if err := readMessage(conn, &request); err != nil {
		log.Info("join refused", "error", err)
		return
	}
	log = log.With("node", clip(request.Node), "token", clip(request.TokenID))
	answer, err := s.admit(ctx, request)
	answer.Time = time.Now()
	if err != nil {
		log.Warn("join refused", "error", err)
		answer = joinAnswer{Time: answer.Time, Code: codeOf(err)}
		if answer.Code == codeInvalid {
			answer.Message = err.Error() // says which part; other errors may say more than a stranger should know
		}
		if answer.Code == codeInternal {
			answer.Message = "an internal error; see that node's log"
		}
	}
	if err := writeMessage(conn, answer); err != nil {
		log.Warn("join answer lost", "error", err)
		return
	}
	if err == nil {
		log.Info("join granted", "address", request.Address)
	}
}

// admit decides on a request. All that can be wrong with it is found before the
// token is spent.
func (s *JoinServer) admit(ctx context.Context, request joinRequest) (joinAnswer, error) {
	if err := ValidateName(request.Node); err != nil {
		return joinAnswer{}, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	if err := ValidateAddress(request.Address); err != nil {
		return joinAnswer{}, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	public, err := csrKey(request.CSR)
	if err != nil {
		return joinAnswer{}, fmt.Errorf("%w: %w", ErrInvalidRequest, err)
	}
	if len(request.Secret) != secretBytes || len(request.TokenID) != 2*tokenIDBytes {
		return joinAnswer{}, fmt.Errorf("%w: the token has not the right size", ErrInvalidRequest)
	}
	parts, err := readParts(s.identity.dir)
	if err != nil {
		return joinAnswer{}, err
	}
	ca, err := parts.authority(s.identity.dir)
	if err != nil {
		return joinAnswer{}, err
	}
	cert, err := ca.issue(request.Node, public, time.Now())
	if err != nil {
		return joinAnswer{}, err
	}
	hash := sha256.Sum256(request.Secret)
	if err := s.admitter.Admit(ctx, request.TokenID, hash[:], request.Node, request.Address); err != nil {
		return joinAnswer{}, fmt.Errorf("spend the token: %w", err)
	}
	return joinAnswer{
		ClusterID: parts.clusterID, NodeCert: cert, CACert: parts.ca.Raw, SealedCA: parts.sealedCA,
		ClusterKey: parts.clusterKey, GossipKey: parts.gossipKey, Members: s.admitter.Members(),
	}, nil
}

// csrKey reads the public key of a certificate request, whose signature proves
// that the asker holds the private one.
func csrKey(der []byte) (*ecdsa.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check the certificate request: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key of the certificate request is not ECDSA P-256")
	}
	return key, nil
}

// clip bounds what a stranger can write into the log.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}
