// Package api is the control API of a node: the gRPC services of pharosv1, of
// which Control is for the CLI and Peer for the other nodes, and a client.
//
// Any node answers any call. What only the leader can do is handed to it by
// the asked node, over an election if need be, but never twice when the outcome
// of the first try is not known and a second one could do harm. All calls come
// over mutual TLS with certificates of the cluster's CA: see cluster/security.
// Each write is logged on the asked node with the caller's name.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/cluster/security"
)

// Cluster is the replicated state, as this node takes part in it.
type Cluster interface {
	// Submit has a command carried out, if this node is the leader. A command
	// that was refused by the state machine is a Result with an error, not an
	// error of Submit. Errors wrap ErrNotLeader (nothing was done) or
	// ErrUncertain (also when ctx ends while the command is under way); any
	// other error means that nothing was done.
	Submit(ctx context.Context, command fsm.Command) (fsm.Result, error)
	// State is the newest that this node has applied.
	State() fsm.State
	// Leader is the leader's name and control address, or empty if this node
	// knows of none.
	Leader() (name, address string)
	// Fault is what keeps this node from electing a leader, such as a full
	// disk, in words for the operator; nil if there is nothing.
	Fault() error
	// Voters are the names of Raft's voting members.
	Voters() []string
	// AddVoter and RemoveVoter change them. Leader only; errors as Submit's.
	// Both are fine with what is so already.
	AddVoter(ctx context.Context, name, address string) error
	RemoveVoter(ctx context.Context, name string) error
}

// Node is the node itself.
type Node interface {
	// Status is the node's word on itself.
	Status(ctx context.Context) *pharosv1.NodeStatusResponse
	// Routing is the node's BGP sessions, and what it announces on them.
	Routing(ctx context.Context) *pharosv1.NodeRoutingResponse
	// WaitApplied returns when the node runs the revision or a later one, or
	// has found that it cannot: then applyError says why. The error is ctx's.
	WaitApplied(ctx context.Context, revision uint64) (applied uint64, applyError string, err error)
	// Drain withdraws the node's VIPs, lets what is in flight finish until the
	// deadline has passed, and closes its listeners.
	Drain(ctx context.Context, deadline time.Duration) (*pharosv1.DrainResponse, error)
	// Undrain reverses Drain.
	Undrain(ctx context.Context) error
}

// Liveness is what the heartbeats say of the members.
type Liveness interface {
	// Members are all that gossip knows of, this node included.
	Members() []LiveMember
}

// LiveMember is one member as the heartbeats show it.
type LiveMember struct {
	Name           string
	Control        string   // control address, host:port
	Addresses      []string // the node's own
	Alive          bool
	Ready          bool
	Draining       bool
	AppliedVersion uint64
	Load           float64       // 1-minute load average per core
	ClockOffset    time.Duration // of its clock against ours
}

// Config says what a Server is made of. All but Logger and the durations are
// required.
type Config struct {
	Identity *security.Identity
	Cluster  Cluster
	Node     Node
	Liveness Liveness
	Logger   *slog.Logger
	// LeaderWait is how long a write waits for a leader to be found. Default
	// 5s: an election takes about one.
	LeaderWait time.Duration
	// PeerTimeout bounds a question to another node about its status. Default 2s.
	PeerTimeout time.Duration
}

const (
	maxDocument        = registry.MaxDocument
	maxMessage         = fsm.MaxCommand + 64<<10 // of which an ApplyRequest can use less
	defaultLeaderWait  = 5 * time.Second
	defaultPeerTimeout = 2 * time.Second
	stopTimeout        = 2 * time.Second // for calls under way when Run ends
)

// Server implements the two services.
type Server struct {
	pharosv1.UnimplementedControlServer
	pharosv1.UnimplementedPeerServer

	identity *security.Identity
	cluster  Cluster
	node     Node
	liveness Liveness
	logger   *slog.Logger
	wait     time.Duration
	timeout  time.Duration
	peers    *peers
	// parsing is held while a large document is read: see parse.
	parsing chan struct{}
}

// NewServer makes a Server. It starts nothing.
func NewServer(c Config) (*Server, error) {
	if c.Identity == nil || c.Cluster == nil || c.Node == nil || c.Liveness == nil {
		return nil, fmt.Errorf("make the API server: identity, cluster, node and liveness are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LeaderWait <= 0 {
		c.LeaderWait = defaultLeaderWait
	}
	if c.PeerTimeout <= 0 {
		c.PeerTimeout = defaultPeerTimeout
	}
	return &Server{
		identity: c.Identity, cluster: c.Cluster, node: c.Node, liveness: c.Liveness, logger: c.Logger,
		wait: c.LeaderWait, timeout: c.PeerTimeout, peers: newPeers(c.Identity), parsing: make(chan struct{}, 1),
	}, nil
}

// Run serves the connections of security.Mux.GRPC until ctx ends, lets calls
// under way finish for 2 s, and closes the connections to other nodes. A Server
// runs once.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(s.identity.ServerCredentials()),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(128),
		grpc.UnaryInterceptor(s.admit),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
	)
	pharosv1.RegisterControlServer(server, s)
	pharosv1.RegisterPeerServer(server, s)
	defer s.peers.close()

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		server.Stop()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("serve the control API: %w", err)
	case <-ctx.Done():
	}
	patience := time.AfterFunc(stopTimeout, server.Stop)
	defer patience.Stop()
	server.GracefulStop()
	<-served
	return nil
}

// admit refuses the calls of nodes that are no members: of removed ones, whose
// certificates are good still. A refusal here can say why, where one in the TLS
// handshake only shows as a broken connection.
func (s *Server) admit(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	name, err := security.CallerName(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	// A node that restarted without a quorum knows old members only, maybe not
	// even itself: whoever is on this machine must be able to ask it all the same.
	if name != s.identity.Name() && !Admitted(s.cluster.State(), name) {
		return nil, status.Errorf(codes.PermissionDenied, "%s is not a member of this cluster: it was removed; to join again, empty its data directory and use a new token", name)
	}
	return handle(ctx, request)
}

// caller is the name in the caller's certificate.
func caller(ctx context.Context) string {
	name, err := security.CallerName(ctx)
	if err != nil {
		return "unknown"
	}
	return name
}

// audit logs a write: who asked for what, and what came of it.
func (s *Server) audit(ctx context.Context, action string, err error, attrs ...any) {
	attrs = append([]any{"action", action, "by", caller(ctx)}, attrs...)
	if err != nil {
		s.logger.Warn("write refused", append(attrs, "error", status.Convert(err).Message())...)
		return
	}
	s.logger.Info("write", attrs...)
}
