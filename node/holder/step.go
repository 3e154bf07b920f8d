package holder

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/cluster/lease"
	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/vip/owner"
)

// vip is what there is of one VIP. It belongs to Holder.mu.
type vip struct {
	VIP
	owner    owner.Owner
	schedule owner.Schedule
	wires    []wire
	state    lease.State
	others   []string // nodes that would hold it as well, at the last step
	since    time.Time
	held     uint64    // times that this node came to hold it
	heldLast bool      // this node was the last holder that it knows of
	lonely   time.Time // when a majority will have been silent for too long

	probing context.CancelFunc // nil: no probe is under way
	probed  owner.Probe
}

// firstMoments is how long after a takeover a rival is none: what the former
// holder sent may still be on its way.
const firstMoments = 50 * time.Millisecond

// goFirst is what each place in the order of those who would have a VIP waits, so
// that the first gets it without a contest.
const (
	goFirst  = 10 * time.Millisecond
	goFirsts = 5 // places; those behind wait no longer
)

// stepVIP decides anew about one VIP, and carries it out. The caller holds mu.
func (h *Holder) stepVIP(v *vip, now time.Time) {
	was := v.owner.Decision()
	see, bidders := h.observe(v, now)
	policy := v.Policy
	if policy.Place++; v.heldLast {
		policy.Place = 0 // it answered last: clients know it
	}
	conflicts := v.owner.Conflicts
	d := v.owner.Step(policy, see, now)
	if v.owner.Conflicts > conflicts {
		h.logger.Warn("another machine answers for a VIP", "vip", v.Name, "conflicts", v.owner.Conflicts, "step_down", !d.Answer)
	}
	h.followProbe(v, d)
	switch {
	case !d.Answer: // silent first, then given back
		h.guard.refuse(v.Addresses)
		v.schedule.Stop()
	case d.Code == owner.CodeLastResort:
		h.guard.allow(v.Name, v.Addresses, lastResort)
	default:
		h.guard.allow(v.Name, v.Addresses, byLease)
	}
	if h.leases != nil {
		h.leases.SetWant(v.Name, d.Bid, v.want(d, h.cfg.Self, v.state.Holder, bidders))
	}
	h.tell(v, was, d, now)
	if d.Defend || d.Answer && v.cameBack(h.cfg.Self, bidders) {
		v.schedule.Begin(now)
	}
	if v.schedule.Due(now) {
		h.announce(v)
	}
}

// observe collects what is decided on.
func (h *Holder) observe(v *vip, now time.Time) (owner.Observation, []agent.Bidder) {
	see := owner.Observation{GateOpen: v.Open, Carrier: true, Probed: v.probed}
	for _, w := range v.wires {
		see.Trouble = cmp.Or(see.Trouble, w.trouble)
		see.Carrier = see.Carrier && w.carrier
		if other, ok := h.rivals[w.address]; ok {
			delete(h.rivals, w.address)
			if v.owner.Decision().Answer && now.Sub(v.since) >= firstMoments {
				see.Rival = true
				h.logger.Info("another machine claims a VIP", "vip", v.Name, "address", w.address.String(), "interface", w.on, "mac", other.String())
			}
		}
	}
	v.probed, v.lonely = owner.NotProbed, time.Time{}
	if h.leases == nil {
		v.state = lease.State{}
		return see, nil
	}
	bidders := h.leases.Bidders(v.Name)
	var unanswered time.Duration
	v.state, unanswered = h.leases.State(v.Name)
	see.Held, see.Holder = v.state.Held, v.state.Holder
	if see.Holder == h.cfg.Self {
		see.Holder = ""
	}
	v.heldLast = (v.heldLast || see.Held) && see.Holder == ""
	// Before its sessions have had time to open, silence means nothing.
	if v.state.Answered == 0 { // nothing has been asked yet
		unanswered = 0
	}
	if now.Before(h.settled) {
		v.lonely = h.settled
	} else if see.Unanswered = unanswered; !see.Held && unanswered < v.Policy.Lease {
		v.lonely = now.Add(v.Policy.Lease - unanswered)
	}
	if len(bidders) > 0 && bidders[0].Node != h.cfg.Self && bidders[0].Rank > v.Rank {
		see.Better = bidders[0].Node
	}
	if v.Leaving && slices.ContainsFunc(bidders, func(b agent.Bidder) bool { return b.Node != h.cfg.Self }) {
		see.GateOpen = false
	}
	return see, bidders
}

