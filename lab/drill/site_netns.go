package drill

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// Lab is the Site of a lab that is up, in network namespaces.
type Lab struct {
	lab    *netns.Lab
	binary string
	target netip.AddrPort
	router string
	client string
	names  map[string]string
	nodes  []string
	drain  time.Duration
}

// LabConfig says which part of a lab to drill.
type LabConfig struct {
	Binary        string        // pharos, for the probes: the caller's own, whose record it reads
	VIP           netip.Addr    // not valid: the lab's first
	Port          uint16        // of the HTTP listener
	DrainDeadline time.Duration // of a drain: what is open then is cut
}

// NewLab makes a Site of a lab. It fails when the lab has no router, client or
// node, or not this VIP.
func NewLab(lab *netns.Lab, c LabConfig) (*Lab, error) {
	l := &Lab{lab: lab, binary: c.Binary, names: map[string]string{}, drain: c.DrainDeadline}
	vips := lab.VIPs()
	if len(vips) == 0 {
		return nil, fmt.Errorf("lab %s has no VIP", lab.Name())
	}
	vip := vips[0]
	if c.VIP.IsValid() {
		if vip = c.VIP; !slices.Contains(vips, vip) {
			return nil, fmt.Errorf("lab %s has no VIP %s: it has %v", lab.Name(), vip, vips)
		}
	}
	l.target = netip.AddrPortFrom(vip, c.Port)
	for _, n := range lab.Nodes() {
		switch n.Role {
		case topo.RoleRouter:
			l.router = n.Name
		case topo.RoleClient:
			l.client = n.Name
		case topo.RoleNode:
			l.nodes = append(l.nodes, n.Name)
			for _, a := range n.Addresses {
				l.names[a.String()] = n.Name
			}
		}
	}
	if l.router == "" || l.client == "" || len(l.nodes) == 0 {
		return nil, fmt.Errorf("lab %s: a drill needs a router, a client and nodes, its topology has router %q, client %q, nodes %q", lab.Name(), l.router, l.client, l.nodes)
	}
	return l, nil
}

// Name implements Site.
func (l *Lab) Name() string { return "lab " + l.lab.Name() }

// Target implements Site.
func (l *Lab) Target() netip.AddrPort { return l.target }

// Nodes implements Site.
func (l *Lab) Nodes() []string { return l.nodes }

// NodeNames implements Site.
func (l *Lab) NodeNames() map[string]string { return l.names }

// Prober implements Site.
func (l *Lab) Prober(ctx context.Context, args ...string) *exec.Cmd {
	return l.lab.Command(ctx, l.client, append([]string{l.binary, "drill", "probe"}, args...)...)
}

// ProbeArgs implements Site: the lab's backends say who connected to them.
func (l *Lab) ProbeArgs() []string { return []string{"--require-peer"} }

// Router implements Site.
func (l *Lab) Router(ctx context.Context, argv ...string) *exec.Cmd {
	return l.lab.Command(ctx, l.router, argv...)
}

// Control runs the product's CLI on a node, as its operator.
func (l *Lab) Control(ctx context.Context, node string, args ...string) *exec.Cmd {
	return l.lab.Command(ctx, node, append([]string{l.lab.Binary()}, args...)...)
}

// Tidy implements Tidier: nobody but drills has connections to the lab's VIP.
func (l *Lab) Tidy(ctx context.Context) error {
	for _, node := range l.nodes {
		if _, err := output(l.lab.Command(ctx, node, "ss", "-K", "state", "connected", "sport", "=", ":"+strconv.Itoa(int(l.target.Port())))); err != nil {
			return fmt.Errorf("end the connections that an earlier drill left on %s: %w", node, err)
		}
	}
	return nil
}

// OneClock implements Site: namespaces of one machine.
func (l *Lab) OneClock() bool { return true }
