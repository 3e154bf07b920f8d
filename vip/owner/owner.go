// Package owner decides whether this node answers for a VIP on its link: from
// the lease and from what is observed here, to hold, release or claim, always
// with a reason. It is pure: observation and time in, decision out.
package owner

import (
	"fmt"
	"time"
)

// Takeover is what to do when no majority of the members can be reached.
type Takeover string

const (
	// Strict: nobody answers without a lease.
	Strict Takeover = "strict"
	// LastResort: a node that hears nobody answer for the VIP answers for it.
	LastResort Takeover = "last-resort"
)

// Policy is how a VIP is to be held.
type Policy struct {
	Takeover Takeover
	// Preempt gives the VIP over to a node that suits better, once that one has
	// been there for PreemptDelay.
	Preempt      bool
	PreemptDelay time.Duration
	// Lease is its term: a majority that is silent for as long is out of reach.
	Lease time.Duration
	// Place of this node in the order in which nodes try a last resort, from 0.
	Place int
}

// Probe is what asking the link for the VIP's owner has shown.
type Probe int

const (
	// NotProbed: nothing has been asked, or the answer is awaited.
	NotProbed Probe = iota
	// Silent: nobody has answered.
	Silent
	// Answered: somebody has, or asks the same at the same time.
	Answered
)

// Observation is what a decision is based on.
type Observation struct {
	GateOpen bool
	Carrier  bool
	Trouble  string // why the link cannot be used at all; empty: it can
	// Held says that this node has the lease. Holder is who has it, if known.
	Held   bool
	Holder string
	// Unanswered is how long no majority of the members has answered.
	Unanswered time.Duration
	// Better is a node that would hold the VIP and has a higher rank; empty: none.
	Better string
	// Rival says that somebody else has answered for the VIP since the last step.
	Rival bool
	// Probed is the result of the probe that the last decision asked for.
	Probed Probe
}

// Code is why a VIP is held or not.
type Code string

const (
	CodeLease      Code = "lease"       // held by lease
	CodeLastResort Code = "last-resort" // held without one: no majority, and nobody else answers
	CodeGate       Code = "gate-closed"
	CodeCarrier    Code = "no-carrier"
	CodeLink       Code = "link-unusable"
	CodeConflict   Code = "conflict" // another machine has the address
	CodeYielded    Code = "yielded"  // to a node that suits better
	CodeOther      Code = "held-by-other"
	CodeAsking     Code = "asking"      // the lease is free, or seems to be
	CodeMajority   Code = "no-majority" // and the VIP is strict, or the probe is not over
)

// Decision is what follows.
type Decision struct {
	// Answer for the VIP. With a lease, only while it is held at that very moment.
	Answer bool
	// Ask for the lease; false: give it back, after having fallen silent.
	Ask bool
	// Bid to the others as one who would hold it.
	Bid bool
	// Probe whether anybody answers for the VIP, and tell with the next Observation.
	Probe bool
	// Defend tells the link once more who has the VIP (RFC 5227 section 2.4).
	Defend  bool
	Code    Code
	Message string
}

// Times of the last resort and of conflicts.
const (
	placeWait  = 500 * time.Millisecond // for each place before this node's
	probeAgain = time.Second
	// defendInterval is RFC 5227's DEFEND_INTERVAL (section 1.1): a second conflict
	// within it is not defended against.
	defendInterval = 10 * time.Second
	// stepDown is how long a node that lost a conflict stays away.
	stepDown = 10 * time.Second
	// yieldFor is how long a node that gave a VIP over does not ask for it.
	yieldFor = time.Second
)

// Owner is the state of one VIP on this node.
type Owner struct {
	Conflicts uint64 // seen while this node answered
	last      Decision

	lostAt      time.Time // the majority went out of reach
	probeAt     time.Time // not to be probed before
	probing     bool
	resort      bool      // answers without a lease
	defendedAt  time.Time // zero: never
	awayUntil   time.Time
	betterSince time.Time
	yieldUntil  time.Time
}

// Decision is the last one.
func (o *Owner) Decision() Decision { return o.last }

