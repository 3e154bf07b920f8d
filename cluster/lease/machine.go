// Package lease decides which node may hold a resource, such as a VIP that is
// answered for by ARP: at most one at a time, by the voices of a majority of
// the members, without a disk and without a leader.
//
// It is PaxosLease (Trencseni, Gazso, Reinhardt 2012) with its first phase left
// out. That phase finds out what other acceptors have accepted, so that a value
// once chosen stays chosen. A lease has no such duty: an acceptor that never
// backs two claimants at one time is enough, as two majorities share a member.
// What is lost is the order among rivals that ask at once; ranks and chance
// settle that. A claim so takes one round trip.
//
// No clocks are compared. A claimant counts its time from before it asked, and
// a member from when it granted; clocks may run up to 10 % fast or slow. A
// member that has started, or to whom the members have changed, grants nothing
// new for MaxTerm, since it does not know what was granted.
package lease

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

// Session is a connection that a claimant asks by. The claimant's end drops the
// grants that it got by one before it closes it; see Machine.SessionEnded.
// 0: the node's own voice, which needs none.
type Session uint64

// Hold is how long a claimant counts on a grant, from before it asked, on its
// own clock: 9/11 of the term. With clocks that run between 0.9
// and 1.1 of the true speed, its end is never after the grant's.
func Hold(term time.Duration) time.Duration { return term / 11 * 9 }

// Machine is one node's part: member and claimant in one. It is pure: times are
// readings of one clock of the node's that also counts while it is suspended,
// and messages to send are returned by Take. It is not safe for concurrent use.
type Machine struct {
	self   string
	life   uint64
	epoch  uint64
	chance func(below time.Duration) time.Duration

	members    []string // sorted, this node included if it is one
	view       uint64   // their digest
	quietUntil time.Duration
	retired    bool // another process of the node has its part: see HandOver

	voices map[string]*voice
	claims map[string]*claim
	out    []Envelope
}

// Setup is what a Machine starts with.
type Setup struct {
	Self string
	// Life tells this process from others of the same node: a random number.
	Life uint64
	// Epoch is what epochs start above. Safety does not rest on it.
	Epoch uint64
	// Chance gives a random duration from 0 to below one. Required.
	Chance func(below time.Duration) time.Duration
}

// New makes the machine of a process that starts now.
func New(s Setup, now time.Duration) *Machine {
	return &Machine{
		self: s.Self, life: s.Life, epoch: s.Epoch, chance: s.Chance,
		quietUntil: now + MaxTerm,
		voices:     make(map[string]*voice), claims: make(map[string]*claim),
	}
}

// SetMembers names those who have a voice. Two nodes agree only while they know
// the same members: views that differ by more than one change would have
// majorities that share nobody.
func (m *Machine) SetMembers(names []string, now time.Duration) {
	members := slices.Clone(names)
	slices.Sort(members)
	members = slices.Compact(members)
	if m.retired || slices.Equal(members, m.members) {
		return
	}
	m.members = members
	h := fnv.New64a()
	for _, name := range members {
		_, _ = h.Write([]byte(name))
		_, _ = h.Write([]byte{0})
	}
	m.view = h.Sum64()
	m.quietUntil = max(m.quietUntil, now+MaxTerm)
	for _, c := range m.claims {
		for peer := range c.granted {
			if !slices.Contains(members, peer) {
				delete(c.granted, peer)
			}
		}
	}
}

// quorum is how many voices are a majority.
func (m *Machine) quorum() int { return len(m.members)/2 + 1 }

// Take returns the messages to send since the last call. Who sends them may
// lose any of them.
func (m *Machine) Take() []Envelope {
	out := m.out
	m.out = nil
	return out
}

// Receive takes a message that came from a member. Of a session that has been
// given to SessionEnded or PeerLost, nothing more may be handed in.
func (m *Machine) Receive(from string, session Session, msg Message, now time.Duration) {
	if msg.check() != nil || !slices.Contains(m.members, from) {
		return
	}
	switch msg.Kind {
	case Ask:
		if msg.Claim.Node == from {
			m.send(from, m.asked(session, msg, now))
		}
	case Release:
		if msg.Claim.Node == from {
			m.released(msg.Claim, msg.Resource, msg.Keep, now)
		}
	case Grant, Refuse:
		m.answered(from, msg, now)
	}
}

// Tick does what is due at the time. Call it at Next, or whenever convenient.
func (m *Machine) Tick(now time.Duration) {
	for _, resource := range sortedKeys(m.claims) {
		m.step(resource, m.claims[resource], now)
	}
}

// Next is when Tick has something to do.
func (m *Machine) Next(now time.Duration) time.Duration {
	next := now + MaxTerm
	for resource, c := range m.claims {
		next = min(next, m.nextOf(resource, c, now))
	}
	return max(next, now)
}

// send puts a message out.
func (m *Machine) send(to string, msg Message) {
	m.out = append(m.out, Envelope{To: to, Message: msg})
}

func sortedKeys[V any](in map[string]V) []string { return slices.Sorted(maps.Keys(in)) }
