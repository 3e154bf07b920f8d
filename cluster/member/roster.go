package member

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Member is a node as this node sees it.
type Member struct {
	Meta
	Gossip string // address of its heartbeats, host:port
	Self   bool
	Alive  bool
	// LastSeen is when it last answered this node's heartbeat, or else became
	// alive. Zero for this node itself.
	LastSeen time.Time
	// MetaError says why Meta is empty but for the name: "" or a reason.
	MetaError string
	// ClockOffset is its wall clock minus ours, to within ClockError. Both are zero
	// while ClockKnown is false: then no heartbeat was answered yet.
	ClockOffset time.Duration
	ClockError  time.Duration
	ClockKnown  bool
}

// forgetAfter is how long a dead member stays listed.
const forgetAfter = time.Hour

// roster is who is there. Memberlist calls it while holding its own locks, so
// it calls nothing of memberlist.
type roster struct {
	self   string
	logger *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	members map[string]*entry
	changed chan struct{} // closed at the next change
}

type entry struct {
	Member
	clock clockFilter
	died  time.Time
}

func newRoster(self string, logger *slog.Logger, now func() time.Time) *roster {
	return &roster{self: self, logger: logger, now: now, members: map[string]*entry{}, changed: make(chan struct{})}
}

// tell wakes the watchers. The caller holds mu.
func (r *roster) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// put takes in a node that is alive. The caller holds mu.
func (r *roster) put(n *memberlist.Node) *entry {
	e := r.members[n.Name]
	if e == nil {
		e = &entry{}
		r.members[n.Name] = e
	}
	meta, err := decodeMeta(n.Meta)
	meta.Name = n.Name
	e.Meta, e.MetaError = meta, ""
	if err != nil {
		e.MetaError = err.Error()
	}
	e.Gossip, e.Self, e.Alive = n.Address(), n.Name == r.self, true
	return e
}

// NotifyJoin implements memberlist.EventDelegate.
func (r *roster) NotifyJoin(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.put(n)
	if !e.Self {
		e.LastSeen = r.now()
		e.clock = clockFilter{} // it may have started anew with another clock
		e.ClockKnown, e.ClockOffset, e.ClockError = false, 0, 0
		r.logger.Info("member is alive", "member", n.Name, "address", e.Gossip)
		if e.MetaError != "" {
			r.logger.Warn("member's metadata is ignored", "member", n.Name, "reason", e.MetaError)
		}
	}
	r.tell()
}

// NotifyLeave implements memberlist.EventDelegate: dead, or left.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.members[n.Name]
	if e == nil || e.Self {
		return
	}
	e.Alive, e.died = false, r.now()
	r.logger.Warn("member is gone", "member", n.Name, "address", e.Gossip, "last_seen", e.LastSeen)
	r.tell()
}

// NotifyUpdate implements memberlist.EventDelegate: new metadata.
func (r *roster) NotifyUpdate(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := ""
	if e := r.members[n.Name]; e != nil {
		before = e.MetaError
	}
	if e := r.put(n); e.MetaError != "" && e.MetaError != before {
		r.logger.Warn("member's metadata is ignored", "member", n.Name, "reason", e.MetaError)
	}
	r.tell()
}

// NotifyConflict implements memberlist.ConflictDelegate: two nodes of one name.
func (r *roster) NotifyConflict(existing, other *memberlist.Node) {
	r.logger.Error("two nodes have the same name, and the first keeps it: give the other its own",
		"member", existing.Name, "first", existing.Address(), "second", other.Address())
}

// AckPayload implements memberlist.PingDelegate.
func (r *roster) AckPayload() []byte { return encodeClock(r.now()) }

// NotifyPingComplete implements memberlist.PingDelegate.
func (r *roster) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.members[n.Name]
	if e == nil {
		return
	}
	e.LastSeen = now
	theirs, ok := decodeClock(payload)
	if !ok {
		return
	}
	// Round(0) drops the monotonic reading: wall clocks are what is compared.
	e.clock.add(sample{offset: theirs.Sub(now.Round(0).Add(-rtt / 2)), rtt: rtt})
	best, _ := e.clock.best()
	first := !e.ClockKnown
	e.ClockKnown, e.ClockOffset, e.ClockError = true, best.offset, best.rtt/2
	if first {
		r.tell()
	}
}

// list gives the members by name, and the channel that the next change closes.
func (r *roster) list() ([]Member, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	members := make([]Member, 0, len(r.members))
	for _, e := range r.members {
		m := e.Member
		m.Addresses = slices.Clone(m.Addresses)
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members, r.changed
}

// forget drops those that died long ago.
func (r *roster) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, e := range r.members {
		if !e.Alive && r.now().Sub(e.died) > forgetAfter {
			delete(r.members, name)
		}
	}
}

// missing gives those of the seeds that no other living member answers at.
func (r *roster) missing(seeds []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	alive := map[string]bool{}
	for _, e := range r.members {
		if e.Alive {
			alive[e.Gossip] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(seeds), func(s string) bool { return alive[s] })
}
