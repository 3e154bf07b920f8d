package api

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

const (
	defaultDrain = 30 * time.Second
	maxDrain     = 24 * time.Hour
)

// Drain implements pharosv1.ControlServer.
func (s *Server) Drain(ctx context.Context, request *pharosv1.DrainRequest) (response *pharosv1.DrainResponse, err error) {
	deadline := defaultDrain
	if d := request.GetDeadline(); d != nil {
		deadline = d.AsDuration()
	}
	defer func() {
		s.audit(ctx, "drain", err, "deadline", deadline, "finished", response.GetFinished(), "cut", response.GetCut())
	}()
	if deadline < 0 || deadline > maxDrain {
		return nil, status.Errorf(codes.InvalidArgument, "a drain deadline of %v: 0s to %v are allowed", deadline, maxDrain)
	}
	response, err = s.node.Drain(ctx, deadline)
	if err != nil {
		return nil, definite(err)
	}
	return response, nil
}

// Undrain implements pharosv1.ControlServer.
func (s *Server) Undrain(ctx context.Context, _ *pharosv1.UndrainRequest) (response *pharosv1.UndrainResponse, err error) {
	defer func() { s.audit(ctx, "undrain", err) }()
	if err := s.node.Undrain(ctx); err != nil {
		return nil, definite(err)
	}
	return &pharosv1.UndrainResponse{}, nil
}