// want is what to have of the lease.
func (v *vip) want(d owner.Decision, self, holder string, bidders []agent.Bidder) lease.Want {
	if !d.Ask {
		return lease.Want{}
	}
	place := 0
	for _, b := range bidders {
		if b.Node == self {
			break
		}
		if b.Node != holder {
			place++
		}
	}
	return lease.Want{
		Hold: true, Rank: v.Rank, Term: v.Policy.Lease, Renew: RenewOf(v.Policy.Lease),
		Delay: time.Duration(min(place, goFirsts)) * goFirst,
	}
}

// RenewOf is how often a lease is renewed: often enough that one renewal in a row
// may be lost.
func RenewOf(term time.Duration) time.Duration { return lease.Hold(term) * 2 / 5 }

// cameBack notes who would hold the VIP, and says whether somebody does that did
// not: a partition may have healed, in whose other part clients know another
// holder.
func (v *vip) cameBack(self string, bidders []agent.Bidder) bool {
	var others []string
	came := false
	for _, b := range bidders {
		if b.Node != self {
			others = append(others, b.Node)
			came = came || !slices.Contains(v.others, b.Node)
		}
	}
	v.others = others
	return came
}

// tell notes and logs a change.
func (h *Holder) tell(v *vip, was, is owner.Decision, now time.Time) {
	switch {
	case is.Answer && (!was.Answer || was.Code != is.Code):
		if !was.Answer {
			v.held++
			v.since = now
		}
		v.schedule.Begin(now)
		h.logger.Info("VIP held", "vip", v.Name, "reason", string(is.Code), "epoch", v.state.Epoch, "message", is.Message)
	case was.Answer && !is.Answer:
		v.since = now
		h.logger.Info("VIP released", "vip", v.Name, "reason", string(is.Code), "message", is.Message)
	case was.Code != is.Code:
		v.since = now
		h.logger.Info("VIP not held", "vip", v.Name, "reason", string(is.Code), "message", is.Message)
	}
}

// announce tells the links that the VIP is here.
func (h *Holder) announce(v *vip) {
	for _, w := range v.wires {
		if w.port == nil {
			continue
		}
		if err := w.port.link.Announce(w.address); err != nil {
			h.logger.Warn("a VIP could not be announced", "vip", v.Name, "error", err)
		}
	}
}

// followProbe begins a probe, or ends it.
func (h *Holder) followProbe(v *vip, d owner.Decision) {
	if !d.Probe {
		v.quit()
		return
	}
	if v.probing != nil {
		return
	}
	ctx, cancel := context.WithCancel(h.ctx)
	v.probing = cancel
	wires := slices.Clone(v.wires)
	h.group.Go(func() {
		defer cancel()
		found := probe(ctx, wires)
		h.mu.Lock()
		defer h.mu.Unlock()
		if ctx.Err() == nil {
			v.probing, v.probed = nil, found
			h.nudge()
		}
	})
}

// probe asks the links for each address at once.
func probe(ctx context.Context, wires []wire) owner.Probe {
	answered := make([]bool, len(wires))
	var group sync.WaitGroup
	for i, w := range wires {
		group.Go(func() {
			heard, err := w.port.link.Probe(ctx, w.address)
			answered[i] = heard || err != nil // what could not be asked is not known to be silent
		})
	}
	group.Wait()
	if slices.Contains(answered, true) {
		return owner.Answered
	}
	return owner.Silent
}

// quit ends a probe that is of no interest any more.
func (v *vip) quit() {
	if v.probing != nil {
		v.probing()
		v.probing = nil
	}
	v.probed = owner.NotProbed
}
