package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// Submit has a command carried out by the whole cluster, and returns once a
// majority has it on disk and this node has applied it. Leader only. A command
// that the state machine refused is no error here: see Result.Err.
//
// Errors: *NotLeaderError, ErrNoLeader and *StorageError mean that nothing was
// done; ErrAmbiguous that the outcome is unknown, also when ctx ended first.
func (s *Store) Submit(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	if cmd.At.IsZero() {
		cmd.At = s.cfg.Now()
	}
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		return fsm.Result{}, fmt.Errorf("submit a command: %w", err)
	}
	r, err := s.leading(ctx)
	if err != nil {
		return fsm.Result{}, err
	}
	future := r.Apply(data, timeLeft(ctx))
	if err := s.await(ctx, future); err != nil {
		return fsm.Result{}, err
	}
	done := future.Response().(applied)
	if !s.cfg.NoNudge {
		s.nudger.committed(s.ctx, r.GetConfiguration().Configuration().Servers, future.Index(), done.term)
	}
	return done.result, nil
}

// running waits until raft runs.
func (s *Store) running(ctx context.Context) (*raft.Raft, error) {
	select {
	case <-s.started:
	case <-s.ended:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("the store has not started: %w", ctx.Err())
	}
	if err := s.Failure(); err != nil {
		return nil, err
	}
	select {
	case <-s.ended:
		return nil, ErrClosed
	default:
		return s.raft, nil
	}
}

// leading is running, and an error if another node leads.
func (s *Store) leading(ctx context.Context) (*raft.Raft, error) {
	r, err := s.running(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.State() != raft.Leader {
		return nil, s.notLeader()
	}
	return r, nil
}

// notLeader says who leads. A node that just lost its leadership may still
// name itself: that is no leader.
func (s *Store) notLeader() error {
	name, address := s.Leader()
	if name != "" && name != s.cfg.Name {
		return &NotLeaderError{LeaderName: name, LeaderAddress: address}
	}
	if fault := s.DiskFault(); fault != nil {
		return fmt.Errorf("%w; and this node: %w", ErrNoLeader, fault)
	}
	return ErrNoLeader
}

// timeLeft is how long raft may take to accept a command: it has no contexts.
// Zero, which means for ever, is never returned.
func timeLeft(ctx context.Context) time.Duration {
	const most = 10 * time.Second
	deadline, ok := ctx.Deadline()
	if !ok {
		return most
	}
	return min(most, max(time.Millisecond, time.Until(deadline)))
}

// await waits for a future or the context, and maps raft's errors to ours.
func (s *Store) await(ctx context.Context, future raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- future.Error() }() // raft answers every future, at its end at the latest
	select {
	case err := <-done:
		return s.mapError(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrAmbiguous, ctx.Err())
	}
}

func (s *Store) mapError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return s.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost):
		return fmt.Errorf("%w: this node lost the leadership while it was being replicated", ErrAmbiguous)
	case errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: this node is stopping", ErrAmbiguous)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		if fault := s.DiskFault(); fault != nil {
			return fault
		}
		return fmt.Errorf("%w: the leader is too busy to take a command: %w", ErrNoLeader, context.DeadlineExceeded)
	}
	// Raft passes on what the log said, though not always in a form that can be
	// unwrapped.
	if fault := s.DiskFault(); fault != nil {
		return fault
	}
	return fmt.Errorf("change the cluster: %w", err)
}
