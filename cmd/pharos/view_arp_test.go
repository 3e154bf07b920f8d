package main

import "github.com/pharos-lb/pharos/cluster/api/pharosv1"

// office is a VIP in mode arp that n1 holds, as a node sees it.
func office(node string) *pharosv1.VIPStatus {
	v := &pharosv1.VIPStatus{
		Name: "office", Addresses: []string{"10.0.50.100", "2001:db8:50::100"}, Announcing: true, Since: dawn,
		Arp: &pharosv1.ARPStatus{
			Held: true, Holder: "n1", Code: "lease", Message: "held by lease", Epoch: 1795582977, Transitions: 2, Conflicts: 1,
			Addresses: []*pharosv1.ARPAddress{
				{Address: "10.0.50.100", Interface: "eth1", Carrier: true}, {Address: "2001:db8:50::100", Interface: "eth1", Carrier: true},
			},
		},
	}
	switch node {
	case "n2":
		v.Arp.Held, v.Arp.Code, v.Arp.Message, v.Arp.Epoch = false, "held-by-other", "held by n1", 0
	case "n3":
		v.Announcing, v.Reasons = false, []*pharosv1.Reason{{Code: "draining", Message: "the node is draining"}}
		v.Arp = &pharosv1.ARPStatus{
			Code: "link-unusable", Message: "no interface of this node has a subnet that 10.0.50.100 is in",
			Addresses: []*pharosv1.ARPAddress{{Address: "10.0.50.100", Trouble: "no interface of this node has a subnet that 10.0.50.100 is in"}},
		}
	}
	return v
}
