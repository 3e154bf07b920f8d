// Package oracle judges a drill. It sees the clients' record, the router's
// record and the times of what was done, and nothing that the product says of
// itself. It is pure: a History in, a Verdict out. It never gives a run the
// benefit of a doubt: what does not show that the fault hit, that traffic ran
// and that the record is whole is an invalid run, not a passed one.
package oracle

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/fib"
	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// Effect is what a step must do to the router's next hops to have happened.
type Effect int

// The effects.
const (
	NoEffect Effect = iota // none is due
	Leaves                 // the victim leaves the router's next hops
	Returns                // the victim is back among them, and carries traffic
	Stays                  // the next hops stay as they are, all of them
)

// Step is one thing that was done to the cluster.
type Step struct {
	Name   string    // kill, stop, drain, start, undrain, ...
	Began  time.Time // right before it was done: the zero of all relative times is the first step's
	Done   time.Time // it had returned
	Effect Effect
	// Abrupt says that the victim died of it at once. Its death resets the
	// connections that it carried, so a reset proves no re-hash then, unless
	// another node is known to have carried it.
	Abrupt bool
}

// History is all that is known of a run. All times are of one clock, or were
// corrected to it.
type History struct {
	Begin *record.Begin
	End   *record.End
	// Probes in any order: they are written as they end.
	Probes []record.Probe
	Held   []record.Held
	// Nodes gives a node's name by its address, as backends and the router
	// see it; what it does not name goes by its address.
	Nodes map[string]string
	// Router is the router's record of the target's prefix: what held at the
	// start, and each change.
	Router []fib.Change
	// Victim is the node that Steps were done to; empty when there are none.
	Victim string
	Steps  []Step
	// Recovered is when the steps had been undone and the router had its
	// next hops back: the window "after" begins. Zero: there is none.
	Recovered time.Time
	// Checks are what was tried as an operator.
	Checks []Check
	// Doubts are reasons found while recording for which the run is invalid.
	Doubts []Reason
}

// Check is something that was tried as an operator would, and what came of it.
type Check struct {
	What  string // what should be so: "a change on n1 is refused"
	At    time.Time
	Wrong string // what was so instead; empty: it was
}

// Limits are what a verdict is held against; nil is no limit.
type Limits struct {
	MaxGap          *time.Duration // of the longest outage
	MaxFailed       *int           // new connections that failed
	MaxReturnFailed *int           // of those, from the first Returns step on
	MaxCut          *int           // established connections that the router's re-hash cut, probes and held ones
	MaxDeviation    *float64       // percent of a node's share from even, before the fault and after it
	// MaxLate bounds how late the prober may send: beyond it, it may have
	// missed an outage of that length, and the run is invalid.
	MaxLate time.Duration
}

// DefaultMaxLate is the bound on the prober's lateness that fits a machine of
// two cores that also runs the whole lab.
const DefaultMaxLate = 100 * time.Millisecond

// Code is the fixed word for a reason.
type Code string

// Reasons for which a run is invalid.
const (
	NotWhole       Code = "record_not_whole"         // lines of the record are missing
	NothingSent    Code = "nothing_sent"             // no probe
	NotAnswering   Code = "not_answering_before"     // none was answered before the fault
	FailingBefore  Code = "failing_before"           // some failed before the fault: whose fault is the rest?
	ProberFull     Code = "prober_full"              // the prober could not send some
	ProberLate     Code = "prober_late"              // the prober could not keep its schedule
	NoRouter       Code = "no_router_record"         // the router's next hops are not known
	FaultNotSeen   Code = "fault_not_seen"           // the router's next hops did not change where they must
	VictimIdle     Code = "victim_idle"              // the victim carried nothing before the fault
	WindowEmpty    Code = "window_empty"             // no probe after a step
	ClockStepped   Code = "clock_stepped"            // the wall clock was set during the run
	RouterMismatch Code = "router_record_incomplete" // the router's table is not what its record led to
)

// Reasons for which limits are broken.
const (
	GapTooLong        Code = "max_gap"
	TooManyFailed     Code = "max_failed"
	TooManyFailedBack Code = "max_return_failed"
	TooManyCut        Code = "max_cut"
	Uneven            Code = "max_deviation"
	NotBack           Code = "victim_not_back"   // a Returns step, and the victim carried nothing after it
	HopsChanged       Code = "next_hops_changed" // a Stays step, and the router's next hops changed after it
	CheckFailed       Code = "check_failed"      // what was tried as an operator came out wrong
)

