package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/fault"
	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// The ports that nodes talk to each other on, and those of BFD (RFC 5881, section 4).
var (
	controlLoss = fault.Loss{TCP: []uint16{7443, 7946}, UDP: []uint16{7946}}
	bfdLoss     = fault.Loss{UDP: []uint16{3784}}
)

// Fault implements Site.
func (l *Lab) Fault(kind Kind, node string, from ...string) (fault.Injector, error) {
	for _, n := range append([]string{node}, from...) {
		if !slices.Contains(l.nodes, n) {
			return nil, fmt.Errorf("%w: %q: %s has %s", ErrNoNode, n, l.Name(), strings.Join(l.nodes, ", "))
		}
	}
	name := "pharos serve of " + node
	pid := func() (int, error) { return l.lab.Pid(node) }
	switch kind {
	case Kill:
		return l.process(node, unix.SIGKILL, false), nil
	case Restart:
		return l.process(node, unix.SIGTERM, true), nil
	case Hang:
		return &fault.Hang{Name: name, Pid: pid}, nil
	case Freeze:
		return l.freeze(node), nil
	case Drain:
		return l.drained(node), nil
	case Silence:
		return fault.Loss{}.Script().Injector(l.shell(node)), nil
	case BFDLoss:
		return bfdLoss.Script().Injector(l.shell(node)), nil
	case ControlLoss, ControlDeaf:
		loss := controlLoss
		loss.OneWay = kind == ControlDeaf
		if len(from) == 0 {
			from = l.nodes
		}
		for _, n := range from {
			// Of nodes alone: a client's own port may be one of these.
			if n != node {
				loss.Of = append(loss.Of, l.addresses(n)...)
			}
		}
		return loss.Script().Injector(l.shell(node)), nil
	case LinkDown, FarLinkDown:
		return l.link(node, kind == FarLinkDown)
	case SessionReset:
		return l.sessionReset(node), nil
	case DiskFull:
		if !l.lab.HasOwnDisk(node) {
			return nil, fmt.Errorf("%w: %s: the data of %s is on this machine's disk, which a drill must not fill: bring the lab up with --disk 128", ErrNoFault, kind, node)
		}
		return fault.FullDisk(l.lab.NodeDir(node)).Injector(l.shell(node)), nil
	}
	return nil, fmt.Errorf("%w: %q", ErrNoFault, kind)
}

// shell runs scripts on a machine of the lab.
func (l *Lab) shell(machine string) fault.Shell {
	return func(ctx context.Context, script string) *exec.Cmd {
		return l.lab.Command(ctx, machine, "sh", "-c", script)
	}
}

func (l *Lab) process(node string, signal unix.Signal, await bool) fault.Injector {
	return &fault.Guarded{
		Injector: &fault.Process{
			Name:    "pharos serve of " + node,
			Pid:     func() (int, error) { return l.lab.Pid(node) },
			Stopped: func(err error) bool { return errors.Is(err, netns.ErrStopped) },
			Start:   func(ctx context.Context) error { return l.lab.Start(ctx, node) },
			Signal:  signal, Await: await,
		},
		Mend: func(ctx context.Context) (*exec.Cmd, error) {
			return exec.CommandContext(ctx, l.binary, "lab", "start", node, "--name", l.lab.Name()), nil
		},
	}
}

func (l *Lab) drained(node string) fault.Injector {
	undrain := func(ctx context.Context) *exec.Cmd { return l.Control(ctx, node, "undrain", node) }
	return &fault.Guarded{
		Injector: &fault.Command{
			InjectWith: func(ctx context.Context) *exec.Cmd {
				return l.Control(ctx, node, "drain", node, "--deadline", l.drain.String())
			},
			RevertWith: undrain,
		},
		Mend: func(ctx context.Context) (*exec.Cmd, error) { return undrain(ctx), nil },
	}
}

func (l *Lab) freeze(node string) fault.Injector {
	return &fault.Guarded{
		Injector: &fault.Freeze{Name: node, Pids: func() ([]int, error) { return l.lab.Pids(node) }},
		Mend: func(ctx context.Context) (*exec.Cmd, error) {
			return exec.CommandContext(ctx, "sh", "-c", `ip netns pids "$0" | xargs -r kill -CONT`, l.lab.Namespace(node)), nil
		},
	}
}

// link is one end of the node's cable.
func (l *Lab) link(node string, far bool) (fault.Injector, error) {
	end, other, err := l.lab.Cable(node)
	if err != nil {
		return nil, err
	}
	if far {
		end = other
	}
	return (&fault.Link{
		Device: end.Interface,
		Run:    func(ctx context.Context, argv ...string) *exec.Cmd { return l.lab.Command(ctx, end.Node, argv...) },
	}).Guarded(), nil
}

// sessionReset is over by itself.
func (l *Lab) sessionReset(node string) fault.Injector {
	argv := []string{"vtysh"}
	for _, a := range l.addresses(node) {
		if a.Is4() { // the lab's sessions run over IPv4
			argv = append(argv, "-c", "clear bgp "+a.String())
		}
	}
	return &fault.Command{
		InjectWith: func(ctx context.Context) *exec.Cmd { return l.Router(ctx, argv...) },
		RevertWith: func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, "true") },
	}
}

func (l *Lab) addresses(node string) (out []netip.Addr) {
	for _, n := range l.lab.NodesOf(topo.RoleNode) {
		if n.Name == node {
			out = n.Addresses
		}
	}
	return out
}

// Detection implements Detector: what the router's own BFD has agreed on with the
// node (RFC 5880, section 6.8.4).
func (l *Lab) Detection(ctx context.Context, node string) (time.Duration, error) {
	out, err := output(l.Router(ctx, "vtysh", "-c", "show bfd peers json"))
	if err != nil {
		return 0, fmt.Errorf("ask the router how fast it finds out: %w", err)
	}
	var addresses []string
	for _, a := range l.addresses(node) {
		addresses = append(addresses, a.String())
	}
	return detectionOf(out, addresses)
}

func detectionOf(peers []byte, addresses []string) (time.Duration, error) {
	var all []struct {
		Peer       string `json:"peer"`
		Status     string `json:"status"`
		Receive    int    `json:"receive-interval"`         // ms
		RemoteSend int    `json:"remote-transmit-interval"` // ms
		RemoteMult int    `json:"remote-detect-multiplier"`
	}
	if err := json.Unmarshal(peers, &all); err != nil {
		return 0, fmt.Errorf("read the router's BFD sessions: %w", err)
	}
	for _, p := range all {
		if slices.Contains(addresses, p.Peer) && p.Status == "up" {
			return time.Duration(p.RemoteMult*max(p.Receive, p.RemoteSend)) * time.Millisecond, nil
		}
	}
	return 0, fmt.Errorf("the router has no BFD session that is up with %s (of %s)", strings.Join(addresses, ", "), strconv.Itoa(len(all)))
}
