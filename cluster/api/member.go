package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/security"
)

const (
	defaultTokenLife = time.Hour
	maxTokenLife     = 24 * time.Hour
	deniedAfter      = 10 * time.Second
)

// MakeToken makes a join token that lives for ttl from now, in the form for the
// user and in the form for the state machine.
func MakeToken(identity *security.Identity, ttl time.Duration, now time.Time) (text string, stored fsm.Token, err error) {
	token, err := security.NewToken(identity.Fingerprint())
	if err != nil {
		return "", fsm.Token{}, err
	}
	return token.Text(), fsm.Token{ID: token.ID(), Hash: token.Hash(), Expires: now.Add(ttl)}, nil
}

// CreateToken implements pharosv1.ControlServer.
func (s *Server) CreateToken(ctx context.Context, request *pharosv1.CreateTokenRequest) (response *pharosv1.CreateTokenResponse, err error) {
	ttl := defaultTokenLife
	if d := request.GetTtl(); d != nil {
		ttl = d.AsDuration()
	}
	var stored fsm.Token
	defer func() { s.audit(ctx, "create_token", err, "token", stored.ID, "ttl", ttl) }()
	if ttl < time.Second || ttl > maxTokenLife {
		return nil, status.Errorf(codes.InvalidArgument, "a token's life of %v: 1s to %v are allowed", ttl, maxTokenLife)
	}
	text, stored, err := MakeToken(s.identity, ttl, time.Now())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	result, err := s.submit(ctx, fsm.Command{By: caller(ctx), CreateToken: &fsm.CreateToken{Token: stored}})
	if err != nil {
		return nil, err
	}
	if err := result.Err(); err != nil {
		return nil, refused(err)
	}
	address := s.cluster.State().Members[s.identity.Name()].Address
	if address == "" {
		_, address = s.cluster.Leader()
	}
	return &pharosv1.CreateTokenResponse{Token: text, Expires: timestamppb.New(stored.Expires), Address: address}, nil
}

// RemoveMember implements pharosv1.ControlServer. The leader does all of it, so
// that a node can be asked for its own removal too.
func (s *Server) RemoveMember(ctx context.Context, request *pharosv1.RemoveMemberRequest) (response *pharosv1.RemoveMemberResponse, err error) {
	defer func() { s.audit(ctx, "remove_member", err, "member", request.GetName()) }()
	expel := &pharosv1.ExpelRequest{Name: request.GetName(), By: caller(ctx)}
	err = s.onLeader(ctx, false, s.wait,
		func(ctx context.Context) error { return s.expel(ctx, expel) },
		func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := pharosv1.NewPeerClient(conn).Expel(ctx, expel)
			return err
		})
	if err != nil {
		return nil, err
	}
	return &pharosv1.RemoveMemberResponse{}, nil
}

// Expel implements pharosv1.PeerServer.
func (s *Server) Expel(ctx context.Context, request *pharosv1.ExpelRequest) (*pharosv1.ExpelResponse, error) {
	if err := s.leading(); err != nil {
		return nil, err
	}
	if err := s.expel(ctx, request); err != nil {
		return nil, s.told(err)
	}
	s.logger.Info("member removed for another node", "node", caller(ctx), "by", request.GetBy(), "member", request.GetName())
	return &pharosv1.ExpelResponse{}, nil
}

// expel removes a member, as the leader: from the replicated list first and
// from Raft's voters second. Asked again after a failure in between, it
// finishes the work. Errors are Cluster's, or statuses.
func (s *Server) expel(ctx context.Context, request *pharosv1.ExpelRequest) error {
	name := request.GetName()
	members := s.cluster.State().Members
	_, member := members[name]
	switch {
	case !member && !slices.Contains(s.cluster.Voters(), name):
		return status.Errorf(codes.NotFound, "there is no member %q: \"pharos member list\" lists them", name)
	case member && len(members) == 1:
		return status.Errorf(codes.FailedPrecondition, "%s is the last member: a cluster cannot be without one", name)
	}
	if member {
		result, err := s.cluster.Submit(ctx, fsm.Command{By: request.GetBy(), RemoveMember: &fsm.RemoveMember{Name: name}})
		if err != nil {
			return err
		}
		// Unknown: someone else was quicker.
		if err := result.Err(); err != nil && !errors.Is(err, fsm.ErrMemberUnknown) {
			return refused(err)
		}
	}
	if err := s.cluster.RemoveVoter(ctx, name); err != nil {
		if errors.Is(err, ErrNotLeader) && member {
			// Half of it is done, so "nothing was done" would be a lie.
			return fmt.Errorf("%w: %s is no member any more, but may have a vote still: remove it once more", ErrUncertain, name)
		}
		return err
	}
	return nil
}

