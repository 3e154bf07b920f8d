package drill

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// nodeFreeze is a machine that stands still and then goes on, as one that is moved
// to another host does: for it no time has passed.
func nodeFreeze() Scenario {
	return Scenario{
		Name:    "node-freeze",
		Summary: "every process of one node stopped (SIGSTOP), and let go on",
		Story: `Stops every process of the node, while its kernel goes on taking connections that nobody serves. The router's BFD
finds the node silent, and drops the next hop. Once the router has settled, the processes go on, with what they
knew before: a node that wakes up so must not draw traffic before it knows itself well.

Judged: the longest gap that a client saw (at most what the router's BFD takes to find out, and 100 ms for its table:
250 ms at 50 ms x 3), and that no new connection fails while the node comes back.`,
		Kind: Freeze, Inject: "freeze", Revert: "thaw", Abrupt: true,
		Limits: oracle.Limits{MaxGap: limit(250 * time.Millisecond), MaxReturnFailed: limit(0)}, BeyondDetection: converges,
	}
}