// Step decides anew.
func (o *Owner) Step(p Policy, see Observation, now time.Time) Decision {
	o.last = o.decide(p, see, now)
	if !o.last.Answer || o.last.Code != CodeLastResort {
		o.resort = false
	}
	o.probing = o.last.Probe
	return o.last
}

func (o *Owner) decide(p Policy, see Observation, now time.Time) Decision {
	switch {
	case see.Trouble != "":
		return Decision{Code: CodeLink, Message: see.Trouble}
	case !see.Carrier:
		return Decision{Code: CodeCarrier, Message: "the link has no carrier"}
	case !see.GateOpen:
		return Decision{Code: CodeGate, Message: "the gate is closed"}
	}
	defend := false
	// Who has just lost the lease hears its follower, and there is no conflict.
	if see.Rival && o.last.Answer && (see.Held || o.resort) {
		o.Conflicts++
		again := !o.defendedAt.IsZero() && now.Sub(o.defendedAt) < defendInterval
		if o.resort || again {
			o.awayUntil = now.Add(stepDown) // the other may have the lease, or won't go
		}
		defend, o.defendedAt = true, now
	}
	if now.Before(o.awayUntil) {
		return Decision{Code: CodeConflict, Message: fmt.Sprintf("another machine answers for the address; tried again in %s", o.awayUntil.Sub(now).Round(time.Second))}
	}
	if see.Held {
		return o.held(p, see, defend, now)
	}
	o.betterSince = time.Time{}
	if now.Before(o.yieldUntil) {
		return Decision{Code: CodeYielded, Message: "given over to a node of higher rank"}
	}
	if see.Unanswered < p.Lease {
		o.lostAt, o.probeAt = time.Time{}, time.Time{}
		if see.Holder != "" {
			return Decision{Ask: true, Bid: true, Code: CodeOther, Message: "held by " + see.Holder}
		}
		return Decision{Ask: true, Bid: true, Code: CodeAsking, Message: "asking the members for the lease"}
	}
	return o.alone(p, see, now)
}

// held is the case of a lease.
func (o *Owner) held(p Policy, see Observation, defend bool, now time.Time) Decision {
	o.lostAt = time.Time{}
	if see.Better == "" || !p.Preempt {
		o.betterSince = time.Time{}
	} else if o.betterSince.IsZero() {
		o.betterSince = now
	}
	if !o.betterSince.IsZero() && now.Sub(o.betterSince) >= p.PreemptDelay {
		o.betterSince, o.yieldUntil = time.Time{}, now.Add(yieldFor)
		return Decision{Code: CodeYielded, Message: "given over to " + see.Better + ", which has a higher rank"}
	}
	return Decision{Answer: true, Ask: true, Bid: true, Defend: defend, Code: CodeLease, Message: "held by lease"}
}

// alone is the case of no majority.
func (o *Owner) alone(p Policy, see Observation, now time.Time) Decision {
	const message = "a majority of the members is out of reach"
	waits := Decision{Ask: true, Bid: true, Code: CodeMajority, Message: message}
	if p.Takeover != LastResort {
		return waits
	}
	if o.resort {
		return Decision{Answer: true, Ask: true, Bid: true, Code: CodeLastResort, Message: message + ", and nobody else answers for the VIP"}
	}
	if o.lostAt.IsZero() {
		o.lostAt = now
		o.probeAt = now.Add(time.Duration(p.Place) * placeWait)
	}
	if o.probing {
		switch see.Probed {
		case Silent:
			o.resort = true
			return Decision{Answer: true, Ask: true, Bid: true, Code: CodeLastResort, Message: message + ", and nobody else answers for the VIP"}
		case Answered:
			o.probeAt = now.Add(probeAgain + time.Duration(p.Place)*placeWait)
			waits.Message = message + ", and another node answers for the VIP"
			return waits
		case NotProbed:
			waits.Probe = true
			return waits
		}
	}
	waits.Probe = !now.Before(o.probeAt)
	return waits
}

// Next is when a decision may change without an event; zero: not before one.
func (o *Owner) Next(p Policy, now time.Time) time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	sooner(o.awayUntil)
	sooner(o.yieldUntil)
	sooner(o.probeAt)
	if !o.betterSince.IsZero() {
		sooner(o.betterSince.Add(p.PreemptDelay))
	}
	return next
}
