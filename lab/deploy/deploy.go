// Package deploy makes a cluster out of a lab's nodes, by the product's own
// command line and nothing else: what it does, an operator can type.
package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// Limits of each step. They only bound a failure: every step ends when what it
// waits for has happened.
const (
	stepTimeout  = 30 * time.Second
	pollInterval = 50 * time.Millisecond
)

// Cluster deploys the cluster of a lab that is up: the first node of the
// topology by init, the others by join, and the topology's cluster
// configuration by apply. It returns once the router has every node as a next
// hop of every VIP. progress is told of each step when it is done; it may be
// nil.
func Cluster(ctx context.Context, lab *netns.Lab, progress func(step string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	d := &deployment{lab: lab, nodes: lab.NodesOf(topo.RoleNode), progress: progress}
	if len(d.nodes) == 0 {
		return fmt.Errorf("deploy a cluster in lab %s: its topology has no nodes", lab.Name())
	}
	for _, step := range []func(context.Context) error{d.init, d.join, d.apply, d.converge} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("deploy a cluster in lab %s: %w", lab.Name(), err)
		}
	}
	return nil
}

type deployment struct {
	lab      *netns.Lab
	nodes    []netns.Node
	progress func(string)
	join1    JoinCommand // what init printed, for the second node
}

// identity are the flags that say who a node is, to init and join alike.
func (d *deployment) identity(n netns.Node) ([]string, error) {
	if len(n.Addresses) == 0 {
		return nil, fmt.Errorf("node %s has no address in the topology", n.Name)
	}
	args := []string{"--name", n.Name, "--address", n.Addresses[0].String(), "--dir", d.lab.NodeDir(n.Name)}
	for _, a := range n.Addresses {
		args = append(args, "--node-address", a.String())
	}
	return args, nil
}

func (d *deployment) init(ctx context.Context) error {
	first := d.nodes[0]
	identity, err := d.identity(first)
	if err != nil {
		return err
	}
	out, err := d.pharos(ctx, first, append([]string{"init"}, identity...)...)
	if err != nil {
		return err
	}
	if len(d.nodes) > 1 {
		if d.join1, err = ParseJoinCommand(out); err != nil {
			return fmt.Errorf("pharos init on %s: %w", first.Name, err)
		}
	}
	if err := d.lab.Start(ctx, first.Name); err != nil {
		return err
	}
	if err := d.awaitMembers(ctx, 1); err != nil {
		return err
	}
	d.progress("cluster made on " + first.Name)
	return nil
}

func (d *deployment) join(ctx context.Context) error {
	for i, n := range d.nodes[1:] {
		command := d.join1
		if i > 0 {
			// A token is good for one node.
			out, err := d.pharos(ctx, d.nodes[0], "token", "create", "--dir", d.lab.NodeDir(d.nodes[0].Name))
			if err != nil {
				return err
			}
			if command, err = ParseJoinCommand(out); err != nil {
				return fmt.Errorf("pharos token create on %s: %w", d.nodes[0].Name, err)
			}
		}
		identity, err := d.identity(n)
		if err != nil {
			return err
		}
		if _, err := d.pharos(ctx, n, append([]string{"join", command.Address, "--token", command.Token}, identity...)...); err != nil {
			return err
		}
		if err := d.lab.Start(ctx, n.Name); err != nil {
			return err
		}
		if err := d.awaitMembers(ctx, i+2); err != nil {
			return err
		}
		d.progress(n.Name + " joined")
	}
	return nil
}

func (d *deployment) apply(ctx context.Context) error {
	first := d.nodes[0]
	if _, err := os.Stat(d.lab.ClusterFile()); err != nil {
		return fmt.Errorf("the topology has no cluster configuration: %w", err)
	}
	if _, err := d.pharos(ctx, first, "apply", "-f", d.lab.ClusterFile(), "--wait", "--dir", d.lab.NodeDir(first.Name)); err != nil {
		return err
	}
	d.progress("configuration applied")
	return nil
}

