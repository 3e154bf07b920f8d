package netns

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/lab/topo"
	"github.com/pharos-lb/pharos/lab/traffic"
)

const (
	frrDaemons = "/usr/lib/frr" // where Debian's package puts the daemons
	frrConfig  = "/etc/frr"
	frrRun     = "/run/frr"
)

// frrPrograms are the FRR daemons that a node has a configuration file for,
// zebra first: the others connect to it. Everything runs as root, which the
// lab's own /etc/group makes a member of FRR's vty group: in a user namespace
// there is no other user.
func frrPrograms(n topo.Node) ([]program, error) {
	var daemons []string
	for _, b := range n.Binds {
		name, isConf := strings.CutSuffix(path.Base(b.Target), ".conf")
		if isConf && path.Dir(b.Target) == frrConfig && name != "vtysh" && name != "frr" {
			daemons = append(daemons, name)
		}
	}
	if !slices.Contains(daemons, "zebra") {
		return nil, fmt.Errorf("node %s: image frr needs one file for each daemon bound to %s, zebra.conf among them", n.Name, frrConfig)
	}
	slices.SortStableFunc(daemons, func(a, b string) int {
		switch {
		case a == "zebra" && b != "zebra":
			return -1
		case b == "zebra" && a != "zebra":
			return 1
		}
		return strings.Compare(a, b)
	})
	programs := make([]program, 0, len(daemons))
	for _, d := range daemons {
		argv := []string{
			filepath.Join(frrDaemons, d), "-u", "root", "-g", "root",
			"-f", filepath.Join(frrConfig, d+".conf"), "-i", filepath.Join(frrRun, d+".pid"), "-P", "0",
		}
		programs = append(programs, program{name: d, argv: argv})
	}
	return programs, nil
}

// frrMounts are what FRR needs beyond the topology's binds.
func frrMounts(dir string) []mount {
	return []mount{
		{Source: filepath.Join(dir, "run"), Target: frrRun},
		{Source: filepath.Join(dir, "group"), Target: "/etc/group"},
	}
}

// writeFRRFiles makes the sources of frrMounts.
func writeFRRFiles(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o755); err != nil {
		return err
	}
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(groups)) {
		if !strings.HasPrefix(line, "frrvty:") {
			b.WriteString(line)
		}
	}
	b.WriteString("frrvty:x:0:root\n")
	return os.WriteFile(filepath.Join(dir, "group"), []byte(b.String()), 0o644)
}

// startFRR starts the daemons of a router and returns once each answers.
func (l *Lab) startFRR(ctx context.Context, n topo.Node, programs []program) error {
	run := filepath.Join(l.NodeDir(n.Name), "run")
	for _, p := range programs {
		if err := l.spawn(ctx, n.Name, p); err != nil {
			return err
		}
		ready := filepath.Join(run, p.name+".vty")
		if p.name == "zebra" {
			ready = filepath.Join(run, "zserv.api")
		}
		if err := l.awaitFile(ctx, ready, n.Name, p.name); err != nil {
			return err
		}
	}
	for _, p := range programs {
		err := poll(ctx, func() error {
			out, err := l.Command(ctx, n.Name, "vtysh", "-d", p.name, "-c", "show version").CombinedOutput()
			if err != nil {
				return fmt.Errorf("vtysh: %w: %s", err, strings.TrimSpace(string(out)))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("lab %s: wait for %s of %s to answer: %w", l.state.Name, p.name, n.Name, err)
		}
	}
	return l.letBFDRunAhead(n.Name, programs)
}

// letBFDRunAhead gives a router's BFD what it has on a real one: its own
// processor, or a line card, which the nodes' work does not delay. Here it
// shares two cores with three nodes, three backends and a client at full load,
// and as an ordinary process it was up to 900 ms late, and took that for the
// nodes' silence. What it judges is not changed by that.
func (l *Lab) letBFDRunAhead(node string, programs []program) error {
	if !slices.ContainsFunc(programs, func(p program) bool { return p.name == "bfdd" }) {
		return nil
	}
	p, err := l.readProcess(node, "bfdd")
	if err != nil {
		return fmt.Errorf("lab %s: find bfdd of %s: %w", l.state.Name, node, err)
	}
	traffic.RunAhead(p.Pid)
	return nil
}

// awaitFile waits until a process has made a file, or ended.
func (l *Lab) awaitFile(ctx context.Context, file, node, process string) error {
	err := poll(ctx, func() error {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		if _, err := l.readProcess(node, process); err != nil {
			return permanent{fmt.Errorf("it ended; its last words: %s", l.LastWords(node, process))}
		}
		return fmt.Errorf("it has not made %s", filepath.Base(file))
	})
	if err != nil {
		return fmt.Errorf("lab %s: start %s of %s: %w", l.state.Name, process, node, err)
	}
	return nil
}
