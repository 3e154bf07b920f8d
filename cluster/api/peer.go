package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/security"
)

// Submit implements pharosv1.PeerServer. The leader's clock stamps the command,
// whatever the asking node wrote into it.
func (s *Server) Submit(ctx context.Context, request *pharosv1.SubmitRequest) (*pharosv1.SubmitResponse, error) {
	command, err := fsm.DecodeCommand(request.GetCommand())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "decode the command: %v", err)
	}
	if err := s.leading(); err != nil {
		return nil, err
	}
	command.At = time.Time{} // Cluster.Submit stamps it
	result, err := s.propose(ctx, command)
	if err != nil {
		return nil, s.told(err)
	}
	encoded, err := fsm.EncodeResult(result)
	if err != nil {
		// It is done: an error without doubt would be a lie.
		return nil, uncertain(err)
	}
	s.logger.Info("command taken for another node", "node", caller(ctx), "by", command.By, "version", result.Version, "refusal", result.Error)
	return &pharosv1.SubmitResponse{Result: encoded}, nil
}

// WaitApplied implements pharosv1.PeerServer.
func (s *Server) WaitApplied(ctx context.Context, request *pharosv1.WaitAppliedRequest) (*pharosv1.WaitAppliedResponse, error) {
	applied, applyError, err := s.node.WaitApplied(ctx, request.GetRevision())
	if err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return &pharosv1.WaitAppliedResponse{AppliedRevision: applied, ApplyError: applyError}, nil
}

// NodeStatus implements pharosv1.PeerServer.
func (s *Server) NodeStatus(ctx context.Context, _ *pharosv1.NodeStatusRequest) (*pharosv1.NodeStatusResponse, error) {
	return s.node.Status(ctx), nil
}

// leading is an error with a NotLeader detail unless this node leads.
func (s *Server) leading() error {
	if name, address := s.cluster.Leader(); name != s.identity.Name() {
		return notLeader(address)
	}
	return nil
}

// told makes the status for another node of an error of Cluster.
func (s *Server) told(err error) error {
	switch {
	case errors.Is(err, ErrNotLeader):
		name, address := s.cluster.Leader()
		if name == s.identity.Name() {
			address = ""
		}
		return notLeader(address)
	case errors.Is(err, ErrUncertain):
		return uncertain(err)
	}
	return definite(err)
}

// Admitter lets a security.JoinServer spend tokens through this server.
func (s *Server) Admitter() security.Admitter { return admitter{s} }

type admitter struct{ server *Server }

// Admit implements security.Admitter. That the node is a member from here on,
// though it has yet to register as a voter, keeps a second node from joining
// under its name.
func (a admitter) Admit(ctx context.Context, id string, hash []byte, node, address string) error {
	result, err := a.server.submit(ctx, fsm.Command{By: node, UseToken: &fsm.UseToken{ID: id, Hash: hash, Node: node}})
	if err != nil {
		if _, ok := detailOf[*pharosv1.NotLeader](err); ok {
			return errors.Join(security.ErrRetry, err)
		}
		if _, ok := detailOf[*pharosv1.Uncertain](err); ok {
			return errors.Join(security.ErrUncertain, err)
		}
		return err
	}
	if err := result.Err(); err != nil {
		return err
	}
	result, err = a.server.submit(ctx, fsm.Command{By: node, PutMember: &fsm.PutMember{Name: node, Address: address}})
	if err != nil {
		return errors.Join(security.ErrUncertain, err) // the token is spent
	}
	return result.Err()
}

// Members implements security.Admitter.
func (a admitter) Members() map[string]string {
	addresses := make(map[string]string)
	for name, member := range a.server.cluster.State().Members {
		addresses[name] = member.Address
	}
	return addresses
}
