package campaign

import (
	"context"
	"net/netip"
	"os/exec"

	"github.com/pharos-lb/pharos/lab/arpwatch"
	"github.com/pharos-lb/pharos/lab/fault"
)

// Site is a cluster in ARP mode, and the switch between its nodes.
type Site interface {
	// Name is for people: "lab l2".
	Name() string
	// Nodes are those that are broken.
	Nodes() []string
	// Addresses are those of the VIPs.
	Addresses() []netip.Addr
	// Holders gives a node's name by its hardware address.
	Holders() map[arpwatch.MAC]string
	// Sniffer runs "pharos lab arpwatch" with this further argument where it
	// hears each node, whatever is broken.
	Sniffer(ctx context.Context, args ...string) *exec.Cmd
	// Fault prepares a fault.
	Fault(f Fault) (fault.Injector, error)
	// Strict has the cluster hold its VIPs strictly, and gives what puts back how
	// it held them before.
	Strict(ctx context.Context) (restore func(context.Context) error, err error)
}
