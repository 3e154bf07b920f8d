// Package topo reads the lab's topologies: files in containerlab's own format
// (https://containerlab.dev/manual/topo-def-file/), so that one description
// serves container engines and plain network namespaces alike. It reads and
// checks; it makes nothing.
package topo

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Role is what a node of a lab is there for. The file says it by the label
// "pharos.role".
type Role string

// The roles.
const (
	RoleRouter  Role = "router"  // the BGP router in front of the nodes
	RoleNode    Role = "node"    // runs pharos serve
	RoleBackend Role = "backend" // a server of a pool
	RoleClient  Role = "client"  // sends the traffic
	RoleSwitch  Role = "switch"  // the segment that the others share; a bridge is one, and nothing else
)

// RoleLabel is the label that carries a node's Role.
const RoleLabel = "pharos.role"

// Topology is one checked topology file, with its defaults and kinds merged
// into each node.
type Topology struct {
	Name  string
	Nodes []Node // in the file's order, names are unique
	Links []Link // each endpoint is used once, and names a node
}

// The kinds of node, as containerlab calls them.
const (
	KindLinux  = "linux"  // a machine
	KindBridge = "bridge" // a switch: its links' ends are its ports, and nothing runs on it
)

// Node is one machine of the topology, or a switch.
type Node struct {
	Name    string
	Kind    string
	Image   string // empty for a bridge
	Role    Role
	Cmd     []string          // what the image's entrypoint is given
	Binds   []Bind            // files of the host that the node sees
	Sysctls map[string]string // by dotted name
	Exec    [][]string        // commands that run in the node once its links are there, in order
	Env     map[string]string
	Labels  map[string]string
	CapAdd  []string // for container engines
}

// Bind shows the file or directory Source to a node as Target.
type Bind struct {
	Source   string // relative to the topology file, or absolute
	Target   string // absolute
	ReadOnly bool
}

// Link is a cable between two nodes.
type Link struct {
	A, B Endpoint
	MTU  int // bytes
}

// Endpoint is one end of a Link.
type Endpoint struct {
	Node, Interface string
}

// DefaultMTU is containerlab's for links that name none.
const DefaultMTU = 9500

// Node returns the node of that name.
func (t *Topology) Node(name string) (Node, bool) {
	i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return t.Nodes[i], true
}

// Ports returns the ends of links that a node has, in the links' order.
func (t *Topology) Ports(node string) []Endpoint {
	var ports []Endpoint
	for _, l := range t.Links {
		for _, end := range []Endpoint{l.A, l.B} {
			if end.Node == node {
				ports = append(ports, end)
			}
		}
	}
	return ports
}

// Addresses returns the addresses that the node's exec lines put on its
// interfaces, in their order.
func (n Node) Addresses() []netip.Addr {
	var addresses []netip.Addr
	for _, argv := range n.Exec {
		if prefix, ok := addressAdded(argv); ok {
			addresses = append(addresses, prefix.Addr())
		}
	}
	return addresses
}

// addressAdded recognises "ip [-4|-6] address add PREFIX …", in each of the
// forms that ip accepts for the words.
func addressAdded(argv []string) (netip.Prefix, bool) {
	if len(argv) == 0 || path.Base(argv[0]) != "ip" {
		return netip.Prefix{}, false
	}
	words := slices.DeleteFunc(slices.Clone(argv[1:]), func(s string) bool { return strings.HasPrefix(s, "-") })
	if len(words) < 3 || !strings.HasPrefix("address", words[0]) || (words[1] != "add" && words[1] != "replace") {
		return netip.Prefix{}, false
	}
	prefix, err := netip.ParsePrefix(words[2])
	return prefix, err == nil
}

// String is the endpoint as the file writes it.
func (e Endpoint) String() string { return fmt.Sprintf("%s:%s", e.Node, e.Interface) }
