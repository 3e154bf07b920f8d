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
	ReasonUnchecked     ReasonCode = "servers_unchecked"  // first health checks are still under way
	ReasonTooFewHealthy ReasonCode = "too_few_healthy"    // below the VIP's min_healthy
	ReasonNoNeighbor    ReasonCode = "no_neighbor"        // of the VIP's, none names this node, or none fits a next hop
	ReasonNotSelected   ReasonCode = "node_not_selected"  // the VIP's nodes do not name this one
	ReasonHoldDown      ReasonCode = "hold_down"          // all is well again, but not for long enough
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
	NextHops     int      // neighbor and address pairs that it could be announced to
	NotSelected  bool     // the VIP's nodes do not name this one
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

// Gate is the announce-or-refuse state of one VIP. It is a value: Step returns
// the next one. The zero Gate is closed and has never been open.
type Gate struct {
	Open    bool
	Since   time.Time // of the last change of Open; zero: never changed
	Reasons []Reason  // empty exactly when Open

	holdDown  time.Duration // to serve before the next opening; 0: none
	lastFault time.Time
	wellSince time.Time // since when nothing but the hold-down keeps the gate closed
}

// Step judges an observation made at now.
func (g Gate) Step(o Observation, now time.Time) Gate {
	causes, fault := o.causes(g.Open)
	next := g
	if len(causes) > 0 {
		next.wellSince = time.Time{}
		if g.Open && fault {
			next.holdDown = nextHoldDown(g, now)
			next.lastFault = now
		}
		return next.close(causes, now)
	}
	if next.wellSince.IsZero() {
		next.wellSince = now
	}
	if rest := next.holdDown - now.Sub(next.wellSince); rest > 0 {
		return next.close([]Reason{{
			Code:    ReasonHoldDown,
			Message: fmt.Sprintf("was lost %s ago; must be well for %s before it is announced again", now.Sub(g.lastFault).Round(time.Second), next.holdDown),
		}}, now)
	}
	if !g.Open {
		next.Since = now
	}
	next.Open = true
	next.Reasons = nil
	return next
}

// NextCheck is when Step should be called again though nothing was observed:
// the end of the hold-down. Zero: no such time.
func (g Gate) NextCheck() time.Time {
	if g.Open || g.wellSince.IsZero() || g.holdDown == 0 {
		return time.Time{}
	}
	return g.wellSince.Add(g.holdDown)
}

// close returns the gate closed for these causes; a cause that was there
// before keeps its age.
func (g Gate) close(causes []Reason, now time.Time) Gate {
	for i := range causes {
		causes[i].Since = now
		if j := slices.IndexFunc(g.Reasons, func(r Reason) bool { return r.Code == causes[i].Code }); j >= 0 {
			causes[i].Since = g.Reasons[j].Since
		}
	}
	if g.Open || g.Since.IsZero() {
		g.Since = now
	}
	g.Open, g.Reasons = false, causes
	return g
}

func nextHoldDown(g Gate, now time.Time) time.Duration {
	if g.lastFault.IsZero() || now.Sub(g.lastFault) > holdDownMemory {
		return holdDownMin
	}
	return min(max(2*g.holdDown, holdDownMin), holdDownMax)
}

// causes lists all that speaks against announcing, and whether one of them is
// a fault rather than somebody's wish. What is merely unknown (servers never
// checked) keeps a closed gate closed, but does not close an open one: a new
// server in a pool is no reason to withdraw.
func (o Observation) causes(open bool) (causes []Reason, fault bool) {
	add := func(code ReasonCode, isFault bool, format string, args ...any) {
		causes = append(causes, Reason{Code: code, Message: fmt.Sprintf(format, args...)})
		fault = fault || isFault
	}
	if !o.Applied {
		add(ReasonNotApplied, false, "this node runs no configuration that has the VIP")
		return causes, fault
	}
	if o.Stopping {
		add(ReasonStopping, false, "the process is stopping")
	}
	if o.Draining {
		add(ReasonDraining, false, "the node is drained: `pharos undrain` brings it back")
	}
	if o.AddressError != "" {
		add(ReasonNoAddress, true, "the address is not on the loopback interface: %s", o.AddressError)
	}
	if o.Listeners == 0 {
		add(ReasonNoListener, false, "no listener uses the VIP")
	}
	if len(o.NotAccepting) > 0 {
		add(ReasonNotAccepting, true, "listener %s does not accept connections", strings.Join(o.NotAccepting, ", "))
	}
	if len(o.Unchecked) > 0 && !open {
		add(ReasonUnchecked, false, "pool %s: the first health checks have not ended", strings.Join(o.Unchecked, ", "))
	}
	if len(o.Short) > 0 && (open || len(o.Unchecked) == 0) {
		add(ReasonTooFewHealthy, true, "pool %s: fewer than %d healthy servers", strings.Join(o.Short, ", "), o.MinHealthy)
	}
	switch {
	case o.NotSelected:
		add(ReasonNotSelected, false, notSelectedMessage)
	case o.NextHops == 0:
		add(ReasonNoNeighbor, false, "none of the VIP's neighbors names this node, or it has no address of the VIP's family to be the next hop")
	}
	return causes, fault
}
