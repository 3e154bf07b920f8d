package probe

import (
	"errors"
	"fmt"
	"time"
)

// Outcome is how one probe went.
type Outcome struct {
	Err error // nil: it passed
	// Late: this process was not given the time, or the descriptors, to tell. It
	// is no evidence: a busy machine would else withdraw what it serves.
	Late bool
}

// Verdict is what is held of a listener's address. It is a value; the zero one
// knows nothing yet.
type Verdict struct {
	Proven bool   // it has passed, and has not fallen since
	Fallen bool   // it has failed as many times in a row as it takes
	Why    string // of the last failure, while there is one
	row    int    // failures in a row
}

// Step takes in an outcome. One pass proves; fall failures in a row end that.
func (v Verdict) Step(o Outcome, fall int) Verdict {
	switch {
	case o.Err == nil:
		return Verdict{Proven: true}
	case o.Late:
		return v
	}
	v.row++
	v.Why = o.Err.Error()
	if v.row >= fall {
		v.Proven, v.Fallen = false, true
	}
	return v
}

// Doubted reports whether it has failed, but not as often as it takes.
func (v Verdict) Doubted() bool { return v.row > 0 && !v.Fallen }

// State is what the vigil has found out. It is never changed once it is shown.
type State struct {
	// Targets has the verdict on each address of each listener; those that are
	// not probed are not in it.
	Targets map[Key]Verdict
	// Owed is how long an event loop has not answered, if that is too long.
	Owed time.Duration
	// Disk and Descriptors say what is exhausted; empty: nothing is.
	Disk, Descriptors string
}

// errAnswer: whoever listens there is not this proxy, or is out of its mind.
var errAnswer = errors.New("the answer is not the proxy's own")

func wrongAnswer(got []byte) error { return fmt.Errorf("%w: %.40q", errAnswer, got) }
