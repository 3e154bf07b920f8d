// Package drill breaks a cluster on purpose and says what its clients saw.
// A Scenario says what is broken; a Site is where: the lab, or any cluster that
// commands can reach; Run does it and has package oracle judge the record.
package drill

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"

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
)

// The refusals that callers decide on: all are the caller's to correct.
var (
	ErrNoNode     = errors.New("no such node")
	ErrNoScenario = errors.New("no such drill")
	ErrNoFault    = errors.New("this fault cannot be injected here")
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
	// Fault prepares a fault of a node. The error wraps ErrNoNode or ErrNoFault.
	Fault(kind Kind, node string) (fault.Injector, error)
}
