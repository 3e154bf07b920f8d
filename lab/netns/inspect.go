package netns

import (
	"fmt"
	"path/filepath"

	"github.com/pharos-lb/pharos/lab/topo"
)

// Pids are all processes in a node's network namespace, whoever started them.
func (l *Lab) Pids(node string) ([]int, error) {
	id, err := identify(l.NetnsPath(node))
	if err != nil {
		return nil, fmt.Errorf("lab %s: %s: %w", l.state.Name, node, err)
	}
	return processesIn(map[namespaceID]bool{id: true})
}

// Namespace is the name of a node's network namespace, as ip-netns(8) knows it.
func (l *Lab) Namespace(node string) string { return filepath.Base(l.NetnsPath(node)) }

// Cable is a node's first link: its own end, and the other one.
func (l *Lab) Cable(node string) (own, other topo.Endpoint, err error) {
	for _, link := range l.topology.Links {
		switch node {
		case link.A.Node:
			return link.A, link.B, nil
		case link.B.Node:
			return link.B, link.A, nil
		}
	}
	return own, other, fmt.Errorf("lab %s: %s has no link: %w", l.state.Name, node, ErrNoNode)
}
