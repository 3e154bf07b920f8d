package drill

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// listenerHang is a data plane that is sick while its process lives: only the
// node's own probe can tell. Three intervals of that, 100 ms each, and what a
// withdrawal and the router take.
func listenerHang() Scenario {
	return Scenario{
		Name:    "listener-hang",
		Summary: "event loops of one node stand still, its process lives on",
		Story: `Stops the threads of the node's process that serve connections, as a debugger does. The process lives on, its
BGP session stays, and its kernel goes on taking connections that nobody serves. The node's own probe must find
out, and the node withdraw. Once the router has settled, the threads go on, and the node must come back without
a failure.

Judged: the longest gap that a client saw (at most three probe intervals of 100 ms and 120 ms), and that no new
connection fails while the node comes back.`,
		Kind: Hang, Inject: "hang", Revert: "go on", Abrupt: true,
		Limits: oracle.Limits{MaxGap: limit(420 * time.Millisecond), MaxReturnFailed: limit(0)},
	}
}
