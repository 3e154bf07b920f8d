package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// Bootstrap makes a new cluster on disk, whose one voter is this node at
// cfg.Address, and has it carry out cmds. Nothing listens and nothing is left
// running; either the whole store is made or none. cfg.Transport is not used.
//
// Errors: ErrExists if cfg.Dir has a store with state; ErrInUse; the refusal of
// a command.
func Bootstrap(ctx context.Context, cfg Config, cmds ...fsm.Command) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(raftDir(cfg.Dir), 0o700); err != nil {
		return fmt.Errorf("make the store's directory: %w", err)
	}
	// Held to the end, so that neither a second Bootstrap nor a running node is
	// under way in the same place.
	lock, err := acquire(raftDir(cfg.Dir))
	if err != nil {
		return err
	}
	defer lock.Close()
	has, err := HasState(cfg.Dir)
	if err != nil {
		return err
	}
	if has {
		return fmt.Errorf("make a cluster in %s: %w", cfg.Dir, ErrExists)
	}
	fresh := filepath.Join(cfg.Dir, "raft.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	if err := build(ctx, cfg, fresh, cmds); err != nil {
		return errors.Join(fmt.Errorf("make a cluster in %s: %w", cfg.Dir, err), os.RemoveAll(fresh))
	}
	if err := os.RemoveAll(raftDir(cfg.Dir)); err != nil {
		return fmt.Errorf("make way for the cluster: %w", err)
	}
	if err := errors.Join(os.Rename(fresh, raftDir(cfg.Dir)), syncDir(cfg.Dir)); err != nil {
		return fmt.Errorf("put the cluster in its place: %w", err)
	}
	return nil
}

// build makes the cluster in dir.
func build(ctx context.Context, cfg Config, dir string, cmds []fsm.Command) error {
	cfg.NoNudge = true
	// There is nobody to hear, so nothing to wait for.
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	s, err := open(cfg, dir)
	if err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport(raft.ServerAddress(cfg.Address))
	voters := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(cfg.Name), Address: raft.ServerAddress(cfg.Address),
	}}}
	if err := raft.BootstrapCluster(cfg.raftConfig(), s.guard, s.guard, s.snaps, trans, voters); err != nil {
		return errors.Join(err, s.Close())
	}
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.run(runCtx, trans, trans.Close) }()
	err = submitAll(ctx, s, cmds)
	stop()
	return errors.Join(err, <-ended)
}

func submitAll(ctx context.Context, s *Store, cmds []fsm.Command) error {
	if _, _, err := s.WaitLeader(ctx); err != nil {
		return fmt.Errorf("wait to lead: %w", err)
	}
	if err := s.Barrier(ctx); err != nil {
		return err
	}
	for i, cmd := range cmds {
		result, err := s.Submit(ctx, cmd)
		if err == nil {
			err = result.Err()
		}
		if err != nil {
			return fmt.Errorf("command %d: %w", i, err)
		}
	}
	return nil
}
