package drill

// diskFull is a disk without room on one node, which others can stand in for.
func diskFull() Scenario {
	return Scenario{
		Name:    "disk-full",
		Summary: "no room on the disk of one node's data, and some made again",
		Story: `Fills the disk of the node's data. Since other nodes are well, the node withdraws from the VIP, and says why. Once the
router has settled, there is room again, and the node comes back after its hold-down. In the lab the nodes need
disks of their own: "pharos lab up --disk 128".

Judged: no new connection fails, neither when the node leaves nor while it comes back.`,
		Kind: DiskFull, Inject: "disk full", Revert: "disk free",
		Meanwhile: saysWhy("disk_full", false), Limits: limitsOfAPlannedChange(),
	}
}

// diskFullEverywhere leaves nobody to stand in.
func diskFullEverywhere() Scenario {
	s := diskFull()
	s.Name = "disk-full-everywhere"
	s.Summary = "no room on the disks of all nodes: they must serve all the same"
	s.Story = `Fills the disks of all nodes' data at once. Since nobody else is well, each node keeps the VIP, and says in spite of
what. In the lab the nodes need disks of their own: "pharos lab up --disk 128".` + controlJudged + `;
and after it a change of the configuration is accepted.`
	s.Plan, s.Stays = all, true
	s.Meanwhile, s.Afterwards, s.Limits = saysWhy("disk_full", true), acceptedAgain, nothingFails()
	return s
}
