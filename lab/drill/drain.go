package drill

import "github.com/pharos-lb/pharos/lab/drill/oracle"

// drain is the planned way out of service, and back.
func drain() Scenario {
	return Scenario{
		Name:    "drain",
		Summary: "planned drain of one node, and its return",
		Story: `Drains the node by "pharos drain": it withdraws its routes, the router moves new connections to the other
nodes, and what is in flight finishes. Then "pharos undrain" brings it back.

Judged: no new connection fails. Connections that were established, and that the router's re-hash took to
another node, are counted as cut, apart from the failed ones, and only where the router's record proves it;
--max-cut limits them.`,
		Kind: Drain, Inject: "drain", Revert: "undrain",
		Limits: oracle.Limits{MaxFailed: limit(0), MaxReturnFailed: limit(0)},
	}
}
