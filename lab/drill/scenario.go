package drill

import (
	"fmt"
	"strings"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Scenario is one drill: a fault of one node, and its undoing.
type Scenario struct {
	Name    string
	Summary string // one line
	Story   string // what is done and what is judged, for describe
	Kind    Kind
	Inject  string // the name of the step that breaks
	Revert  string // the name of the step that mends
	Abrupt  bool   // the node dies at once: see oracle.Step
	// Limits are those that hold unless the caller says otherwise.
	Limits oracle.Limits
}

// Scenarios lists the drills.
func Scenarios() []Scenario {
	return []Scenario{nodeKill(), drain(), nodeRestart(), listenerHang(), silentLoss()}
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
