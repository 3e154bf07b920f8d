package drill

import (
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

const controlJudged = `

Judged: no connection fails or is cut, the router keeps every next hop, during the fault and after it`

// leaderKill is the death of the node that leads the cluster.
func leaderKill() Scenario {
	s := nodeKill()
	s.Name = "leader-kill"
	s.Summary = "SIGKILL of the Raft leader's process, and its start"
	s.Story = `Kills the process of the node that leads the cluster, as node-kill does of any: the others elect a new leader,
and serve meanwhile. With --node it is that one.

Judged: as node-kill (a gap of 120 ms at most, no failure while the node comes back), and that another node accepts a
change of the configuration.`
	s.Plan, s.Picks, s.Meanwhile = leading, true, acceptedByOthers
	s.Limits = oracle.Limits{MaxGap: limit(120 * time.Millisecond), MaxReturnFailed: limit(0)}
	return s
}

// leaderCut takes the control ports alone from the leader.
func leaderCut() Scenario {
	return Scenario{
		Name:    "leader-cut",
		Summary: "the Raft leader's control ports cut off, its traffic let through",
		Story: `Drops all packets of the control and gossip ports (7443, 7946) of the node that leads the cluster, or of --node. The
others take it for dead, and elect a new leader. Its own traffic goes on.` + controlJudged + `; the
others accept a change of the configuration, the node alone refuses one for want of a majority; and it accepts one
after the fault.`,
		Kind: ControlLoss, Plan: leading, Picks: true, Inject: "control cut", Revert: "control back", Stays: true,
		Meanwhile: refusedOnVictim, Afterwards: acceptedAgain, Limits: nothingFails(),
	}
}

// quorumLoss takes the majority from the cluster.
func quorumLoss() Scenario {
	return Scenario{
		Name:    "quorum-loss",
		Summary: "control ports of most nodes cut off, so that no majority is left",
		Story: `Drops all packets of the control and gossip ports (7443, 7946) of the node and of as many others as leave no
majority: of three nodes, two.` + controlJudged + `;
every node refuses a change of the configuration, for want of a majority; and one is accepted after the fault.`,
		Kind: ControlLoss, Plan: most, Inject: "control cut", Revert: "control back", Stays: true,
		Meanwhile: refusedOnAll, Afterwards: acceptedAgain, Limits: nothingFails(),
	}
}

// controlCut takes all that nodes say to each other.
func controlCut() Scenario {
	s := quorumLoss()
	s.Name = "control-cut"
	s.Summary = "control ports of all nodes cut off"
	s.Story = `Drops all packets of the control and gossip ports (7443, 7946) of all nodes: each is alone.` + controlJudged + `;
every node refuses a change of the configuration, for want of a majority; and one is accepted after the fault.`
	s.Plan = all
	return s
}

// partition takes what groups of nodes say to each other.
func partition() Scenario {
	return Scenario{
		Name:    "partition",
		Summary: "groups of nodes cut off from each other on the control ports",
		Story: `Drops the packets of the control and gossip ports (7443, 7946) between groups of nodes: the node and the others, or
as --split says ("n1|n2,n3"). With --one-way the first group does not hear the others, but is heard.` + controlJudged + `;
and the node accepts a change of the configuration after it.`,
		Kind: ControlLoss, Plan: split, Splits: true, Inject: "partition", Revert: "heal", Stays: true,
		Afterwards: acceptedAgain, Limits: nothingFails(),
	}
}
