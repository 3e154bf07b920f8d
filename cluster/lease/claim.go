package lease

import (
	"maps"
	"slices"
	"time"
)

// claim is what this node has, or wants, of one resource.
type claim struct {
	want  Want
	claim Claim // zero epoch: no attempt is under way
	seq   uint64
	sent  []ask // the asks whose answers still count, oldest first
	// granted is, by member, how long the claim counts on its grant: Hold(term)
	// from when the newest ask that it granted was sent.
	granted map[string]time.Duration
	refused map[string]bool // members that refused the attempt
	held    bool            // it has had a majority
	begun   time.Duration   // when the attempt was made
	renewAt time.Duration
	tryAt   time.Duration
	holder  string // as another member told last
	quorate time.Duration
}

type ask struct {
	seq  uint64
	ends time.Duration // of a grant of it, as the claim counts
}

// Want is what this node would do with a resource.
type Want struct {
	// Hold: it would hold it. Otherwise it gives it back.
	Hold bool
	// Term is how long each voice is given for, above 0 and at most MaxTerm.
	// Renew is how often it is asked for again: a third of the term or less.
	Term, Renew time.Duration
	// Delay is how long it lets others go first, once it finds the resource free.
	Delay time.Duration
	// Rank settles who goes first where several ask at once: the highest.
	Rank uint32
}

// State is what this node knows of a resource.
type State struct {
	Held  bool
	Epoch uint64 // if held
	// Until is when it ends to be held, unless a majority grants it anew. Whoever
	// acts on it compares it with the clock at that very moment.
	Until time.Duration
	// Holder is who has this node's voice, or else was named by the last refusal.
	// It may be out of date.
	Holder string
	// Answered is when a majority of the members answered an ask last, whatever
	// they said, or else when this node last backed another that had the resource,
	// or began to want it. While it backs another, it does not ask.
	Answered time.Duration
}

// SetWant says what to do with a resource from now on. A claim that is given up
// is silent to others before the release is sent: it has ended when this
// returns, so the caller must have stopped acting on it.
func (m *Machine) SetWant(resource string, w Want, now time.Duration) {
	c := m.claims[resource]
	if c == nil {
		if !w.Hold {
			return
		}
		c = &claim{}
		m.claims[resource] = c
	}
	if w.Hold && !c.want.Hold {
		c.tryAt, c.quorate = now+w.Delay, now
	}
	c.want = w
	if !w.Hold {
		m.giveUp(resource, c, now)
		return
	}
	m.step(resource, c, now)
}

// Forget drops a resource that is configured no more. Its voice stays.
func (m *Machine) Forget(resource string, now time.Duration) {
	if c := m.claims[resource]; c != nil {
		m.giveUp(resource, c, now)
		delete(m.claims, resource)
	}
}

// PeerLost says that the session by which this node asked a member is about to
// be closed. Its grants end here, before the member can learn of it.
func (m *Machine) PeerLost(peer string, now time.Duration) {
	for _, resource := range sortedKeys(m.claims) {
		c := m.claims[resource]
		delete(c.granted, peer)
		c.sent = nil // answers to what went before do not count
		if c.claim.Epoch > 0 {
			c.renewAt = now
		}
		m.step(resource, c, now)
	}
}

// State of a resource at a time.
func (m *Machine) State(resource string, now time.Duration) State {
	var s State
	if v := m.voices[resource]; v != nil {
		s.Answered = min(v.other, now)
		if v.given(now) {
			s.Holder = v.claim.Node
		}
	}
	c := m.claims[resource]
	if c == nil {
		return s
	}
	s.Answered = max(s.Answered, c.quorate)
	if s.Holder == "" {
		s.Holder = c.holder
	}
	if until, ok := m.until(c); ok && now < until {
		s.Held, s.Until, s.Epoch, s.Holder = true, until, c.claim.Epoch, m.self
	}
	return s
}

// until is when the claim loses its majority, if it has one.
func (m *Machine) until(c *claim) (time.Duration, bool) {
	if c.claim.Epoch == 0 || len(m.members) == 0 || len(c.granted) < m.quorum() {
		return 0, false
	}
	ends := slices.Sorted(maps.Values(c.granted))
	return ends[len(ends)-m.quorum()], true
}

// step does what is due for one resource.
func (m *Machine) step(resource string, c *claim, now time.Duration) {
	if !c.want.Hold {
		return
	}
	until, majority := m.until(c)
	if c.claim.Epoch > 0 && majority && now >= until || c.claim.Epoch > 0 && c.held && !majority {
		m.giveUp(resource, c, now) // the majority is lost: a claim ends once
		c.tryAt = now + m.chance(c.want.Renew)
	}
	switch {
	case c.claim.Epoch == 0:
		m.attempt(resource, c, now)
	case !majority && now-c.begun >= c.want.Renew:
		m.giveUp(resource, c, now)
		m.backOff(c, now)
	case now >= c.renewAt:
		m.askAll(resource, c, now)
	}
}

