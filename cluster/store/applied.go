package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// appliedFile is the form of applied.json.
type appliedFile struct {
	Format   int             `json:"format"`
	SHA256   string          `json:"sha256"`             // of the bytes of what follows, hex
	Snapshot json.RawMessage `json:"snapshot,omitempty"` // format 1: a registry.Snapshot
	Desired  json.RawMessage `json:"desired,omitempty"`  // format 2: an fsm.Desired
}

const appliedFormat = 2

func appliedName(dir string) string     { return filepath.Join(dir, "applied.json") }
func appliedPrevName(dir string) string { return appliedName(dir) + ".prev" }

// SaveApplied keeps what this node now runs, for its next start. After a crash at
// any moment LoadApplied gives this one or the one before.
func SaveApplied(dir string, desired fsm.Desired) error {
	body, err := json.Marshal(desired)
	if err != nil {
		return fmt.Errorf("save the applied configuration: %w", err)
	}
	sum := sha256.Sum256(body)
	data, err := json.Marshal(appliedFile{Format: appliedFormat, SHA256: hex.EncodeToString(sum[:]), Desired: body})
	if err != nil {
		return fmt.Errorf("save the applied configuration: %w", err)
	}
	// A damaged file must not take the place of a good previous one.
	if now, err := os.ReadFile(appliedName(dir)); err == nil {
		if _, err := decodeApplied(now); err == nil && !bytes.Equal(now, data) {
			if err := writeFile(appliedPrevName(dir), now); err != nil {
				return fmt.Errorf("keep the previously applied configuration: %w", err)
			}
		}
	}
	if err := writeFile(appliedName(dir), data); err != nil {
		return fmt.Errorf("save the applied configuration: %w", err)
	}
	return nil
}

// LoadApplied gives what SaveApplied kept. The bool says that there is
// something; with a *CorruptError beside it, that is the one saved before. The
// caller reports the error, and goes on with what there is.
func LoadApplied(dir string) (fsm.Desired, bool, error) {
	desired, found, err := readApplied(appliedName(dir))
	if found && err == nil {
		return desired, true, nil
	}
	prev, prevFound, prevErr := readApplied(appliedPrevName(dir))
	if !prevFound || prevErr != nil {
		return fsm.Desired{}, false, errors.Join(err, prevErr)
	}
	if !found {
		err = &CorruptError{
			File: appliedName(dir), Reason: "it is missing, though the one before it is there",
			Remedy: "nothing need be done: it is written anew with the next configuration",
		}
	}
	return prev, true, err
}

func readApplied(name string) (fsm.Desired, bool, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fsm.Desired{}, false, nil
	}
	if err != nil {
		return fsm.Desired{}, true, fmt.Errorf("read the applied configuration: %w", err)
	}
	desired, err := decodeApplied(data)
	if err != nil {
		return fsm.Desired{}, true, &CorruptError{
			File: name, Reason: err.Error(),
			Remedy: "nothing need be done: it is written anew with the next configuration",
		}
	}
	return desired, true, nil
}

func decodeApplied(data []byte) (fsm.Desired, error) {
	var f appliedFile
	if err := json.Unmarshal(data, &f); err != nil {
		return fsm.Desired{}, err
	}
	body := f.Desired
	switch f.Format {
	case 1:
		body = f.Snapshot
	case appliedFormat:
	default:
		return fsm.Desired{}, fmt.Errorf("format %d is unknown", f.Format)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != f.SHA256 {
		return fsm.Desired{}, errChecksum
	}
	if f.Format == 1 {
		var snap registry.Snapshot
		err := json.Unmarshal(body, &snap)
		return fsm.FromSnapshot(snap), err
	}
	var desired fsm.Desired
	err := json.Unmarshal(body, &desired)
	return desired, err
}
