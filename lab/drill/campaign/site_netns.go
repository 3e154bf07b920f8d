package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/arpwatch"
	"github.com/pharos-lb/pharos/lab/fault"
	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// The sniffer is on the segment as a machine of its own, with addresses that the
// topology leaves free.
const (
	snifferMAC  = "02:70:68:61:72:6f"
	snifferIPv4 = "10.0.50.98"
	snifferIPv6 = "2001:db8:50::98"
)

// Lab is the Site of a lab that is up, in network namespaces.
type Lab struct {
	lab     *netns.Lab
	binary  string
	sw      string            // the switch
	ports   map[string]string // of the switch, by node
	nodes   []string
	holders map[arpwatch.MAC]string
}

// NewLab makes a Site of a lab. binary is pharos, for the sniffer: the caller's
// own. It fails when the lab's nodes are not on a switch, or it has no VIP.
func NewLab(ctx context.Context, lab *netns.Lab, binary string) (*Lab, error) {
	l := &Lab{lab: lab, binary: binary, ports: map[string]string{}, holders: map[arpwatch.MAC]string{}}
	if len(lab.VIPs()) == 0 {
		return nil, fmt.Errorf("lab %s has no VIP", lab.Name())
	}
	for _, n := range lab.NodesOf(topo.RoleNode) {
		_, port, err := lab.Cable(n.Name)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(lab.NodesOf(topo.RoleSwitch), func(s netns.Node) bool { return s.Name == port.Node }); i < 0 || l.sw != "" && l.sw != port.Node {
			return nil, fmt.Errorf("lab %s: a campaign needs all nodes on one switch, and %s is on %s: bring one up with `pharos lab up --topology l2`", lab.Name(), n.Name, port.Node)
		}
		mac, err := l.hardwareAddress(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		l.sw, l.ports[n.Name], l.holders[mac] = port.Node, port.Interface, n.Name
		l.nodes = append(l.nodes, n.Name)
	}
	return l, nil
}

func (l *Lab) hardwareAddress(ctx context.Context, node string) (arpwatch.MAC, error) {
	own, _, err := l.lab.Cable(node)
	if err != nil {
		return arpwatch.MAC{}, err
	}
	out, err := output(l.lab.Command(ctx, node, "ip", "-j", "link", "show", own.Interface))
	if err != nil {
		return arpwatch.MAC{}, fmt.Errorf("hardware address of %s: %w", node, err)
	}
	var links []struct{ Address arpwatch.MAC }
	if err := json.Unmarshal(out, &links); err != nil || len(links) != 1 {
		return arpwatch.MAC{}, fmt.Errorf("hardware address of %s: %d links in %q: %w", node, len(links), out, err)
	}
	return links[0].Address, nil
}

// Name implements Site.
func (l *Lab) Name() string { return "lab " + l.lab.Name() }

// Nodes implements Site.
func (l *Lab) Nodes() []string { return l.nodes }

// Addresses implements Site.
func (l *Lab) Addresses() []netip.Addr { return l.lab.VIPs() }

// Holders implements Site.
func (l *Lab) Holders() map[arpwatch.MAC]string { return l.holders }

// Sniffer implements Site. What the nodes send to the sniffer is dropped by the
// switch once it was heard, which knows no port for it and would send it to
// everybody.
func (l *Lab) Sniffer(ctx context.Context, args ...string) *exec.Cmd {
	argv := []string{l.binary, "lab", "arpwatch", "--self-mac", snifferMAC, "--self-ipv4", snifferIPv4, "--self-ipv6", snifferIPv6}
	for _, n := range l.nodes {
		argv = append(argv, "--port", l.ports[n])
	}
	const script = `nft "table bridge pharos_sniffer {
  chain heard { type filter hook prerouting priority -300; ether daddr $0 drop; }
}" && exec "$@"`
	return l.lab.Command(ctx, l.sw, append([]string{"sh", "-c", script, snifferMAC}, append(argv, args...)...)...)
}

// Fault implements Site.
func (l *Lab) Fault(f Fault) (fault.Injector, error) {
	for _, n := range append(f.nodes(), f.Node) {
		if n != "" && !slices.Contains(l.nodes, n) {
			return nil, fmt.Errorf("%s: %s has no node %q", f, l.Name(), n)
		}
	}
	switch f.Kind {
	case Kill:
		return &fault.Process{
			Name:    "pharos serve of " + f.Node,
			Pid:     func() (int, error) { return l.lab.Pid(f.Node) },
			Stopped: func(err error) bool { return errors.Is(err, netns.ErrStopped) },
			Start:   func(ctx context.Context) error { return l.lab.Start(ctx, f.Node) },
			Signal:  unix.SIGKILL,
		}, nil
	case Freeze:
		return &fault.Guarded{
			Injector: &fault.Freeze{Name: f.Node, Pids: func() ([]int, error) { return l.lab.Pids(f.Node) }},
			Mend: func(ctx context.Context) (*exec.Cmd, error) {
				return exec.CommandContext(ctx, "sh", "-c", `ip netns pids "$0" | xargs -r kill -CONT`, l.lab.Namespace(f.Node)), nil
			},
		}, nil
	case LinkDown, PortDown:
		end, other, err := l.lab.Cable(f.Node)
		if err != nil {
			return nil, err
		}
		if f.Kind == PortDown {
			end = other
		}
		return (&fault.Link{
			Device: end.Interface,
			Run:    func(ctx context.Context, argv ...string) *exec.Cmd { return l.lab.Command(ctx, end.Node, argv...) },
		}).Guarded(), nil
	case Partition, Silence, Control:
		return l.dropping(f).Injector(func(ctx context.Context, script string) *exec.Cmd {
			return l.lab.Command(ctx, l.sw, "sh", "-c", script)
		}), nil
	}
	return nil, fmt.Errorf("there is no kind of fault %q", f.Kind)
}

// controlPorts are those that nodes talk to each other on: the control API with
// Raft and the leases, and gossip.
const controlPorts = "{ 7443, 7946 }"

// dropping has the switch drop frames.
func (l *Lab) dropping(f Fault) fault.Script {
	table := "bridge pharos_drill_" + strings.ReplaceAll(string(f.Kind), "-", "_") + "_" + strings.ReplaceAll(f.Node, "-", "_")
	var rules []string
	switch f.Kind {
	case Partition:
		for _, c := range f.Cuts {
			rules = append(rules, fmt.Sprintf("iifname %q oifname %q drop", l.ports[c.From], l.ports[c.To]))
		}
	case Silence:
		rules = []string{fmt.Sprintf("iifname %q drop", l.ports[f.Node]), fmt.Sprintf("oifname %q drop", l.ports[f.Node])}
	case Control:
		for _, side := range []string{"iifname", "oifname"} {
			for _, protocol := range []string{"tcp", "udp"} {
				for _, end := range []string{"sport", "dport"} {
					rules = append(rules, fmt.Sprintf("%s %q %s %s %s drop", side, l.ports[f.Node], protocol, end, controlPorts))
				}
			}
		}
	}
	return fault.Script{
		Break: "nft '" + fmt.Sprintf("table %s {\n  chain cut {\n    type filter hook forward priority -200;\n    %s\n  }\n}", table, strings.Join(rules, "\n    ")) + "'",
		Mend:  fmt.Sprintf("nft list table %s >/dev/null 2>&1 || exit 0\nnft delete table %s", table, table),
	}
}

// nodes are those of a partition.
func (f Fault) nodes() []string {
	var all []string
	for _, c := range f.Cuts {
		all = append(all, c.From, c.To)
	}
	return all
}

// preemptDelay has VIPs go back to where they belong within a campaign, too.
const preemptDelay = time.Second

// Strict implements Site.
func (l *Lab) Strict(ctx context.Context) (func(context.Context) error, error) {
	before, err := os.ReadFile(l.lab.ClusterFile())
	if err != nil {
		return nil, err
	}
	after, err := strict(before)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.lab.ClusterFile(), err)
	}
	restore := func(ctx context.Context) error { return l.apply(ctx, before) }
	if err := l.apply(ctx, after); err != nil {
		return nil, errors.Join(err, restore(context.WithoutCancel(ctx)))
	}
	return restore, nil
}

// strict changes a cluster's configuration to one that holds its VIPs strictly.
func strict(document []byte) ([]byte, error) {
	var doc yaml.MapSlice
	if err := yaml.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	changed := 0
	for _, item := range doc {
		vips, ok := item.Value.([]any)
		if item.Key != "vips" || !ok {
			continue
		}
		for i := range vips {
			vip, ok := vips[i].(map[string]any)
			if !ok || vip["mode"] != "arp" {
				continue
			}
			arp, _ := vip["arp"].(map[string]any)
			if arp == nil {
				arp = map[string]any{}
			}
			arp["takeover"], arp["preempt_delay"] = "strict", preemptDelay.String()
			vip["arp"] = arp
			changed++
		}
	}
	if changed == 0 {
		return nil, errors.New("it has no VIP of mode arp")
	}
	return yaml.Marshal(doc)
}

func (l *Lab) apply(ctx context.Context, document []byte) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	cmd := l.lab.Command(ctx, l.nodes[0], l.lab.Binary(), "apply", "-f", "-", "--wait")
	cmd.Stdin = bytes.NewReader(document)
	_, err := output(cmd)
	return err
}

const applyLimit = 30 * time.Second

// output runs a command, and has what it says of a failure in the error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
