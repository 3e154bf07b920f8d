// Package health decides whether a server takes work, and how much: by rows of
// check results ([Machine]), by the failures of requests ([Passive],
// [Ejector]), by the time since it came back ([Ramp]), and by the operator's
// word ([Admin]). It is pure: no clock, no sockets, no names.
package health

// State is what the checks say of a server.
type State uint8

// The states. A server starts Unknown.
const (
	// Unknown: no check has succeeded yet, and fewer than Fall failed. Not
	// usable; but one success suffices, so that a starting node need not wait
	// for Rise checks of servers that were healthy all along.
	Unknown State = iota
	Healthy
	Unhealthy
)

func (s State) String() string {
	switch s {
	case Healthy:
		return "healthy"
	case Unhealthy:
		return "unhealthy"
	default:
		return "unknown"
	}
}

// Machine is the fall/rise state machine of one server. Its zero value is
// Unknown and falls and rises at the first result; set the limits by [New].
// It is not safe for concurrent use.
type Machine struct {
	fall, rise int
	state      State
	row        int  // results in a row that speak against the state
	failures   int  // failures in a row, in any state
	checked    bool // at least one result
}

// New returns a machine that turns a server unhealthy after fall consecutive
// failures, and healthy again after rise consecutive successes. Values below 1
// count as 1.
func New(fall, rise int) Machine {
	return Machine{fall: max(fall, 1), rise: max(rise, 1)}
}

// Retune changes the limits and keeps the state and the row counted so far.
func (m *Machine) Retune(fall, rise int) {
	m.fall, m.rise = max(fall, 1), max(rise, 1)
}

// Observe takes one check result and reports whether the state changed.
// Consecutive means consecutive: one result for the present state starts the
// count against it anew.
func (m *Machine) Observe(ok bool) (changed bool) {
	m.checked = true
	if ok {
		m.failures = 0
	} else {
		m.failures++
	}
	if m.state == Unknown {
		switch {
		case ok:
			return m.become(Healthy)
		case m.failures >= max(m.fall, 1):
			return m.become(Unhealthy)
		}
		return false
	}
	if ok == (m.state == Healthy) {
		m.row = 0
		return false
	}
	m.row++
	switch {
	case m.state == Healthy && m.row >= max(m.fall, 1):
		return m.become(Unhealthy)
	case m.state == Unhealthy && m.row >= max(m.rise, 1):
		return m.become(Healthy)
	}
	return false
}

func (m *Machine) become(s State) bool {
	m.state, m.row = s, 0
	return true
}

// State is the present state.
func (m *Machine) State() State { return m.state }

// Checked reports whether there was any result yet.
func (m *Machine) Checked() bool { return m.checked }

// Pending reports whether results that speak against the present state are
// being counted.
func (m *Machine) Pending() bool { return m.row > 0 || m.state == Unknown && m.failures > 0 }

// Failures is the number of failed checks in a row, 0 after a success.
func (m *Machine) Failures() int { return m.failures }