// Reason says why, for a program and for a person.
type Reason struct {
	Code    Code
	Message string
}

// Verdict is what the oracle finds. Relative times count from when the first
// step began (without steps: from the prober's start).
type Verdict struct {
	Invalid []Reason // why the run shows nothing; then Broken says nothing either
	Broken  []Reason // the limits that do not hold
	Limits  Limits

	Zero     time.Time     // of relative times
	Interval time.Duration // between two probes
	Counts
	By            []Kind        // failed probes by outcome and stage, the most frequent first
	FirstFailure  time.Duration // when the first failing probe was due; with Failed > 0
	LastFailure   time.Duration // when the last failing probe was due
	Outages       []Outage      // in order of time
	LongestGap    time.Duration // the longest of Outages
	Windows       []Window
	Router        []Change
	Held          []HeldNode
	HeldCut       int
	FirstCarried  time.Duration // when the first probe that the victim carried after its return was due
	Back          bool          // FirstCarried is set
	MaxLate       time.Duration // the latest that a probe was sent after it was due
	CPUPerProbe   time.Duration // of the prober, all threads
	Steps         []StepTime
	Checks        []CheckTime
	FailedReturn  int // failed probes from the first Returns step on
	HasReturnStep bool
}

// Passed says that the run was valid and every limit holds.
func (v Verdict) Passed() bool { return len(v.Invalid) == 0 && len(v.Broken) == 0 }

// Counts are of new connections. Each sent one is answered, failed, cut, or
// not sent by the prober.
type Counts struct {
	Sent, Answered, Failed int
	// Cut are connections that were established, and open across a recorded
	// change of the router's next hops without an answer to anything that was
	// sent since, and were reset: the re-hash took them to a node that does not know them. What is
	// not proven so is Failed; so is what the victim's own death explains.
	Cut     int
	NotSent int
}

// Kind is one way to fail, and how many did.
type Kind struct {
	Outcome record.Outcome
	Stage   record.Stage
	Count   int
}

// Outage is a run of failures with less than OutageSpan between any two that
// follow each other, whatever was answered between them.
type Outage struct {
	Start  time.Duration // when the first failing probe was due
	Length time.Duration // last due minus first due plus one interval
	Failed int
}

// OutageSpan joins failures to one outage: those that were due less than this
// apart. It is wide so that a service that flickers counts as one long outage.
const OutageSpan = 500 * time.Millisecond

// Window is the time from one step to the next.
type Window struct {
	Name   string        // before, a step's name, after
	Start  time.Duration // relative
	Length time.Duration
	Counts
	LongestGap time.Duration // of outages that begin here
	// Converged is from the step's beginning until the router's change that
	// shows its effect; Observed says that there was one.
	Converged time.Duration
	Observed  bool
	Spread    Spread
	Latency   Latency
}

// Spread is how the answered probes lay on the nodes, once the router's next
// hops had changed for the last time in the window.
type Spread struct {
	Shares []Share // by name
	// Deviation is the farthest share's distance from an even one, in percent
	// of it, over the nodes that the router had as next hops then (and any
	// other that carried something). A node that carries nothing is 100.
	Deviation float64
}

// Share is one node's part.
type Share struct {
	Node  string
	Count int
	Part  float64 // 0 to 1
}

// Latency is from when a probe was due until its whole answer was there, of
// those answered: a prober that is late does not make the service look fast.
type Latency struct {
	P50, P99, Max time.Duration
}

// Change is one of the router's, relative.
type Change struct {
	At       time.Duration
	NextHops []string // names of nodes where known
}

// StepTime is a step, relative.
type StepTime struct {
	Name string
	At   time.Duration
	Took time.Duration
}

// CheckTime is a check, relative.
type CheckTime struct {
	What  string
	At    time.Duration
	Wrong string
}

// HeldNode counts the lives of held connections that one node carried.
type HeldNode struct {
	Node     string // empty: not known, the connection ended before an answer
	Alive    int    // until the prober closed them
	Finished int    // ended in order by the node, between two exchanges
	Cut      int    // as Counts.Cut
	Broken   int    // ended otherwise once established
	Refused  int    // could not be opened
}
