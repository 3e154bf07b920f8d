// Package drill breaks a cluster on purpose and says what its clients saw.
// A Scenario says what is broken; a Site is where: the lab, or any cluster that
// commands can reach; Run does it and has package oracle judge the record.
package drill

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"time"

	"github.com/pharos-lb/pharos/lab/fault"
)

// Kind is a fault that a Site knows how to inject.
type Kind string

// The faults.
const (
	Kill    Kind = "kill"    // SIGKILL of the node's process; reverted by starting it
	Restart Kind = "restart" // SIGTERM and the wait for its end; reverted by starting it
	Drain   Kind = "drain"   // the planned way out; reverted by undrain
	Hang    Kind = "hang"    // the threads that serve stand still; reverted by letting them go
	Silence Kind = "silence" // all packets of the node are lost; reverted by letting them through

	Freeze       Kind = "freeze"        // SIGSTOP of all processes of the node; reverted by SIGCONT
	LinkDown     Kind = "link-down"     // the node sets its interface down; reverted by setting it up
	FarLinkDown  Kind = "far-link-down" // the same at the other end of the cable
	ControlLoss  Kind = "control-loss"  // packets of its control and gossip ports are lost; reverted by letting them through
	ControlDeaf  Kind = "control-deaf"  // the same, but only of those that come in
	BFDLoss      Kind = "bfd-loss"      // its BFD packets are lost; reverted by letting them through
	SessionReset Kind = "session-reset" // the router ends its BGP sessions, once
	DiskFull     Kind = "disk-full"     // no room on the disk of its data; reverted by making some
)

// The refusals that callers decide on: all are the caller's to correct.
var (
	ErrNoNode     = errors.New("no such node")
	ErrNoScenario = errors.New("no such drill")
	ErrNoFault    = errors.New("this fault cannot be injected here")
	ErrNoControl  = errors.New("the product's CLI cannot be run")
)

// Site is a cluster, its router and the place of its clients.
type Site interface {
	// Name is for people: "lab anycast".
	Name() string
	// Target is the VIP and port that the probes go to.
	Target() netip.AddrPort
	// Nodes are those that a drill may break; empty: it cannot be told.
	Nodes() []string
	// NodeNames gives a node's name by each of its addresses.
	NodeNames() map[string]string
	// Prober runs "pharos drill probe" with these arguments at the clients' place.
	Prober(ctx context.Context, args ...string) *exec.Cmd
	// ProbeArgs are further arguments of probes that this site needs.
	ProbeArgs() []string
	// Router runs a command on the router.
	Router(ctx context.Context, argv ...string) *exec.Cmd
	// OneClock says that the router's clock is this machine's.
	OneClock() bool
	// Fault prepares a fault of a node; from names the nodes that it is cut off
	// from, for the kinds of loss of control, where it is not from all. The error
	// wraps ErrNoNode or ErrNoFault.
	Fault(kind Kind, node string, from ...string) (fault.Injector, error)
}

// Detector is a Site that knows how long its router takes to find out that a node
// fell silent.
type Detector interface {
	Detection(ctx context.Context, node string) (time.Duration, error)
}

// Tidier is a Site that can end what an earlier drill left: connections that a node
// still has though their client is gone, since its last packets went to another
// node or nowhere. They live for minutes, and a new connection from the same port
// would wait for a second because of them.
type Tidier interface {
	Tidy(ctx context.Context) error
}
