package lease

import (
	"cmp"
	"time"
)

// voice is what a member has given for one resource. The one rule that makes a
// lease safe: it backs one claim at a time, and another one only once the
// first has expired, or its claimant has said that it counts on it no more.
type voice struct {
	claim   Claim         // zero: none, or it was released
	until   time.Duration // on this node's clock; not after now: it backs nobody
	seq     uint64        // the newest ask of the claim
	session Session       // that the newest ask came by
	seen    uint64        // the highest epoch given a voice, ever
	// kept: the claim has ended, and any of its node's may take its place until then.
	kept bool
	// ended has, by node, the highest epoch of its claims that it has given up.
	ended map[string]uint64
	other time.Duration // when it ended, or will, to back a claim of another node; 0: never did
}

func (v *voice) given(now time.Duration) bool { return now < v.until }

func (v *voice) keptFor(node string) bool { return v.kept && v.claim.Node == node }

// asked answers one ask.
func (m *Machine) asked(session Session, ask Message, now time.Duration) Message {
	v := m.voiceOf(ask.Resource)
	m.yield(v, ask, now)
	answer := Message{Kind: Refuse, Resource: ask.Resource, Claim: ask.Claim, Seq: ask.Seq, Seen: v.seen}
	mine := v.given(now) && v.claim == ask.Claim && !v.kept
	switch {
	case ask.View != m.view:
		answer.Refusal = RefusedView
	case v.given(now) && !mine && !v.keptFor(ask.Claim.Node):
		answer.Refusal, answer.Holder = RefusedHeld, v.claim.Node
	case now < m.quietUntil && !mine:
		answer.Refusal = RefusedQuiet
	case v.claim == ask.Claim && ask.Seq <= v.seq:
		// An old ask, late: its claimant has newer answers, or closed its session.
		answer.Refusal = RefusedEpoch
	case v.claim != ask.Claim && ask.Claim.Epoch <= v.ended[ask.Claim.Node]:
		answer.Refusal = RefusedEpoch
	case v.claim != ask.Claim && ask.Claim.Epoch <= v.seen && !ask.Held:
		// Epochs rise from holder to holder. A claim that is held has its place in
		// the order; what failed beside it with a higher epoch must not keep it from
		// a voice, or the holder would hang on a bare majority.
		answer.Refusal = RefusedEpoch
	default:
		v.kept = false
		v.claim, v.seq, v.session, v.seen = ask.Claim, ask.Seq, session, max(v.seen, ask.Claim.Epoch)
		v.until = now + ask.Term
		if ask.Claim.Node != m.self {
			v.other = v.until
		}
		answer.Kind = Grant
	}
	return answer
}

// yield ends this node's own attempt, which has no majority yet, before a
// better one, so that two that ask at once don't keep each other from it. A
// claim may be ended by its own node at any time.
func (m *Machine) yield(v *voice, ask Message, now time.Duration) {
	c := m.claims[ask.Resource]
	if c == nil || c.held || c.claim.Epoch == 0 || !v.given(now) || v.claim != c.claim || ask.View != m.view || ask.Claim.Node == m.self {
		return
	}
	if cmp.Or(cmp.Compare(ask.Rank, c.want.Rank), cmp.Compare(m.self, ask.Claim.Node)) > 0 {
		m.giveUp(ask.Resource, c, now)
		m.backOff(c, now)
	}
}

// released takes a voice back from a claim that has ended, to give it to whoever
// asks next or to keep it for the claimant's next process. Asks of it that are
// still on their way are refused from here on.
func (m *Machine) released(claim Claim, resource string, keep bool, now time.Duration) {
	v := m.voiceOf(resource)
	switch {
	case v.claim != claim || v.kept:
	case keep && v.given(now):
		v.kept, v.session, v.until = true, 0, now+keepFor
		if claim.Node != m.self {
			v.other = v.until
		}
	default:
		m.free(resource, v, now)
		v.claim = Claim{}
	}
	v.seen = max(v.seen, claim.Epoch)
	v.ended[claim.Node] = max(v.ended[claim.Node], claim.Epoch)
}

func (m *Machine) free(resource string, v *voice, now time.Duration) {
	if v.given(now) {
		v.until, v.other = now, min(v.other, now)
		m.hurry(resource, now)
	}
}

// SessionEnded says that the claimant at the other end of a session has closed
// it, or has ended: it counts on no voice given by it any more. It must not be
// called for a connection that broke in another way, such as by a reset that
// any box on the way can forge.
func (m *Machine) SessionEnded(session Session, now time.Duration) {
	for resource, v := range m.voices {
		if v.session == session && v.session != 0 {
			m.free(resource, v, now)
		}
	}
}

func (m *Machine) voiceOf(resource string) *voice {
	v := m.voices[resource]
	if v == nil {
		v = &voice{ended: make(map[string]uint64)}
		m.voices[resource] = v
	}
	return v
}