// converge waits until the router spreads every VIP over all nodes.
func (d *deployment) converge(ctx context.Context) error {
	want := len(d.nodes)
	for _, vip := range d.lab.VIPs() {
		err := d.await(ctx, func(ctx context.Context) error {
			hops, err := RouterNextHops(ctx, d.lab, vip)
			if err != nil {
				return err
			}
			if len(hops) != want {
				return fmt.Errorf("the router has %d next hops %v, want %d", len(hops), hops, want)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("wait for the router to send VIP %s to all %d nodes: %w (`pharos explain vip` on a node says why it does not announce)", vip, want, err)
		}
	}
	d.progress(fmt.Sprintf("router spreads %d VIP addresses over %d nodes", len(d.lab.VIPs()), want))
	return nil
}

// awaitMembers waits until the first node counts so many members alive.
func (d *deployment) awaitMembers(ctx context.Context, want int) error {
	first := d.nodes[0]
	err := d.await(ctx, func(ctx context.Context) error {
		out, err := d.pharos(ctx, first, "member", "list", "-o", "json", "--dir", d.lab.NodeDir(first.Name))
		if err != nil {
			return err
		}
		members, err := ParseMembers([]byte(out))
		if err != nil {
			return fmt.Errorf("pharos member list: %w", err)
		}
		var alive []string
		for _, m := range members {
			if m.Alive {
				alive = append(alive, m.Name)
			}
		}
		slices.Sort(alive)
		for _, n := range d.nodes[:want] {
			if !slices.Contains(alive, n.Name) {
				return fmt.Errorf("members alive: %v, want %s among them", alive, n.Name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d members: %w", want, err)
	}
	return nil
}

// await calls check until it succeeds. It gives up after stepTimeout, and at
// once when a node that was started has ended.
func (d *deployment) await(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("gave up after %s", stepTimeout))
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		last := check(ctx)
		if last == nil {
			return nil
		}
		if err := d.findEnded(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", last, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// findEnded looks for a node whose pharos serve was started and has ended.
func (d *deployment) findEnded() error {
	processes, err := d.lab.Processes()
	if err != nil {
		return err
	}
	for _, p := range processes {
		isNode := slices.ContainsFunc(d.nodes, func(n netns.Node) bool { return n.Name == p.Node })
		if isNode && !p.Alive {
			return fmt.Errorf("pharos serve on %s has ended; its last words: %s (log: %s)", p.Node, d.lab.LastWords(p.Node, p.Name), d.lab.LogFile(p.Node, p.Name))
		}
	}
	return nil
}

// pharos runs the product's command line on a node and returns what it
// printed.
func (d *deployment) pharos(ctx context.Context, n netns.Node, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("gave up after %s", stepTimeout))
	defer cancel()
	cmd := d.lab.Command(ctx, n.Name, append([]string{"pharos"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(err, cause)
		}
		return "", fmt.Errorf("pharos %s on %s: %w: %s", args[0], n.Name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// RouterNextHops asks the lab's router where its kernel sends a VIP. An empty
// answer means that there is no route.
func RouterNextHops(ctx context.Context, lab *netns.Lab, vip netip.Addr) ([]netip.Addr, error) {
	routers := lab.NodesOf(topo.RoleRouter)
	if len(routers) != 1 {
		return nil, fmt.Errorf("lab %s has %d routers, want one", lab.Name(), len(routers))
	}
	family := "-4"
	if vip.Is6() {
		family = "-6"
	}
	cmd := lab.Command(ctx, routers[0].Name, "ip", "-j", family, "route", "show", "exact", netip.PrefixFrom(vip, vip.BitLen()).String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask router %s for its route to %s: %w: %s", routers[0].Name, vip, err, bytes.TrimSpace(stderr.Bytes()))
	}
	hops, err := ParseRoute(out)
	if err != nil {
		return nil, fmt.Errorf("route of router %s to %s: %w", routers[0].Name, vip, err)
	}
	return hops, nil
}
