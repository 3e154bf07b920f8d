package drill

// bfdCut is a loss of BFD alone, as a filter on the way may cause it.
func bfdCut() Scenario {
	return Scenario{
		Name:    "bfd-cut",
		Summary: "BFD packets of one node lost, and let through again",
		Story: `Drops the BFD packets from and to the node, and nothing else. Both ends find the other one silent: the router drops the
next hop, the node its session. The node still serves what comes to it. Once the router has dropped it, the packets pass
again, and the node comes back.

Judged: no new connection fails. Connections that were established, and that the router's re-hash took to another
node, are counted as cut; --max-cut limits them.`,
		Kind: BFDLoss, Inject: "BFD lost", Revert: "BFD back",
		Limits: limitsOfAPlannedChange(),
	}
}
