package drill

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/lab/fault"
)

// Commands is a Site that the operator's own commands reach: any cluster.
// Probes go out from this machine.
type Commands struct {
	Binary  string         // pharos, for the probes
	VIP     netip.AddrPort // the target
	Breaks  string         // shell command that injects the fault
	Mends   string         // shell command that reverts it; harmless where nothing is broken
	Via     []string       // what stands before a command to run it on the router: ssh tor1
	Peers   map[string]string
	Further []string // arguments of probes: --node-header ...
}

// Name implements Site.
func (c *Commands) Name() string { return c.VIP.String() }

// Target implements Site.
func (c *Commands) Target() netip.AddrPort { return c.VIP }

// Nodes implements Site: those that the peers' addresses name.
func (c *Commands) Nodes() []string {
	return slices.Compact(slices.Sorted(maps.Values(c.Peers)))
}

// NodeNames implements Site.
func (c *Commands) NodeNames() map[string]string { return c.Peers }

// Prober implements Site.
func (c *Commands) Prober(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, c.Binary, append([]string{"drill", "probe"}, args...)...)
}

// ProbeArgs implements Site.
func (c *Commands) ProbeArgs() []string { return c.Further }

// Router implements Site.
func (c *Commands) Router(ctx context.Context, argv ...string) *exec.Cmd {
	all := append(slices.Clone(c.Via), argv...)
	return exec.CommandContext(ctx, all[0], all[1:]...)
}

// OneClock implements Site: the router may be any machine.
func (c *Commands) OneClock() bool { return false }

// Fault implements Site: whatever the drill, the operator's commands do it.
func (c *Commands) Fault(kind Kind, node string, from ...string) (fault.Injector, error) {
	if c.Breaks == "" || c.Mends == "" {
		return nil, fmt.Errorf("%w: %s of %s: say how by --inject and --revert", ErrNoFault, kind, node)
	}
	shell := func(script string) func(context.Context) *exec.Cmd {
		return func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, "sh", "-c", script)
			cmd.Env = append(cmd.Environ(), "PHAROS_DRILL_NODE="+node, "PHAROS_DRILL_FROM="+strings.Join(from, " "))
			return cmd
		}
	}
	return &fault.Guarded{
		Injector: &fault.Command{InjectWith: shell(c.Breaks), RevertWith: shell(c.Mends)},
		Mend:     func(ctx context.Context) (*exec.Cmd, error) { return shell(c.Mends)(ctx), nil },
	}, nil
}
