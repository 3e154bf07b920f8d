package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/pharos-lb/pharos/lab/topo"
)

// MinDisk is the smallest disk of its own that a node's data gets: below it, a
// node that keeps some in reserve would never serve.
const MinDisk = 64 << 20

// mountDisks gives each node of the cluster a disk of its own for its data, in
// memory, so that it can be full without this machine's being so.
func (l *Lab) mountDisks(ctx context.Context) error {
	if l.state.DiskBytes == 0 {
		return nil
	}
	mount, err := lookTool("mount")
	if err != nil {
		return err
	}
	for _, n := range l.NodesOf(topo.RoleNode) {
		size := fmt.Sprintf("size=%d", l.state.DiskBytes)
		if out, err := exec.CommandContext(ctx, mount, "-t", "tmpfs", "-o", size, "pharos-lab", l.NodeDir(n.Name)).CombinedOutput(); err != nil {
			return fmt.Errorf("lab %s: make a disk for %s: %w: %s", l.state.Name, n.Name, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// unmountDisks undoes mountDisks, as far as it came. It goes by what is mounted,
// not by the state, which a pharos before this could have written anew.
func unmountDisks(s *state) error {
	for node := range s.Namespaces {
		err := syscall.Unmount((&Lab{state: s}).NodeDir(node), 0)
		// EINVAL: nothing is mounted there.
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("unmount the disk of %s: %w", node, err)
		}
	}
	return nil
}

// HasOwnDisk says whether a node's data is on a disk of its own.
func (l *Lab) HasOwnDisk(node string) bool {
	var own, lab syscall.Stat_t
	return syscall.Stat(l.NodeDir(node), &own) == nil && syscall.Stat(l.Dir(), &lab) == nil && own.Dev != lab.Dev
}
