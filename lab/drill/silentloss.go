package drill

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// silentLoss is a node that falls silent without a word: a dead machine, or a
// cable in a switch between. Nothing closes its BGP session; only BFD finds it
// before the hold time is over.
func silentLoss() Scenario {
	return Scenario{
		Name:    "silent-loss",
		Summary: "all packets of one node lost, both ways, and let through again",
		Story: `Drops every packet from and to the node, without a word to anybody, while new connections go to the VIP. The
router's BFD finds the node silent, and drops the next hop. Once the router has settled, packets pass again, and
the node must come back without a failure.

Judged: the longest gap that a client saw (at most what the router's BFD takes to find out, and 100 ms for its table:
250 ms at 50 ms x 3), and that no new connection fails while the node comes back.`,
		Kind: Silence, Inject: "silence", Revert: "hear", Abrupt: true,
		Limits: oracle.Limits{MaxGap: limit(250 * time.Millisecond), MaxReturnFailed: limit(0)}, BeyondDetection: converges,
	}
}
