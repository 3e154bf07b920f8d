package drill

import (
	"fmt"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Scenario is one drill: a fault, and its undoing.
type Scenario struct {
	Name    string
	Summary string // one line
	Story   string // what is done and what is judged, for describe
	Kind    Kind
	Plan    Planner // which nodes have it; nil: the chosen one
	Picks   bool    // Plan picks the node where none was asked for: there are no turns
	Splits  bool    // Options.Split and OneWay apply
	Inject  string  // the name of the step that breaks
	Revert  string  // the name of the step that mends; empty: there is nothing to mend
	Abrupt  bool    // the node dies at once: see oracle.Step
	// Stays says that the router must keep all its next hops through it all.
	Stays bool
	// Passing says that the node comes back by itself, once the router has dropped it;
	// what mends the fault then changes nothing.
	Passing bool
	// Meanwhile and Afterwards are tried as an operator would, where the site has
	// a Controller.
	Meanwhile, Afterwards Checks
	// Limits are those that hold unless the caller says otherwise.
	Limits oracle.Limits
	// BeyondDetection, where the site is a Detector, makes the limit of the gap its
	// detection time and this.
	BeyondDetection time.Duration
}

// converges is what the router may take from the loss of a session to its table:
// FRR needs 70 ms.
const converges = 100 * time.Millisecond

// Scenarios lists the drills.
func Scenarios() []Scenario {
	return []Scenario{
		nodeKill(), drain(), nodeRestart(), listenerHang(), silentLoss(), nodeFreeze(),
		linkDown(), linkDownRouter(), bgpReset(), bfdCut(),
		leaderKill(), leaderCut(), quorumLoss(), controlCut(), partition(),
		diskFull(), diskFullEverywhere(),
	}
}

// Find gives the drill of that name. The error wraps ErrNoScenario and lists
// what there is.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("%q: %w: there are %s", name, ErrNoScenario, strings.Join(names, ", "))
}

func limit[T any](v T) *T { return &v }

// nothingFails are the limits of what no client may notice.
func nothingFails() oracle.Limits {
	return oracle.Limits{MaxFailed: limit(0), MaxReturnFailed: limit(0), MaxCut: limit(0)}
}

// limitsOfAPlannedChange are those of a node that leaves in order and comes back.
func limitsOfAPlannedChange() oracle.Limits {
	return oracle.Limits{MaxFailed: limit(0), MaxReturnFailed: limit(0)}
}
