package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pharos-lb/pharos/lab/topo"
)

// Config is what Up makes.
type Config struct {
	Name   string       // of the lab: a-z, 0-9 and -, at most 32
	Bundle *topo.Bundle // what to bring up
	Binary string       // absolute path of the pharos that the nodes run
	// DiskBytes gives each node of the cluster a disk of its own for its data, in
	// memory; at least MinDisk. 0: the data is on this machine's disk.
	DiskBytes uint64
	// Progress is told of each step when it is done. It may be nil.
	Progress func(step string)
}

// Up brings a lab up: namespaces, links, addresses, the router, the backends.
// The nodes of the cluster are machines without a pharos until Start. What a
// crashed lab of the name left is removed first; ErrIsUp if it is whole. If
// something fails, or ctx ends, nothing stays.
func Up(ctx context.Context, c Config) (*Lab, error) {
	if err := checkName(c.Name); err != nil {
		return nil, err
	}
	if c.DiskBytes > 0 && c.DiskBytes < MinDisk {
		return nil, fmt.Errorf("a node's disk of %d bytes: must be %d at least", c.DiskBytes, MinDisk)
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	required := requirements()
	for _, n := range c.Bundle.Topology.Nodes {
		programs, err := programsOf(n)
		if err != nil {
			return nil, err
		}
		if imageName(n.Image) == "frr" {
			for _, p := range programs {
				required = append(required, requirement{p.argv[0], "frr"})
			}
			required = append(required, requirement{"vtysh", "frr"})
		}
	}
	if err := checkTools(required, lookTool); err != nil {
		return nil, err
	}
	unlock, err := lock(c.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeCrashed(ctx, c.Name); err != nil {
		return nil, err
	}
	l, err := prepare(c)
	if err == nil {
		err = l.build(ctx, c.Progress)
	}
	if err != nil {
		// Also when ctx has ended: a lab is up, or it is not there.
		if e := remove(context.WithoutCancel(ctx), c.Name); e != nil {
			err = errors.Join(err, fmt.Errorf("and what was made could not all be removed: %w", e))
		}
		return nil, err
	}
	return l, nil
}

// removeCrashed clears the way for a new lab, unless a whole one is in it.
func removeCrashed(ctx context.Context, name string) error {
	s, err := readState(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && s.Phase == phaseUp {
		l, err := load(s)
		if err == nil {
			processes, err := l.Processes()
			if err != nil {
				return err
			}
			for _, p := range processes {
				if p.Alive {
					return fmt.Errorf("lab %s: %w", name, ErrIsUp)
				}
			}
		}
	}
	if err := remove(ctx, name); err != nil {
		return fmt.Errorf("remove what a crashed lab %s left: %w", name, err)
	}
	return nil
}

// prepare makes the lab's folder, and writes down all that build will make.
func prepare(c Config) (*Lab, error) {
	dir := labDir(c.Name)
	s := &state{
		Name: c.Name, Phase: phaseMaking, Created: time.Now().UTC(), Topology: c.Bundle.File, Binary: c.Binary,
		Namespaces: map[string]string{}, Mounts: map[string][]mount{}, DiskBytes: c.DiskBytes,
	}
	for _, n := range c.Bundle.Topology.Nodes {
		s.Namespaces[n.Name] = namespaceName(c.Name, n.Name)
		if _, err := os.Lstat(filepath.Join(netnsRoot, s.Namespaces[n.Name])); err == nil {
			return nil, fmt.Errorf("bring up lab %s: a network namespace %s is there already, and no lab has a record of it: remove it with `ip netns delete %s`",
				c.Name, s.Namespaces[n.Name], s.Namespaces[n.Name])
		}
	}
	for _, sub := range []string{"topology", "nodes", "log", "pids", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of lab %s: %w", c.Name, err)
		}
	}
	if err := s.write(); err != nil {
		return nil, fmt.Errorf("write the state of lab %s: %w", c.Name, err)
	}
	if err := c.Bundle.CopyTo(filepath.Join(dir, "topology")); err != nil {
		return nil, err
	}
	if err := os.Symlink(c.Binary, filepath.Join(dir, "bin", "pharos")); err != nil {
		return nil, fmt.Errorf("bring up lab %s: %w", c.Name, err)
	}
	for _, n := range c.Bundle.Topology.Nodes {
		if err := s.prepareNode(n); err != nil {
			return nil, fmt.Errorf("bring up node %s of lab %s: %w", n.Name, c.Name, err)
		}
	}
	if err := s.write(); err != nil {
		return nil, fmt.Errorf("write the state of lab %s: %w", c.Name, err)
	}
	return load(s)
}

func (s *state) prepareNode(n topo.Node) error {
	dir := filepath.Join(labDir(s.Name), "nodes", n.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	mounts, err := planMounts(n.Binds, filepath.Join(labDir(s.Name), "topology"), dir)
	if err != nil {
		return err
	}
	if imageName(n.Image) == "frr" {
		if err := writeFRRFiles(dir); err != nil {
			return err
		}
		if _, err := os.Stat(frrRun); errors.Is(err, fs.ErrNotExist) {
			// Written down first, so that a crash leaves no folder behind.
			s.MadeDirs = append(s.MadeDirs, frrRun)
			if err := s.write(); err != nil {
				return err
			}
			if err := os.MkdirAll(frrRun, 0o755); err != nil {
				return err
			}
		}
		mounts = append(mounts, frrMounts(dir)...)
	}
	if len(mounts) > 0 {
		s.Mounts[n.Name] = mounts
	}
	return nil
}

// build makes what prepare wrote down.
func (l *Lab) build(ctx context.Context, progress func(string)) error {
	if err := l.mountDisks(ctx); err != nil {
		return err
	}
	if err := l.makeNetwork(ctx); err != nil {
		return err
	}
	progress(fmt.Sprintf("%d machines and %d links", len(l.topology.Nodes), len(l.topology.Links)))
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range l.topology.Nodes {
		group.Go(func() error { return l.configure(gctx, n) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	progress("addresses and routes")
	group, gctx = errgroup.WithContext(ctx)
	for _, n := range l.topology.Nodes {
		programs, err := programsOf(n)
		if err != nil {
			return err
		}
		switch {
		case imageName(n.Image) == "frr":
			group.Go(func() error { return l.startFRR(gctx, n, programs) })
		case n.Role == topo.RoleNode:
			// A node has no identity until it is given one: see lab/deploy.
		default:
			group.Go(func() error {
				for _, p := range programs {
					if err := l.spawn(gctx, n.Name, p); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	progress("router and backends")
	l.state.Phase = phaseUp
	if err := l.state.write(); err != nil {
		return fmt.Errorf("write the state of lab %s: %w", l.state.Name, err)
	}
	return nil
}

// makeNetwork makes the namespaces and the cables between them.
func (l *Lab) makeNetwork(ctx context.Context) error {
	var script strings.Builder
	for _, n := range l.topology.Nodes {
		fmt.Fprintf(&script, "netns add %s\n", l.state.Namespaces[n.Name])
	}
	for _, link := range l.topology.Links {
		fmt.Fprintf(&script, "link add %s mtu %d netns %s type veth peer name %s mtu %d netns %s\n",
			link.A.Interface, link.MTU, l.state.Namespaces[link.A.Node],
			link.B.Interface, link.MTU, l.state.Namespaces[link.B.Node])
	}
	if err := ipBatch(ctx, script.String(), "-batch", "-"); err != nil {
		return fmt.Errorf("make the network of lab %s: %w", l.state.Name, err)
	}
	return nil
}

// configure sets one node up as its topology says: sysctls, links, exec lines.
func (l *Lab) configure(ctx context.Context, n topo.Node) error {
	fail := func(err error) error {
		return fmt.Errorf("set up node %s of lab %s: %w", n.Name, l.state.Name, err)
	}
	// A cable inside one kernel has no duplicate addresses, and detecting them
	// takes a second.
	sysctls := map[string]string{"net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0"}
	for _, end := range l.topology.Ports(n.Name) {
		sysctls["net.ipv6.conf."+end.Interface+".accept_dad"] = "0"
	}
	if n.Kind == topo.KindBridge {
		// A switch is nobody on its segment.
		sysctls = map[string]string{"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}
	}
	if err := setSysctls(ctx, l.NetnsPath(n.Name), sysctls); err != nil {
		return fail(err)
	}
	if err := setSysctls(ctx, l.NetnsPath(n.Name), n.Sysctls); err != nil {
		return fail(err)
	}
	script := "link set lo up\n"
	for _, end := range l.topology.Ports(n.Name) {
		script += "link set " + end.Interface + " up\n"
	}
	if n.Kind == topo.KindBridge {
		script += l.switchScript(n)
	}
	if err := ipBatch(ctx, script, "-netns", l.state.Namespaces[n.Name], "-batch", "-"); err != nil {
		return fail(err)
	}
	for _, argv := range n.Exec {
		out, err := l.Command(ctx, n.Name, argv...).CombinedOutput()
		if err != nil {
			return fail(fmt.Errorf("exec %q: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out)))
		}
	}
	return nil
}

func ipBatch(ctx context.Context, script string, args ...string) error {
	ip, err := lookTool("ip")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, ip, args...)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
