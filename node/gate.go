package node

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ReasonCode is a fixed word for why a node does not announce a VIP.
type ReasonCode string

// The reasons for which a gate is, or stays, closed.
const (
	ReasonNotApplied    ReasonCode = "configuration_not_applied" // no configuration with this VIP runs here
	ReasonStopping      ReasonCode = "stopping"
	ReasonDraining      ReasonCode = "draining"
	ReasonNoAddress     ReasonCode = "address_missing"    // the VIP is not on the loopback interface
	ReasonNoListener    ReasonCode = "no_listener"        // nothing would answer on it
	ReasonNotAccepting  ReasonCode = "listener_not_bound" // a listener of the VIP does not accept
	ReasonUnproven      ReasonCode = "probe_pending"      // the self-probe has not passed yet
	ReasonProbeFailed   ReasonCode = "probe_failed"       // the self-probe has failed too often in a row
	ReasonStalled       ReasonCode = "event_loop_stalled" // the watchdog waits for an answer
	ReasonDisk          ReasonCode = "disk_full"
	ReasonDescriptors   ReasonCode = "descriptors_exhausted"
	ReasonUnchecked     ReasonCode = "servers_unchecked" // first health checks are still under way
	ReasonTooFewHealthy ReasonCode = "too_few_healthy"   // below the VIP's min_healthy
	ReasonNoNeighbor    ReasonCode = "no_neighbor"       // of the VIP's, none names this node, or none fits a next hop
	ReasonNotSelected   ReasonCode = "node_not_selected" // the VIP's nodes do not name this one
	ReasonHoldDown      ReasonCode = "hold_down"         // all is well again, but not for long enough
)

// Reason is one cause for a closed gate.
type Reason struct {
	Code    ReasonCode
	Message string    // a sentence for a person
	Since   time.Time // when this cause was first seen
}

// Observation is what a gate decides on: the state of one VIP on this node at
// one moment.
type Observation struct {
	Applied      bool     // the running configuration has the VIP
	Stopping     bool     // the process is going away
	Draining     bool     // an operator asked for it
	AddressError string   // why the VIP is not on the loopback interface; empty: it is
	Listeners    int      // how many the VIP has
	NotAccepting []string // listeners of the VIP that are not bound and accepting
	Unchecked    []string // its pools with servers that were never checked
	MinHealthy   int      // the VIP's min_healthy
	Short        []string // its pools with fewer healthy servers than MinHealthy
	Unrouted     bool     // no router is told of it: its neighbors do not matter
	NextHops     int      // neighbor and address pairs that it could be announced to
	NotSelected  bool     // the VIP's nodes do not name this one

	Unproven []string // addresses of its listeners that have not passed a probe yet
	Fallen   []string // those that have failed too many, and why
	// Owed is how long an event loop has owed the watchdog an answer; 0: none
	// owes one for too long.
	Owed        time.Duration
	Disk        string // what is wanting on the disk; empty: nothing
	Descriptors string // why nothing more can be opened; empty: it can

	// FailOpen: what the VIP could be served in spite of closes the gate only
	// where another node is there to announce the VIP without such a fault.
	FailOpen   bool
	OthersWell bool // such a node is there
}

// Hold-downs: a gate that closed for a fault opens again only after all has
// been well for this long, so that a flapping node does not make the router
// spread flows anew each time. It doubles with each fault that follows within
// holdDownMemory of the last, and applies to no planned closing.
const (
	holdDownMin    = 2 * time.Second
	holdDownMax    = time.Minute
	holdDownMemory = 2 * time.Minute
)

// failOpenDelay is how long an open gate stays so after a fault that FailOpen is
// for. Where it is the same on all nodes, as with servers that are down, each
// learns of the others' before it decides (heartbeats take some hundred
// milliseconds), and the VIP is not withdrawn for a moment everywhere.
const failOpenDelay = time.Second

// Gate is the announce-or-refuse state of one VIP. It is a value: Step returns
// the next one. The zero Gate is closed and has never been open.
type Gate struct {
	Open    bool
	Since   time.Time // of the last change of Open; zero: never changed
	Reasons []Reason  // why it is closed; empty exactly when Open
	// Overruled are the faults in spite of which it is open, by FailOpen.
	Overruled []Reason

	holdDown  time.Duration // the last one; the next is twice as long if it comes soon
	serving   bool          // it is to be served before the next opening
	lastFault time.Time
	wellSince time.Time // since when nothing but the hold-down keeps the gate closed
	excused   time.Time // since when the gate is open in spite of something
}

// Well reports whether the node announces the VIP, and nothing speaks against it.
func (g Gate) Well() bool { return g.Open && len(g.Overruled) == 0 }

// Step judges an observation made at now.
func (g Gate) Step(o Observation, now time.Time) Gate {
	found := o.causes(g.Open)
	next := g
	next.Overruled = nil
	overruled := found.onlyExcusable() && o.FailOpen && (!o.OthersWell || g.patient(now))
	if len(found.reasons) > 0 && !overruled {
		next.wellSince, next.excused = time.Time{}, time.Time{}
		if g.Open && found.fault {
			next.holdDown, next.serving = nextHoldDown(g, now), true
			next.lastFault = now
		}
		return next.close(g.aged(found.reasons, now), now)
	}
	if next.wellSince.IsZero() {
		next.wellSince = now
	}
	rest := next.holdDown - now.Sub(next.wellSince)
	// Where nobody else is there, the VIP must not wait.
	if next.serving && rest > 0 && !overruled {
		return next.close(g.aged([]Reason{{
			Code:    ReasonHoldDown,
			Message: fmt.Sprintf("was lost %s ago; must be well for %s before it is announced again", now.Sub(g.lastFault).Round(time.Second), next.holdDown),
		}}, now), now)
	}
	if !g.Open {
		next.Since = now
	}
	next.Open, next.Reasons, next.serving = true, nil, false
	if !overruled {
		next.excused = time.Time{}
		return next
	}
	next.Overruled = g.aged(found.reasons, now)
	if g.excused.IsZero() {
		next.excused = now
	}
	return next
}

