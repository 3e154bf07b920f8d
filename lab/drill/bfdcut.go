package drill

// bfdCut is a loss of BFD alone, as a filter on the way may cause it.
func bfdCut() Scenario {
	return Scenario{
		Name:    "bfd-cut",
		Summary: "BFD packets of one node lost, and let through again",
		Story: `Drops the BFD packets from and to the node, and nothing else. Both ends find the other one silent: the router drops the
next hop, the node its session. Then the node makes the session anew, which needs no BFD with a router that is not
told to be strict, and is found silent by the hold time alone. At last the packets pass again, and nothing changes.

Judged: no new connection fails, since the node serves what still comes to it; the node comes back, and stays when BFD
does. Connections that were established, and that the router's re-hash took to another node, are counted as cut;
--max-cut limits them.`,
		Kind: BFDLoss, Inject: "BFD lost", Revert: "BFD back", Passing: true,
		Limits: limitsOfAPlannedChange(),
	}
}
