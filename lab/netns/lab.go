// Package netns brings a topology up with plain network namespaces and veth
// pairs, with a real FRR as its router and without a container engine. Each
// node is a network namespace that ip-netns(8) knows as pharos-LAB-NODE; files
// that the topology binds are shown to a node's processes by a private mount
// namespace. What a crashed lab left is found by its state file and removed by
// the next Up or Down.
//
// It needs root, or a user namespace: see package userns.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"

	"github.com/pharos-lb/pharos/lab/topo"
)

// The refusals that callers decide on.
var (
	ErrNotUp   = errors.New("the lab is not up: start it with `pharos lab up`")
	ErrIsUp    = errors.New("the lab is up already: `pharos lab down` first, or choose another --name")
	ErrBusy    = errors.New("another `pharos lab up` or `down` of this name is running: wait for it to end")
	ErrRunning = errors.New("the process is running already")
	ErrStopped = errors.New("the process is not running")
	ErrNoNode  = errors.New("no such node in the lab")
)

// Lab is a lab that is up.
type Lab struct {
	state    *state
	topology *topo.Topology
	bundle   *topo.Bundle
	vips     []netip.Addr
}

// Node is one machine of a lab.
type Node struct {
	Name      string
	Role      topo.Role
	Addresses []netip.Addr // as the topology gives them
}

// Open finds a lab that is up, by name. ErrNotUp: there is none, or it crashed
// while it was made.
func Open(name string) (*Lab, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s, err := readState(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s: %w", name, ErrNotUp)
	}
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	if s.Phase != phaseUp {
		return nil, fmt.Errorf("lab %s was never completed: %w", name, ErrNotUp)
	}
	return load(s)
}

// load reads the topology that the lab keeps for itself.
func load(s *state) (*Lab, error) {
	bundle, err := topo.Open(filepath.Join(labDir(s.Name), "topology", s.Topology))
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", s.Name, err)
	}
	vips, err := bundle.VIPs()
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", s.Name, err)
	}
	return &Lab{state: s, topology: bundle.Topology, bundle: bundle, vips: vips}, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.state.Name }

// Dir is the lab's folder: its topology, its logs and the nodes' data. It is
// removed with the lab.
func (l *Lab) Dir() string { return labDir(l.state.Name) }

// Binary is the pharos that the lab's nodes run.
func (l *Lab) Binary() string { return l.state.Binary }

// ClusterFile is the path of the cluster configuration that goes with the
// topology.
func (l *Lab) ClusterFile() string {
	return filepath.Join(l.Dir(), "topology", filepath.FromSlash(l.bundle.ClusterFile()))
}

// VIPs are the addresses of the VIPs in that configuration.
func (l *Lab) VIPs() []netip.Addr { return append([]netip.Addr(nil), l.vips...) }

// Nodes are the lab's machines in the topology's order.
func (l *Lab) Nodes() []Node {
	nodes := make([]Node, 0, len(l.topology.Nodes))
	for _, n := range l.topology.Nodes {
		nodes = append(nodes, Node{Name: n.Name, Role: n.Role, Addresses: n.Addresses()})
	}
	return nodes
}

// NodesOf are the machines of one role, in the topology's order.
func (l *Lab) NodesOf(role topo.Role) []Node {
	var nodes []Node
	for _, n := range l.Nodes() {
		if n.Role == role {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// NetnsPath is the file of a node's network namespace, as setns(2) takes it.
func (l *Lab) NetnsPath(node string) string {
	return filepath.Join(netnsRoot, namespaceName(l.state.Name, node))
}

// NodeDir is where a node keeps its data: PHAROS_DIR of its processes.
func (l *Lab) NodeDir(node string) string { return filepath.Join(l.Dir(), "nodes", node) }

// LogFile is where the output of one of a node's processes goes.
func (l *Lab) LogFile(node, process string) string {
	return filepath.Join(l.Dir(), "log", node+"."+process+".log")
}
