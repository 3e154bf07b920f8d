package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// drainedFile exists while the operator wants the node drained.
const drainedFile = "drained"

func loadDraining(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, drainedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the node was drained: %w", err)
	}
	return true, nil
}

// saveDraining is durable when it returns nil.
func saveDraining(dir string, draining bool) error {
	path := filepath.Join(dir, drainedFile)
	if draining {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	} else if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
