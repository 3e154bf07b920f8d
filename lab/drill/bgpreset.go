package drill

// bgpReset is what a router's operator does to make a session anew.
func bgpReset() Scenario {
	return Scenario{
		Name:    "bgp-reset",
		Summary: "one node's BGP session cleared at the router",
		Story: `Clears the node's BGP session at the router. The router drops the next hop, the node makes the session anew by
itself, and announces again.

Judged: no new connection fails, since the node serves what still comes to it. Connections that were established, and
that the router's re-hash took to another node, are counted as cut; --max-cut limits them.`,
		Kind: SessionReset, Inject: "session reset", Passing: true,
		Limits: limitsOfAPlannedChange(),
	}
}
