package registry

import (
	"strings"
	"time"
)

// Takeover is what a node may do for a VIP while no majority of the members can
// be reached, so that nobody can be given the lease.
type Takeover string

const (
	TakeoverStrict     Takeover = "strict"      // nobody answers: never two nodes at a time, come what may
	TakeoverLastResort Takeover = "last-resort" // a node that hears nobody else answer for the VIP answers for it
)

// ARP is how the nodes settle which one of them answers for a VIP.
type ARP struct {
	// Interface is where the VIP is answered for, on each node. Absent: on each
	// node, the interface with the subnet that the address is in.
	Interface string `json:"interface" format:"interface"`
	// Priority settles who gets the VIP where several could have it: the highest.
	// VIPs of one priority are spread over the nodes.
	Priority int       `json:"priority" default:"100" range:"1..254"`
	Nodes    []ARPNode `json:"nodes" max:"1000"` // what differs on some nodes
	// Preempt gives the VIP to a node of higher priority, or to the one that it
	// falls to where they are equal, once that one is back. Connections that are
	// open are cut by each such change.
	Preempt *bool `json:"preempt" default:"true"`
	// PreemptDelay is how long that one must have been there.
	PreemptDelay *time.Duration `json:"preempt_delay" default:"10s" range:"0s..1h"`
	Takeover     Takeover       `json:"takeover" default:"last-resort" words:"strict last-resort"`
	// Lease is how long a node that is not heard of keeps the VIP. Under 250ms a
	// busy node may lose it.
	Lease time.Duration `json:"lease" default:"250ms" range:"100ms..2s"`
}

// ARPNode is what differs on one node.
type ARPNode struct {
	Name      string `json:"name" required:"true" format:"name"`
	Interface string `json:"interface" format:"interface"` // absent: as on the others
	Priority  int    `json:"priority" range:"1..254"`      // absent: as of the others
}

// On gives what holds on one node: the interface, empty for the one with the
// VIP's subnet, and the priority. a is Effective's.
func (a ARP) On(node string) (iface string, priority int) {
	iface, priority = a.Interface, a.Priority
	for _, n := range a.Nodes {
		if n.Name == node {
			orDefault(&n.Interface, iface)
			orDefault(&n.Priority, priority)
			iface, priority = n.Interface, n.Priority
		}
	}
	return iface, priority
}

// EffectiveARP is the VIP's ARP with all defaults.
func (v VIP) EffectiveARP() ARP {
	var a ARP
	if v.ARP != nil {
		a = *v.ARP
	}
	c := Config{VIPs: []VIP{{ARP: &a}}}.Effective()
	return *c.VIPs[0].ARP
}

// draws refuses what is of use in the VIP's other mode only.
func (c *checker) draws(path string, v VIP) {
	if !c.sure(path + ".mode") {
		return
	}
	switch v.Mode {
	case ModeBGP:
		c.useless(path, v, "mode arp only", "arp")
	case ModeARP:
		c.useless(path, v, "mode bgp only: in mode arp no router is told anything", "neighbors", "communities", "large_communities", "med", "as_path_prepend", "local_preference")
	}
	if v.Mode != ModeARP || v.ARP == nil {
		return
	}
	for i, n := range v.ARP.Nodes {
		at := element(path+".arp.nodes", i)
		if n.Name != "" && c.sure(path+".nodes") && !v.SelectsNode(n.Name) {
			c.add(at+".name", "%s is not in the VIP's nodes", quote(n.Name))
		}
		if !c.has(at, "interface", n) && !c.has(at, "priority", n) {
			c.add(at, "says nothing: give it an interface or a priority, or take it out")
		}
	}
}

// notInterface says why a string cannot name a network interface to answer on,
// or "". The rules are Linux's (dev_valid_name).
func notInterface(s string) string {
	switch {
	case len(s) < 1 || len(s) > 15:
		return "must have 1 to 15 bytes"
	case s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r"):
		return "must have no slash, colon or blank"
	case s == "lo":
		return "which nobody else is on: name the interface that the clients or their router are on"
	}
	return ""
}
