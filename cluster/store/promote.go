package store

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// promoteEvery is how often the leader looks whether a new node can vote.
const promoteEvery = 100 * time.Millisecond

// promote makes voters of the nodes that AddVoter took in, once they answer and
// have the log. A node that counted as a voter from the start would raise the
// majority before it can be part of one: the second node of a cluster would
// stop all writes until it is up.
func (s *Store) promote(ctx context.Context, trans raft.Transport) {
	ticker := time.NewTicker(promoteEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if s.raft.State() != raft.Leader {
			continue
		}
		for _, server := range s.raft.GetConfiguration().Configuration().Servers {
			if server.Suffrage == raft.Voter || ctx.Err() != nil || !s.caughtUp(trans, server) {
				continue
			}
			if err := s.raft.AddVoter(server.ID, server.Address, 0, s.cfg.RPCTimeout).Error(); err != nil {
				s.cfg.Logger.Warn("a new node cannot be made a voter yet", "member", string(server.ID), "error", err)
				continue
			}
			s.cfg.Logger.Info("a new node votes", "member", string(server.ID))
		}
	}
}

// caughtUp asks a node, by a heartbeat, how far its log goes.
func (s *Store) caughtUp(trans raft.Transport, server raft.Server) bool {
	// Only the leader of a term may send its heartbeats: the term did not change
	// around the moment at which this node led, so it led in that term.
	term := s.raft.CurrentTerm()
	if s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term {
		return false
	}
	want := s.raft.AppliedIndex()
	self := trans.EncodePeer(raft.ServerID(s.cfg.Name), trans.LocalAddr())
	var resp raft.AppendEntriesResponse
	err := trans.AppendEntries(server.ID, server.Address, &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(s.cfg.Name), Addr: self},
		Term:      term,
	}, &resp)
	return err == nil && resp.Success && resp.LastLog >= want
}