// patient reports whether an open gate may wait for what other nodes say.
func (g Gate) patient(now time.Time) bool {
	return g.Open && (g.excused.IsZero() || now.Sub(g.excused) < failOpenDelay)
}

// NextCheck is when Step should be called again though nothing was observed:
// the end of the hold-down, or of the wait for what other nodes say. Zero: no
// such time.
func (g Gate) NextCheck() time.Time {
	switch {
	case g.Open && !g.excused.IsZero():
		return g.excused.Add(failOpenDelay)
	case g.Open || g.wellSince.IsZero() || !g.serving:
		return time.Time{}
	}
	return g.wellSince.Add(g.holdDown)
}

// aged gives causes their age: one that was there before keeps it, whether it
// was overruled or not.
func (g Gate) aged(causes []Reason, now time.Time) []Reason {
	before := slices.Concat(g.Reasons, g.Overruled)
	for i := range causes {
		causes[i].Since = now
		if j := slices.IndexFunc(before, func(r Reason) bool { return r.Code == causes[i].Code }); j >= 0 {
			causes[i].Since = before[j].Since
		}
	}
	return causes
}

// close returns the gate closed for these reasons.
func (g Gate) close(reasons []Reason, now time.Time) Gate {
	if g.Open || g.Since.IsZero() {
		g.Since = now
	}
	g.Open, g.Reasons = false, reasons
	return g
}

func nextHoldDown(g Gate, now time.Time) time.Duration {
	if g.lastFault.IsZero() || now.Sub(g.lastFault) > holdDownMemory {
		return holdDownMin
	}
	return min(max(2*g.holdDown, holdDownMin), holdDownMax)
}

// causes are what speaks against announcing.
type causes struct {
	reasons []Reason
	fault   bool // one of them is a fault rather than somebody's wish
	// weighty: one of them is nothing that the VIP could be served in spite of.
	weighty bool
}

func (c causes) onlyExcusable() bool { return len(c.reasons) > 0 && !c.weighty }

// kind is what a cause is, beside its reason.
type kind int

const (
	wish      kind = iota // it was asked for, or is not known yet
	fault                 // clients would not be served
	excusable             // a fault that the VIP may be served in spite of
)

func (c *causes) add(code ReasonCode, k kind, format string, args ...any) {
	c.reasons = append(c.reasons, Reason{Code: code, Message: fmt.Sprintf(format, args...)})
	c.fault = c.fault || k != wish
	c.weighty = c.weighty || k != excusable
}

// causes lists all that speaks against announcing. What is merely unknown
// (servers never checked, listeners never probed) keeps a closed gate closed, but
// does not close an open one: a new server in a pool is no reason to withdraw.
func (o Observation) causes(open bool) (c causes) {
	if !o.Applied {
		c.add(ReasonNotApplied, wish, "this node runs no configuration that has the VIP")
		return c
	}
	if o.Stopping {
		c.add(ReasonStopping, wish, "the process is stopping")
	}
	if o.Draining {
		c.add(ReasonDraining, wish, "the node is drained: `pharos undrain` brings it back")
	}
	o.plane(&c, open)
	if len(o.Unchecked) > 0 && !open {
		c.add(ReasonUnchecked, wish, "pool %s: the first health checks have not ended", strings.Join(o.Unchecked, ", "))
	}
	if len(o.Short) > 0 && (open || len(o.Unchecked) == 0) {
		c.add(ReasonTooFewHealthy, excusable, "pool %s: fewer than %d healthy servers", strings.Join(o.Short, ", "), o.MinHealthy)
	}
	if o.Disk != "" {
		c.add(ReasonDisk, excusable, "%s", o.Disk)
	}
	if o.Descriptors != "" {
		c.add(ReasonDescriptors, excusable, "%s", o.Descriptors)
	}
	switch {
	case o.NotSelected:
		c.add(ReasonNotSelected, wish, notSelectedMessage)
	case o.NextHops == 0 && !o.Unrouted:
		c.add(ReasonNoNeighbor, wish, "none of the VIP's neighbors names this node, or it has no address of the VIP's family to be the next hop")
	}
	return c
}

// plane lists what is wrong with the VIP's own data plane.
func (o Observation) plane(c *causes, open bool) {
	if o.AddressError != "" {
		c.add(ReasonNoAddress, fault, "the address is not on the loopback interface: %s", o.AddressError)
	}
	if o.Listeners == 0 {
		c.add(ReasonNoListener, wish, "no listener uses the VIP")
	}
	if len(o.NotAccepting) > 0 {
		c.add(ReasonNotAccepting, fault, "listener %s does not accept connections", strings.Join(o.NotAccepting, ", "))
	}
	if len(o.Fallen) > 0 {
		c.add(ReasonProbeFailed, fault, "the node's own probe failed: %s", strings.Join(o.Fallen, "; "))
	}
	if len(o.Unproven) > 0 && !open {
		c.add(ReasonUnproven, wish, "the node's own probe has not passed yet: %s", strings.Join(o.Unproven, ", "))
	}
	if o.Owed > 0 {
		c.add(ReasonStalled, fault, "an event loop has not answered for %s", o.Owed.Round(100*time.Millisecond))
	}
}
