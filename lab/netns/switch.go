package netns

import (
	"fmt"
	"strings"

	"github.com/pharos-lb/pharos/lab/topo"
)

// switchScript makes a bridge of a switch's name in the switch's own
// namespace, with each of its links as a port, for "ip -batch". It forwards
// from the first frame on, as a switch does whose ports are set to: without a
// spanning tree, and without snooping, which would keep neighbor solicitations
// from who is not known to listen.
func (l *Lab) switchScript(n topo.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n", n.Name)
	for _, port := range l.topology.Ports(n.Name) {
		fmt.Fprintf(&b, "link set %s master %s\n", port.Interface, n.Name)
	}
	fmt.Fprintf(&b, "link set %s up\n", n.Name)
	return b.String()
}

// SwitchPort finds the port that a machine's link is plugged into, and the
// switch that has it. ErrNoNode: there is none.
func (l *Lab) SwitchPort(node string) (topo.Endpoint, error) {
	for _, link := range l.topology.Links {
		for _, ends := range [][2]topo.Endpoint{{link.A, link.B}, {link.B, link.A}} {
			if other, _ := l.topology.Node(ends[0].Node); ends[1].Node == node && other.Kind == topo.KindBridge {
				return ends[0], nil
			}
		}
	}
	return topo.Endpoint{}, fmt.Errorf("lab %s: %s is on no switch: %w", l.state.Name, node, ErrNoNode)
}
