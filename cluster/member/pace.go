package member

import (
	"math"
	"slices"
	"time"
)

const (
	// minGap is the least time between two broadcasts of metadata, so that a
	// burst of changes is one message.
	minGap = 20 * time.Millisecond
	// loadGap is the least time before a mere change of load is told.
	loadGap = time.Second
	// loadStep is the least change of load that is told.
	loadStep = 0.1
)

// due decides when the wanted metadata goes out, given what was last sent and
// how long ago: after wait, or not at all.
func due(sent, want Meta, since time.Duration) (wait time.Duration, tell bool) {
	gap := minGap
	if sameButLoad(sent, want) {
		if math.Abs(sent.Load-want.Load) < loadStep {
			return 0, false
		}
		gap = loadGap
	}
	return max(0, gap-since), true
}

func sameButLoad(a, b Meta) bool {
	return a.Control == b.Control && a.Ready == b.Ready && a.Draining == b.Draining &&
		a.AppliedVersion == b.AppliedVersion && slices.Equal(a.Addresses, b.Addresses) &&
		a.AllUnwell == b.AllUnwell && slices.Equal(a.Unwell, b.Unwell)
}
