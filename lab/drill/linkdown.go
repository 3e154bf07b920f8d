package drill

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// linkDown is the loss of a link that its own end knows of.
func linkDown() Scenario {
	return Scenario{
		Name:    "link-down",
		Summary: "one node's interface set down, and up again",
		Story: `Sets the node's interface down. The other end loses its carrier, so that the router knows at once. Once the router
has settled, the interface is set up again, with its addresses and routes.

Judged: the longest gap that a client saw (at most 120 ms), and that no new connection fails while the node comes
back. The connections that the node carried are lost with it.`,
		Kind: LinkDown, Inject: "link down", Revert: "link up", Abrupt: true,
		Limits: oracle.Limits{MaxGap: limit(120 * time.Millisecond), MaxReturnFailed: limit(0)},
	}
}

// linkDownRouter is the same link, from its other end.
func linkDownRouter() Scenario {
	s := linkDown()
	s.Name = "link-down-router"
	s.Summary = "the router's interface to one node set down, and up again"
	s.Story = `Sets the router's interface to the node down: its kernel drops the next hop at once. Once the router has settled,
the interface is set up again, with its addresses.

Judged: the longest gap that a client saw (at most 120 ms), and that no new connection fails while the node comes
back. The connections that the node carried are lost with it.`
	s.Kind = FarLinkDown
	return s
}
