package drill

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// nodeKill is the loss of a process: the kernel closes its BGP session, and the
// router drops the next hop. FRR alone needs about 70 ms for that.
func nodeKill() Scenario {
	return Scenario{
		Name:    "node-kill",
		Summary: "SIGKILL of one node's process, and its start",
		Story: `Kills the node's process with SIGKILL, without warning, while new connections go to the VIP. Its kernel
closes the BGP session, the router drops the next hop, and the other nodes carry everything. Once the router
has settled, the process is started again, and must come back without a failure.

Judged: the longest gap that a client saw (at most 120 ms), and that no new connection fails while the node
comes back. The connections that the killed node carried are lost with it; those are counted as failed, and so
are those that the router's re-hash cut at that moment, unless another node is known to have carried them.`,
		Kind: Kill, Inject: "kill", Revert: "start", Abrupt: true,
		Limits: oracle.Limits{MaxGap: limit(120 * time.Millisecond), MaxReturnFailed: limit(0)},
	}
}
