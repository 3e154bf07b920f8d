package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
)

const (
	retryFirst = 20 * time.Millisecond
	retryMost  = 250 * time.Millisecond
	maxDoubts  = 3
	// perMiB is the time that a try may take more for each MiB of its command:
	// one of 16 MiB takes some 2 s of work on an idle machine, and each node
	// must write it to disk.
	perMiB = time.Second
	// connectTimeout bounds opening a connection to the leader in one try: a
	// new leader may have been elected meanwhile.
	connectTimeout = time.Second
)

// repeatable says whether a command may be submitted again when it is not known
// whether the first try was carried out: whether twice gives what once gives,
// to the state and to the caller. A token spent twice is a refusal, and so is a
// conditional change whose own first try has moved the version on.
func repeatable(c fsm.Command) bool {
	switch {
	case c.ApplyConfig != nil:
		return c.ApplyConfig.Base == nil
	case c.PutMember != nil, c.OperateServers != nil:
		return true
	default:
		return false
	}
}

// submit has a command carried out by the leader, wherever that is. Errors are
// statuses: without a leader for LeaderWait it is Unavailable; Unknown with an
// Uncertain detail if the outcome is not known; refusals of the state machine
// are in the Result.
func (s *Server) submit(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	var result fsm.Result
	encoded, err := fsm.EncodeCommand(command)
	if err != nil {
		return result, unencoded(err)
	}
	once := s.wait + time.Duration(len(encoded)>>20)*perMiB
	err = s.onLeader(ctx, repeatable(command), once,
		func(ctx context.Context) (err error) {
			result, err = s.propose(ctx, command)
			return err
		},
		func(ctx context.Context, conn *grpc.ClientConn) error {
			answer, err := pharosv1.NewPeerClient(conn).Submit(ctx, &pharosv1.SubmitRequest{Command: encoded})
			if err != nil {
				return err
			}
			if result, err = fsm.DecodeResult(answer.GetResult()); err != nil {
				return status.Errorf(codes.Internal, "decode the leader's answer: %v", err)
			}
			return nil
		})
	return result, err
}

// onLeader does something where the leader is: here, or there over conn. It
// tries again with back-off as long as it is sure that nothing was done, for
// LeaderWait, and up to maxDoubts times more if doing it twice does no harm. One
// try has its limit as well: a leader that fell silent must not hold up the
// change until the caller gives up.
func (s *Server) onLeader(ctx context.Context, repeatable bool, once time.Duration, here func(context.Context) error, there func(context.Context, *grpc.ClientConn) error) error {
	giveUp := time.Now().Add(s.wait)
	doubts := 0
	for delay := retryFirst; ; delay = min(2*delay, retryMost) {
		err := s.attempt(ctx, once, here, there)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrUncertain):
			doubts++
			if !repeatable || ctx.Err() != nil || doubts > maxDoubts {
				return uncertain(err)
			}
			giveUp = time.Now().Add(s.wait) // there was a leader: another will be found
		case !errors.Is(err, ErrNotLeader):
			return definite(err)
		}
		wait := time.NewTimer(min(delay/2+rand.N(delay), time.Until(giveUp)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		if ctx.Err() == nil && time.Now().Before(giveUp) {
			continue
		}
		switch {
		case doubts > 0 && errors.Is(err, ErrNotLeader):
			return uncertain(errLeaderLost)
		case doubts > 0:
			return uncertain(err)
		case errors.Is(ctx.Err(), context.Canceled):
			return status.FromContextError(ctx.Err()).Err()
		default:
			return noLeader(s.cluster.State().Snapshot.Version, s.cluster.Fault())
		}
	}
}

// attempt is one try. Its error wraps ErrNotLeader if nothing was done and
// another node may do it, ErrUncertain if the outcome is not known; any other
// is final.
func (s *Server) attempt(ctx context.Context, once time.Duration, here func(context.Context) error, there func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, once)
	defer cancel()
	name, address := s.cluster.Leader()
	switch name {
	case "":
		return fmt.Errorf("no leader: %w", ErrNotLeader)
	case s.identity.Name():
		return here(ctx)
	}
	connect, cancelConnect := context.WithTimeout(ctx, connectTimeout)
	defer cancelConnect()
	conn, err := s.peers.ready(connect, name, address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return verdict(there(ctx, conn))
}

// verdict reads the error of a call to the leader over an open connection.
func verdict(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := detailOf[*pharosv1.NotLeader](err); ok {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if _, ok := detailOf[*pharosv1.Uncertain](err); ok {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		// The leader or the way to it fell after the request may have gone out.
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return err
}

// definite makes a status of an error that came with nothing done.
func definite(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}
