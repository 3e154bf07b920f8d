package drill

import "github.com/pharos-lb/pharos/lab/drill/oracle"

// nodeRestart is the orderly stop of a process and its start, as an upgrade
// does it.
func nodeRestart() Scenario {
	return Scenario{
		Name:    "node-restart",
		Summary: "orderly stop (SIGTERM) of one node's process, and its start",
		Story: `Ends the node's process with SIGTERM, waits for its end, and starts it again once the router has settled.

Judged: no new connection fails, neither when the node leaves (--max-failed) nor while it comes back
(--max-return-failed), and the node carries new connections again: it must draw traffic only when it can
serve, but it must draw some.`,
		Kind: Restart, Inject: "stop", Revert: "start",
		Limits: oracle.Limits{MaxFailed: limit(0), MaxReturnFailed: limit(0)},
	}
}
