package netns

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/pharos-lb/pharos/lab/topo"
)

// mountScript makes the bind mounts of its leading (options, source, target)
// triples, up to "--", and becomes the command that follows.
const mountScript = `while [ "$1" != -- ]; do mount -o "$1" "$2" "$3" || exit 125; shift 3; done; shift; exec "$@"`

// Command prepares argv to run inside a node: in its network namespace, with
// the files that the topology binds, with the lab's pharos first in PATH and,
// for a node of the cluster, PHAROS_DIR. The caller sets its input and output
// and starts it. Its process is argv's own, so that a signal to it, or the end
// of ctx, reaches the real one. With an unknown node, starting it fails with
// ErrNoNode.
func (l *Lab) Command(ctx context.Context, node string, argv ...string) *exec.Cmd {
	n, ok := l.topology.Node(node)
	if !ok || len(argv) == 0 {
		cmd := exec.CommandContext(ctx, "false")
		if cmd.Err = fmt.Errorf("lab %s: %s: %w", l.state.Name, node, ErrNoNode); ok {
			cmd.Err = fmt.Errorf("lab %s: %s: no command to run", l.state.Name, node)
		}
		return cmd
	}
	args := []string{"--net=" + l.NetnsPath(node), "--"}
	if mounts := l.state.Mounts[node]; len(mounts) > 0 {
		args = append(args, "unshare", "--mount", "--", "sh", "-c", mountScript, "sh")
		for _, m := range mounts {
			options := "bind"
			if m.ReadOnly {
				options = "bind,ro"
			}
			args = append(args, options, m.Source, m.Target)
		}
		args = append(args, "--")
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
	cmd.Env = l.environment(n)
	// Each variable once: a caller may hand the list to execve itself.
	cmd.Env = cmd.Environ()
	return cmd
}

func (l *Lab) environment(n topo.Node) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	env := append(os.Environ(), "PATH="+filepath.Join(l.Dir(), "bin")+":"+path)
	if n.Role == topo.RoleNode {
		env = append(env, "PHAROS_DIR="+l.NodeDir(n.Name))
	}
	for _, key := range slices.Sorted(maps.Keys(n.Env)) {
		env = append(env, key+"="+n.Env[key])
	}
	return env
}