// attempt begins a new claim, unless this node's own voice tells that there is
// no hope.
func (m *Machine) attempt(resource string, c *claim, now time.Duration) {
	v := m.voiceOf(resource)
	if now < c.tryAt || !slices.Contains(m.members, m.self) {
		return
	}
	if v.given(now) && !v.claim.sameProcess(Claim{Node: m.self, Life: m.life}) && !v.keptFor(m.self) {
		return // Next is its end
	}
	m.epoch = max(m.epoch, v.seen) + 1
	c.claim = Claim{Node: m.self, Life: m.life, Epoch: m.epoch}
	c.granted, c.refused, c.held, c.begun, c.sent = make(map[string]time.Duration), make(map[string]bool), false, now, nil
	c.seq = 0
	m.askAll(resource, c, now)
}

// askAll asks every member for its voice. The time counts from here.
func (m *Machine) askAll(resource string, c *claim, now time.Duration) {
	c.seq++
	c.sent = slices.DeleteFunc(c.sent, func(a ask) bool { return now >= a.ends })
	c.sent = append(c.sent, ask{c.seq, now + Hold(c.want.Term)})
	c.renewAt = now + c.want.Renew
	if !c.held {
		c.renewAt = now + c.want.Renew/4 // who refused may be free meanwhile
	}
	msg := Message{Kind: Ask, Resource: resource, Claim: c.claim, Seq: c.seq, View: m.view, Term: c.want.Term, Rank: c.want.Rank, Held: c.held}
	for _, peer := range m.members {
		if peer != m.self {
			m.send(peer, msg)
		}
	}
	m.answered(m.self, m.asked(0, msg, now), now)
}

// answered takes a member's answer to an ask.
func (m *Machine) answered(from string, msg Message, now time.Duration) {
	c := m.claims[msg.Resource]
	m.epoch = max(m.epoch, msg.Seen)
	if c == nil || c.claim.Epoch == 0 || msg.Claim != c.claim {
		return
	}
	i := slices.IndexFunc(c.sent, func(a ask) bool { return a.seq == msg.Seq })
	if i < 0 {
		return
	}
	if msg.Kind == Grant {
		c.granted[from] = max(c.granted[from], c.sent[i].ends)
		delete(c.refused, from)
		if len(c.granted) >= m.quorum() {
			if !c.held {
				c.renewAt = now + c.want.Renew
			}
			c.held, c.holder = true, ""
		}
	} else {
		c.refused[from] = true
		if msg.Holder != "" {
			c.holder = msg.Holder
		}
	}
	if len(c.granted)+len(c.refused) >= m.quorum() {
		c.quorate = now
	}
	// It was late by a number alone: another voice told which one.
	if msg.Refusal == RefusedEpoch && !c.held && msg.Seen >= c.claim.Epoch {
		m.giveUp(msg.Resource, c, now)
		c.tryAt = now
		return
	}
	// No majority can come of it: free what it has, and let another one try.
	if !c.held && len(m.members)-len(c.refused) < m.quorum() {
		m.giveUp(msg.Resource, c, now)
		m.backOff(c, now)
	}
}

// backOff lets others go first, and keeps those that failed together from
// failing together again.
func (m *Machine) backOff(c *claim, now time.Duration) {
	c.tryAt = now + c.want.Renew/4 + m.chance(c.want.Renew)
}

// giveUp ends the attempt or the lease, here first and then at the others.
func (m *Machine) giveUp(resource string, c *claim, now time.Duration) {
	m.giveUpFor(resource, c, now, false)
}

// giveUpFor is giveUp; keep: the voices are to be kept for this node's next
// process.
func (m *Machine) giveUpFor(resource string, c *claim, now time.Duration, keep bool) {
	if c.claim.Epoch == 0 {
		return
	}
	ended := c.claim
	c.claim, c.granted, c.refused, c.sent, c.held = Claim{}, nil, nil, nil, false
	m.released(ended, resource, keep, now)
	for _, peer := range m.members {
		if peer != m.self {
			m.send(peer, Message{Kind: Release, Resource: resource, Claim: ended, Keep: keep})
		}
	}
}

// hurry has this node try soon: its own voice has become free.
func (m *Machine) hurry(resource string, now time.Duration) {
	if c := m.claims[resource]; c != nil && c.want.Hold && c.claim.Epoch == 0 {
		c.holder = ""
		c.tryAt = now + c.want.Delay
	}
}

// nextOf is when a resource needs a step.
func (m *Machine) nextOf(resource string, c *claim, now time.Duration) time.Duration {
	if !c.want.Hold || !slices.Contains(m.members, m.self) {
		return now + MaxTerm
	}
	if c.claim.Epoch == 0 {
		next := c.tryAt
		if v := m.voices[resource]; v != nil && v.given(now) && !v.keptFor(m.self) {
			next = max(next, v.until)
		}
		return next
	}
	next := c.renewAt
	if until, ok := m.until(c); ok {
		next = min(next, until)
	} else {
		next = min(next, c.begun+c.want.Renew)
	}
	return next
}
