package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/lab/topo"
)

// planMounts works out the mounts that show a node its binds. A bind mount
// needs something to be mounted on: where a target is not there on this
// machine, or cannot be seen, a folder of the lab's, with an empty stand-in
// for each target, is put over the target's folder first. sources is what
// relative sources are relative to, dir the node's folder.
func planMounts(binds []topo.Bind, sources, dir string) ([]mount, error) {
	var over []string // folders that get a stand-in
	for _, b := range binds {
		parent := filepath.Dir(b.Target)
		if _, err := os.Stat(b.Target); err == nil || slices.Contains(over, parent) {
			continue
		}
		if info, err := os.Stat(parent); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("bind to %s: there is no folder %s on this machine", b.Target, parent)
		}
		if strings.Count(parent, "/") < 2 {
			return nil, fmt.Errorf("bind to %s: there is no such file on this machine, and to put another folder over %s would hide the system's own", b.Target, parent)
		}
		over = append(over, parent)
	}
	var mounts []mount
	for _, parent := range over {
		standIn := filepath.Join(dir, "mnt", parent)
		if err := os.MkdirAll(standIn, 0o755); err != nil {
			return nil, err
		}
		mounts = append(mounts, mount{Source: standIn, Target: parent})
	}
	for _, b := range binds {
		source := b.Source
		if !filepath.IsAbs(source) {
			source = filepath.Join(sources, source)
		}
		info, err := os.Stat(source)
		if err != nil {
			return nil, fmt.Errorf("bind to %s: %w", b.Target, err)
		}
		if parent := filepath.Dir(b.Target); slices.Contains(over, parent) {
			standIn := filepath.Join(dir, "mnt", b.Target)
			if info.IsDir() {
				err = os.MkdirAll(standIn, 0o755)
			} else {
				err = os.WriteFile(standIn, nil, 0o644)
			}
			if err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
		}
		mounts = append(mounts, mount{Source: source, Target: b.Target, ReadOnly: b.ReadOnly})
	}
	return mounts, nil
}
