package store

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// view is one state and the news that there is a newer one.
type view struct {
	state fsm.State
	next  chan struct{} // closed when a newer view has taken this one's place
}

// machine lets raft drive the state machine. Raft calls Apply, Snapshot and
// Restore from one goroutine; load may be called from any.
type machine struct {
	current atomic.Pointer[view]
}

func newMachine(s fsm.State) *machine {
	m := &machine{}
	m.current.Store(&view{state: s, next: make(chan struct{})})
	return m
}

func (m *machine) load() *view { return m.current.Load() }

func (m *machine) set(s fsm.State) {
	old := m.current.Swap(&view{state: s, next: make(chan struct{})})
	close(old.next)
}

// applied is what a command's future gives: its result, and the term of its
// entry, which the nudge needs.
type applied struct {
	result fsm.Result
	term   uint64
}

// Apply carries out one committed entry. An entry that cannot be read is
// refused by every node alike: it must not stop one.
func (m *machine) Apply(l *raft.Log) any {
	cmd, err := fsm.DecodeCommand(l.Data)
	if err != nil {
		return applied{
			result: fsm.Result{Version: m.load().state.Snapshot.Version, Error: fsm.ErrUnknownCommand.Error()},
			term:   l.Term,
		}
	}
	state, result := m.load().state.Apply(cmd)
	m.set(state)
	return applied{result: result, term: l.Term}
}

// StoreConfiguration is called with each change of the members: whoever watches
// the state looks at them as well.
func (m *machine) StoreConfiguration(uint64, raft.Configuration) { m.set(m.load().state) }

// Snapshot costs nothing, since states are immutable.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return frozen{m.load().state}, nil
}

// Restore replaces the state by a snapshot's.
func (m *machine) Restore(r io.ReadCloser) error {
	state, err := fsm.DecodeSnapshot(r)
	if err != nil {
		return fmt.Errorf("restore the cluster state: %w", err)
	}
	m.set(state)
	return nil
}

type frozen struct{ state fsm.State }

func (f frozen) Persist(sink raft.SnapshotSink) error {
	if err := fsm.EncodeSnapshot(sink, f.state); err != nil {
		_ = sink.Cancel() // the first error is the one that tells
		return fmt.Errorf("write snapshot %s: %w", sink.ID(), err)
	}
	return sink.Close()
}

func (frozen) Release() {}