// Register implements pharosv1.PeerServer. A node can register itself alone.
// That it is a member (its join was granted, and it was not removed) has been
// seen to by admit.
func (s *Server) Register(ctx context.Context, request *pharosv1.RegisterRequest) (response *pharosv1.RegisterResponse, err error) {
	name, address := request.GetName(), request.GetControlAddress()
	defer func() {
		if _, other := detailOf[*pharosv1.NotLeader](err); !other {
			s.audit(ctx, "register", err, "member", name, "address", address)
		}
	}()
	if by := caller(ctx); by != name {
		return nil, status.Errorf(codes.PermissionDenied, "the certificate of %s cannot register %q", by, name)
	}
	if err := security.ValidateAddress(address); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.leading(); err != nil {
		return nil, err
	}
	state := s.cluster.State()
	if state.Members[name].Address == address && slices.Contains(s.cluster.Voters(), name) {
		return &pharosv1.RegisterResponse{}, nil
	}
	result, err := s.cluster.Submit(ctx, fsm.Command{By: name, PutMember: &fsm.PutMember{Name: name, Address: address}})
	if err != nil {
		return nil, s.told(err)
	}
	if err := result.Err(); err != nil {
		return nil, refused(err)
	}
	if err := s.cluster.AddVoter(ctx, name, address); err != nil {
		return nil, s.told(err)
	}
	return &pharosv1.RegisterResponse{}, nil
}

// Admitted says whether a node belongs to the cluster. Before this node has
// learned of any member, all are welcome: it must hear the leader before it can
// know whom to trust. The Server asks it for each call. In a security.Authorize,
// ask it for security.ProtoGRPC at most, for the reason given there.
func Admitted(state fsm.State, name string) bool {
	_, ok := state.Members[name]
	return ok || len(state.Members) == 0
}

// RegisterAt has this node made a voter, by the leader. Addresses are control
// addresses of members to ask who that is; the answer of any will do. It tries
// until it succeeds or ctx ends. It also ends once it was refused for
// deniedAfter without a break, as a removed member is: a leader that was
// elected a moment ago may not have read of this node yet.
func (s *Server) RegisterAt(ctx context.Context, own string, addresses func() []string) error {
	request := &pharosv1.RegisterRequest{Name: s.identity.Name(), ControlAddress: own}
	last := errors.New("no member is known to ask")
	var denied time.Time // since when
	for delay := retryFirst; ; delay = min(2*delay, time.Second) {
		for _, address := range addresses() {
			err := s.registerVia(ctx, address, request)
			if err == nil {
				return nil
			}
			last = fmt.Errorf("register at %s: %w", address, err)
			if status.Code(err) != codes.PermissionDenied {
				continue
			}
			if denied.IsZero() {
				denied = time.Now()
			} else if time.Since(denied) > deniedAfter {
				return last
			}
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return last
		}
	}
}

// registerVia asks one member, and the leader that it names.
func (s *Server) registerVia(ctx context.Context, address string, request *pharosv1.RegisterRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.registerOnce(ctx, address, request)
	if detail, ok := detailOf[*pharosv1.NotLeader](err); ok && detail.GetLeaderAddress() != "" && detail.GetLeaderAddress() != address {
		return s.registerOnce(ctx, detail.GetLeaderAddress(), request)
	}
	return err
}

func (s *Server) registerOnce(ctx context.Context, address string, request *pharosv1.RegisterRequest) error {
	conn, err := s.peers.conn("", address)
	if err != nil {
		return err
	}
	_, err = pharosv1.NewPeerClient(conn).Register(ctx, request)
	return err
}
