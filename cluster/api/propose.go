package api

import (
	"context"
	"crypto/rand"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// propose is Cluster.Submit, and what the leader must see to before: that a
// configuration is valid, and its keys are sealed so that every member can open
// them, is decided here, once, and not by the state machine on each node. Errors are Cluster's, or statuses.
func (s *Server) propose(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	if c := command.ApplyConfig; c != nil {
		for _, cert := range c.Config.Certificates {
			if !cert.Sealed() {
				return fsm.Result{}, status.Errorf(codes.InvalidArgument, "the key of certificate %s is in clear, and must not come into the log", cert.Name)
			}
		}
		if faults := c.Config.ValidateWith(s.identity.OpenSecret); len(faults) > 0 {
			return fsm.Result{}, invalid(faults)
		}
		seeded := *c
		seeded.Seed = make([]byte, seedBytes)
		_, _ = rand.Read(seeded.Seed) // never fails
		command.ApplyConfig = &seeded
	}
	result, err := s.cluster.Submit(ctx, command)
	if errors.Is(err, fsm.ErrTooLarge) {
		return result, unencoded(err)
	}
	return result, err
}

// seedBytes is the length of ApplyConfig.Seed: as random as a UUID can be.
const seedBytes = 16

// unencoded is the status of a command that could not be encoded.
func unencoded(err error) error {
	if errors.Is(err, fsm.ErrTooLarge) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Errorf(codes.Internal, "encode the command: %v", err)
}
