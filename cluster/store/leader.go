package store

import (
	"context"

	"github.com/hashicorp/raft"
)

// Voter is a member of the Raft configuration: one that votes, or will.
type Voter struct {
	Name    string
	Address string // control, host:port
	// Voting is false while the node has yet to answer and to catch up.
	Voting bool
}

// Leader says whom this node takes for the leader; both are empty when it
// knows none.
func (s *Store) Leader() (name, address string) {
	select {
	case <-s.started:
	default:
		return "", ""
	}
	a, id := s.raft.LeaderWithID()
	return string(id), string(a)
}

// IsLeader says whether this node believes that it leads: whether Leader names
// it. It does not ask raft for its state, which changes after the leader does,
// so that whoever waits for a change of leader sees it here too.
func (s *Store) IsLeader() bool {
	name, _ := s.Leader()
	return name == s.cfg.Name
}

// WatchLeader is Leader, and a channel that is closed at the next change.
func (s *Store) WatchLeader() (name, address string, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, address = s.Leader()
	return name, address, s.leadersCh
}

// WaitLeader waits until this node knows a leader. Its error is the context's,
// or the one that stopped the store.
func (s *Store) WaitLeader(ctx context.Context) (name, address string, err error) {
	if _, err := s.running(ctx); err != nil {
		return "", "", err
	}
	for {
		name, address, changed := s.WatchLeader()
		if name != "" {
			return name, address, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", "", ctx.Err()
		case <-s.ended:
			return "", "", ErrClosed
		}
	}
}

func (s *Store) leaderChanged(o raft.LeaderObservation) {
	s.mu.Lock()
	close(s.leadersCh)
	s.leadersCh = make(chan struct{})
	s.mu.Unlock()
	if o.LeaderID == "" {
		s.cfg.Logger.Warn("no leader is known")
		return
	}
	s.cfg.Logger.Info("leader", "name", string(o.LeaderID), "address", string(o.LeaderAddr))
}

// Voters lists the members of the Raft configuration as this node knows it.
// Before Run it is empty.
func (s *Store) Voters() []Voter {
	select {
	case <-s.started:
	default:
		return nil
	}
	var voters []Voter
	for _, server := range s.raft.GetConfiguration().Configuration().Servers {
		voters = append(voters, Voter{Name: string(server.ID), Address: string(server.Address), Voting: server.Suffrage == raft.Voter})
	}
	return voters
}

// AddVoter takes a node in, or changes its address. Leader only; errors as for
// Submit. The node need not be up: it gets the log from now on, and the leader
// gives it a vote once it answers and has caught up, so that it never counts
// for the majority before it can be part of one.
func (s *Store) AddVoter(ctx context.Context, name, address string) error {
	return s.change(ctx, func(r *raft.Raft) raft.Future {
		// Of one that votes already, this changes the address alone.
		return r.AddNonvoter(raft.ServerID(name), raft.ServerAddress(address), 0, timeLeft(ctx))
	})
}

// RemoveVoter takes a node out, voting or not; one that is not in is fine. Leader
// only; errors as for Submit. A leader that removes itself steps down.
func (s *Store) RemoveVoter(ctx context.Context, name string) error {
	return s.change(ctx, func(r *raft.Raft) raft.Future {
		return r.RemoveServer(raft.ServerID(name), 0, timeLeft(ctx))
	})
}

// Barrier returns once this node, the leader, has applied all that was
// committed before the call, and is known to lead still. Errors as for Submit.
func (s *Store) Barrier(ctx context.Context) error {
	return s.change(ctx, func(r *raft.Raft) raft.Future { return r.Barrier(timeLeft(ctx)) })
}

func (s *Store) change(ctx context.Context, do func(*raft.Raft) raft.Future) error {
	r, err := s.leading(ctx)
	if err != nil {
		return err
	}
	future := do(r)
	return s.await(ctx, future)
}
