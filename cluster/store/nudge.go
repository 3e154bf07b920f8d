package store

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// nudger tells the followers at once that an entry is committed. Raft tells
// them with its next AppendEntries, which an idle leader sends only after the
// CommitTimeout: up to 100ms with the default. A shorter timeout would
// cost idle CPU for ever, a barrier one more write to every disk; one more
// empty AppendEntries (Raft, section 5.3) costs neither.
//
// It is safe at any time, late ones included: it carries the entry's own term,
// which this node led when the entry was appended, and claims only that this
// entry is committed, which stays true. A follower in a later term refuses it;
// one that lacks the entry refuses it too.
type nudger struct {
	transport raft.Transport
	self      raft.ServerID
	address   raft.ServerAddress
	wg        sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	peers   map[raft.ServerID]*mailbox
}

// mailbox holds the newest commit that a follower has not been told of.
type mailbox struct {
	busy    bool
	pending bool
	index   uint64
	term    uint64
}

// nudgeRetries: a follower can lack the entry still, its disk being slower than
// those of the majority. The waits double from one millisecond: a second in all.
const nudgeRetries = 10

func newNudger(t raft.Transport, self raft.ServerID) *nudger {
	return &nudger{transport: t, self: self, address: t.LocalAddr(), peers: map[raft.ServerID]*mailbox{}}
}

// committed announces an entry to the peers. It does not wait.
func (n *nudger) committed(ctx context.Context, peers []raft.Server, index, term uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	for _, p := range peers {
		if p.ID == n.self {
			continue
		}
		m := n.peers[p.ID]
		if m == nil {
			m = &mailbox{}
			n.peers[p.ID] = m
		}
		m.pending, m.index, m.term = true, index, term
		if !m.busy {
			m.busy = true
			n.wg.Go(func() { n.deliver(ctx, p, m) })
		}
	}
}

// deliver sends what is in the mailbox until it is empty.
func (n *nudger) deliver(ctx context.Context, p raft.Server, m *mailbox) {
	for {
		n.mu.Lock()
		if !m.pending || ctx.Err() != nil {
			m.busy = false
			n.mu.Unlock()
			return
		}
		index, term := m.index, m.term
		m.pending = false
		n.mu.Unlock()
		n.send(ctx, p, index, term)
	}
}

func (n *nudger) send(ctx context.Context, p raft.Server, index, term uint64) {
	wait := time.Millisecond
	for range nudgeRetries {
		var resp raft.AppendEntriesResponse
		err := n.transport.AppendEntries(p.ID, p.Address, &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{
				ProtocolVersion: raft.ProtocolVersionMax,
				ID:              []byte(n.self),
				Addr:            n.transport.EncodePeer(n.self, n.address),
			},
			Term:              term,
			PrevLogEntry:      index,
			PrevLogTerm:       term,
			LeaderCommitIndex: index,
		}, &resp)
		if err != nil || resp.Success || resp.Term > term {
			return // raft's own replication sees to the rest
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait *= 2
	}
}

// stop returns when nothing is under way any more. Its context must have ended.
func (n *nudger) stop() {
	n.mu.Lock()
	n.stopped = true
	n.mu.Unlock()
	n.wg.Wait()
}
