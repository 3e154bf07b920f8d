package node

import (
	"math"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/bgp"
)

// DrainPhase is how far a drain has come.
type DrainPhase string

// The phases, in order. A node that announces nothing goes without DrainShutting.
const (
	// DrainFinishing: HTTP clients are told to go, and what is in flight may end
	// while the routers still send its packets here; nobody is refused.
	DrainFinishing DrainPhase = "finishing"
	// DrainShutting: the routes carry GRACEFUL_SHUTDOWN and worse attributes
	// (RFC 8326): routers that have another way take it, and those that have none
	// keep this one.
	DrainShutting DrainPhase = "shutting"
	// DrainWithdrawn: nothing is announced, and whoever still comes is served.
	DrainWithdrawn DrainPhase = "withdrawn"
	// DrainClosing: the listeners close, and what is left may end until the
	// deadline.
	DrainClosing DrainPhase = "closing"
)

// lingerShare is the part of a drain's time that connections in flight get to
// end by themselves before the routers are told to send their packets elsewhere.
const lingerShare = 2

// How long a drain waits, after it has told the routers something, for them to
// have taken it in: at least convergeMin (FRR needs about 70 ms from UPDATE to
// forwarding table), and until no connection has arrived for convergeQuiet; at
// most convergeMax, since a router that ignores us must not stop a drain.
// Clients go on arriving in DrainShutting where there is no other way.
const (
	convergeMin   = 300 * time.Millisecond
	convergeQuiet = 200 * time.Millisecond
	convergeMax   = 3 * time.Second
)

// drainObservation is what a drain decides on.
type drainObservation struct {
	Lingering int    // what was in flight when it began, and still is
	Accepted  uint64 // connections, since start
	Expired   bool   // its time is over
}

// drainPlan is a drain under way. It is a value: Step returns the next one.
type drainPlan struct {
	Phase DrainPhase

	announces bool // there is something to be told to routers
	start     time.Time
	deadline  time.Time // zero: none
	since     time.Time // of the phase
	accepted  uint64
	arrived   time.Time // when a connection was seen to have arrived, in this phase; zero: not looked yet
}

func newDrainPlan(start, deadline time.Time, announces bool) drainPlan {
	return drainPlan{Phase: DrainFinishing, announces: announces, start: start, deadline: deadline, since: start}
}

// Step judges an observation made at now. It moves by one phase at most.
func (p drainPlan) Step(o drainObservation, now time.Time) drainPlan {
	if p.arrived.IsZero() || o.Accepted != p.accepted {
		p.accepted, p.arrived = o.Accepted, now
	}
	waited := now.Sub(p.since)
	quiet := waited >= convergeMax || waited >= convergeMin && now.Sub(p.arrived) >= convergeQuiet
	switch p.Phase {
	case DrainFinishing:
		if o.Lingering > 0 && !o.Expired && !p.lingeredEnough(now) {
			return p
		}
		if p.announces && !o.Expired {
			return p.enter(DrainShutting, now)
		}
		return p.enter(DrainWithdrawn, now)
	case DrainShutting:
		if quiet || o.Expired {
			return p.enter(DrainWithdrawn, now)
		}
	case DrainWithdrawn:
		if quiet || o.Expired {
			return p.enter(DrainClosing, now)
		}
	}
	return p
}

func (p drainPlan) lingeredEnough(now time.Time) bool {
	return !p.deadline.IsZero() && now.Sub(p.start) >= p.deadline.Sub(p.start)/lingerShare
}

func (p drainPlan) enter(phase DrainPhase, now time.Time) drainPlan {
	p.Phase, p.since, p.arrived = phase, now, time.Time{}
	return p
}

// gracefulShutdown is GRACEFUL_SHUTDOWN, 65535:0 (RFC 8326 section 5): a router
// that knows it gives the route its lowest preference.
const gracefulShutdown = 0xFFFF0000

// shutPrepend is how much longer the path of a route gets that is about to be
// withdrawn, for routers that do not know the community; its MED is the highest
// that there is. shutLongest bounds it: routers refuse long paths.
const (
	shutPrepend = 3
	shutLongest = 16
)

// worse is state with routes that are the last choice of whoever has another.
func worse(state bgp.State) bgp.State {
	state.Neighbors = slices.Clone(state.Neighbors)
	for i := range state.Neighbors {
		routes := slices.Clone(state.Neighbors[i].Routes)
		for j := range routes {
			med := uint32(math.MaxUint32)
			r := &routes[j]
			r.Communities = append(slices.Clone(r.Communities), gracefulShutdown)
			r.MED, r.Prepend = &med, max(r.Prepend, min(r.Prepend+shutPrepend, shutLongest))
		}
		state.Neighbors[i].Routes = routes
	}
	return state
}
