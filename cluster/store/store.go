// Package store keeps what the nodes of a cluster agree on: it replicates
// commands by Raft (hashicorp/raft), applies them to the state machine of
// package fsm, and gives out the resulting states.
//
// A node never serves from here alone: SaveApplied keeps a copy of the last
// configuration that it ran, and LoadApplied gives it back, with neither a
// leader nor an undamaged Raft log.
package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// Store is this node's part of the replicated log. Its methods may be called
// from any goroutine, those that need a leader only while Run runs.
type Store struct {
	cfg     Config
	machine *machine
	guard   *guard
	bolt    *raftboltdb.BoltStore
	snaps   raft.SnapshotStore
	lock    *os.File

	started chan struct{}   // closed when raft is set
	ended   chan struct{}   // closed when Run or Close has begun to end the store
	once    sync.Once       // of Run and Close, whichever is first
	ctx     context.Context // of Run; set before started is closed
	raft    *raft.Raft      // set before started is closed
	nudger  *nudger         // set before started is closed
	stop    func() error    // ends raft and waits for it; set before started is closed

	mu        sync.Mutex
	failure   error
	leadersCh chan struct{} // closed at the next change of leader
}

// Open checks and opens the store in cfg.Dir, and makes an empty one if there
// is none: such a node waits for a leader to add it. Nothing runs yet: see Run.
//
// Errors: ErrInUse if another process has it; *CorruptError if a file is
// damaged, with what to do.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Transport == nil {
		return nil, errors.New("store configuration: transport: missing")
	}
	return open(cfg.withDefaults(), raftDir(cfg.Dir))
}

func open(cfg Config, dir string) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	lock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	checked, err := check(dir, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:       cfg,
		machine:   newMachine(checked.state),
		lock:      lock,
		started:   make(chan struct{}),
		ended:     make(chan struct{}),
		leadersCh: make(chan struct{}),
	}
	if s.bolt, err = openBolt(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.bolt.Close()
		}
	}()
	s.guard = &guard{
		logs: s.bolt, stable: s.bolt, file: logFile(dir),
		logger: cfg.Logger, fail: s.fail, closed: make(chan struct{}),
	}
	if err = verifyEntries(s.guard, checked); err != nil {
		return nil, err
	}
	if err = writeMarker(dir, cfg.Name); err != nil {
		return nil, err
	}
	if s.snaps, err = raft.NewFileSnapshotStoreWithLogger(dir, retainedSnapshots, newRaftLogger(cfg.Logger)); err != nil {
		return nil, fmt.Errorf("open the snapshots in %s: %w", dir, err)
	}
	return s, nil
}

// Run takes part in the cluster until ctx ends, then hands leadership over if
// it holds it, stops and closes the store. It returns after its goroutines have
// ended. A store runs once.
//
// A log that turns out to be damaged while running ends the node's part in
// Raft, not the Run: see Failure.
func (s *Store) Run(ctx context.Context) error {
	net := newStream(s.cfg.Transport, s.cfg.Address)
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: net, MaxPool: 4, Timeout: s.cfg.RPCTimeout, Logger: newRaftLogger(s.cfg.Logger),
	})
	return s.run(ctx, trans, func() error {
		trans.CloseStreams()
		return errors.Join(trans.Close(), net.Close())
	})
}

func (s *Store) run(ctx context.Context, trans raft.Transport, closeTransport func() error) error {
	err := ErrClosed
	s.once.Do(func() { err = s.runOnce(ctx, trans, closeTransport) })
	return err
}

func (s *Store) runOnce(ctx context.Context, trans raft.Transport, closeTransport func() error) error {
	cache, err := raft.NewLogCache(32, s.guard)
	if err != nil {
		return errors.Join(err, closeTransport(), s.release())
	}
	r, err := s.start(cache, trans)
	if err != nil {
		return errors.Join(fmt.Errorf("start raft in %s: %w", raftDir(s.cfg.Dir), err), closeTransport(), s.release())
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	leaders := make(chan raft.Observation, 16)
	observer := raft.NewObserver(leaders, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(observer)
	s.ctx, s.raft, s.nudger = runCtx, r, newNudger(trans, raft.ServerID(s.cfg.Name))
	s.stop = sync.OnceValue(func() error {
		close(s.guard.closed) // lets go of what waits for the disk
		return r.Shutdown().Error()
	})
	close(s.started)
	s.guard.armed.Store(true)
	var promoting sync.WaitGroup
	promoting.Go(func() { s.promote(runCtx, trans) })

	for ctx.Err() == nil {
		select {
		case o := <-leaders:
			s.leaderChanged(o.Data.(raft.LeaderObservation))
		case <-ctx.Done():
		}
	}

	s.handOver()
	r.DeregisterObserver(observer)
	close(s.ended)
	cancel()
	err = errors.Join(s.stop(), closeTransport())
	s.nudger.stop()
	promoting.Wait()
	return errors.Join(err, s.release())
}

// start is raft.NewRaft, which panics on a log that it cannot read.
func (s *Store) start(logs raft.LogStore, trans raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = corrupt(s.guard.file, fmt.Sprint(cause))
		}
	}()
	return raft.NewRaft(s.cfg.raftConfig(), s.machine, logs, s.guard, s.snaps, trans)
}

// handOver gives leadership to the most up-to-date follower, so that a planned
// stop costs the cluster no election timeout. It is a courtesy: it may fail.
func (s *Store) handOver() {
	if s.raft.State() != raft.Leader || len(s.raft.GetConfiguration().Configuration().Servers) < 2 {
		return
	}
	done := make(chan error, 1)
	go func() { done <- s.raft.LeadershipTransfer().Error() }() // ends with raft at the latest
	select {
	case err := <-done:
		if err != nil {
			s.cfg.Logger.Info("leadership was not handed over", "error", err)
		}
	case <-time.After(2 * s.cfg.HeartbeatTimeout):
		s.cfg.Logger.Info("leadership was not handed over", "error", "timed out")
	}
}

// release closes the files.
func (s *Store) release() error {
	return errors.Join(s.bolt.Close(), s.lock.Close())
}

// Close closes a store that was opened and never run. Where Run was called it
// does nothing: end its context.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.ended)
		err = s.release()
	})
	return err
}

// fail ends this node's part in Raft for good, and leaves the state readable.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failure == nil
	if first {
		s.failure = err
	}
	s.mu.Unlock()
	if !first {
		return
	}
	s.cfg.Logger.Error("raft has stopped on this node", "error", err)
	// The goroutine that found the fault is one of those that stop waits for.
	// Run waits for the same stop.
	go func() { _ = s.stop() }()
}

// Failure is what stopped this node's part in Raft while it ran, nil if
// nothing did. State stays readable, everything else answers with this error.
func (s *Store) Failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// DiskFault is the error of the last write to the log, *StorageError, or nil if
// it went well.
func (s *Store) DiskFault() error { return s.guard.lastFault() }

// State is the newest state that this node knows. It takes no lock. Before Run
// it is that of the newest snapshot on disk.
func (s *Store) State() fsm.State { return s.machine.load().state }

// Watch gives the newest state, and a channel that is closed once there is a
// newer one, or the Voters have changed. Several changes may pass between two calls: only the last is seen.
func (s *Store) Watch() (fsm.State, <-chan struct{}) {
	v := s.machine.load()
	return v.state, v.next
}
