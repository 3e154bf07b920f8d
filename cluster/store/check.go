package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/store/boltcheck"
)

func corrupt(file, reason string) *CorruptError {
	return &CorruptError{
		File: file, Reason: reason,
		Remedy: "if other members are up, they have everything: stop pharos, remove the directory raft on this node, remove this member and join again; " +
			"a node alone restores a backup, or starts anew with init and applies its configuration again (applied.json has the last one)",
	}
}

// checked is what a look at the files found out, before raft touches them.
type checked struct {
	state    fsm.State
	snapshot uint64          // index of the newest sound snapshot, 0 if there is none
	lost     uint64          // index that the log must reach since a newer snapshot is damaged, 0 if none is
	entries  map[uint64]bool // in the log
	last     uint64          // the highest of them
	terms    bool            // the log knows a term
}

func (c checked) empty() bool { return c.snapshot == 0 && c.last == 0 && !c.terms }

// check looks at the files without changing any, but for snapshots that are
// damaged and not needed: those it moves aside. Neither bolt nor raft survives
// what it refuses.
func check(dir string, cfg Config) (checked, error) {
	var c checked
	m, marked, err := readMarker(dir)
	if err != nil {
		return c, err
	}
	if marked && m.Name != cfg.Name {
		return c, fmt.Errorf("the store in %s is that of node %q, not of %q: give this node its own directory, or its old name", dir, m.Name, cfg.Name)
	}
	if err := c.readLog(dir, marked); err != nil {
		return c, err
	}
	damaged, err := c.readSnapshots(dir, cfg)
	if err != nil {
		return c, err
	}
	for i := c.snapshot + 1; i <= max(c.last, c.lost); i++ {
		if c.entries[i] {
			continue
		}
		if len(damaged) > 0 && i <= c.lost {
			return c, corrupt(damaged[0].path, fmt.Sprintf("%s, and the log lacks entry %d, which would be needed without it", damaged[0].reason, i))
		}
		return c, corrupt(logFile(dir), fmt.Sprintf("entry %d is missing, though entry %d is there", i, c.last))
	}
	for _, d := range damaged {
		aside := filepath.Join(dir, "damaged", filepath.Base(d.path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(aside), 0o700), os.RemoveAll(aside), os.Rename(d.path, aside)); err != nil {
			return c, fmt.Errorf("move a damaged snapshot aside: %w", err)
		}
		cfg.Logger.Warn("a snapshot is damaged: the one before it and the log make up for it", "snapshot", aside, "reason", d.reason)
	}
	return c, nil
}

// readLog checks the bolt file's structure and lists what is in it.
func (c *checked) readLog(dir string, marked bool) error {
	name := logFile(dir)
	c.entries = map[uint64]bool{}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if marked {
			return corrupt(name, "it is missing")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if info.Size() == 0 {
		if marked {
			return corrupt(name, "it is empty")
		}
		return nil
	}
	err = boltcheck.Check(f, info.Size(), os.Getpagesize(), func(bucket string, key, _ []byte) error {
		switch {
		case bucket == "logs" && len(key) == 8:
			index := binary.BigEndian.Uint64(key)
			c.entries[index] = true
			c.last = max(c.last, index)
		case bucket == "conf":
			c.terms = true
		default:
			return fmt.Errorf("bucket %q has the key %q", bucket, key)
		}
		return nil
	})
	if err != nil {
		if !marked && c.last == 0 && !c.terms {
			// A crash while the very first page was written: nothing is lost.
			return os.Remove(name)
		}
		return corrupt(name, err.Error())
	}
	return nil
}

type damagedSnapshot struct {
	path, reason string
	index        uint64
}

// readSnapshots reads the snapshots, newest first, until one is sound.
func (c *checked) readSnapshots(dir string, cfg Config) ([]damagedSnapshot, error) {
	c.state = fsm.New()
	entries, err := os.ReadDir(snapDir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, len(entries)+1, newRaftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, fmt.Errorf("open the snapshots in %s: %w", dir, err)
	}
	var damaged []damagedSnapshot
	for _, e := range entries {
		path := filepath.Join(snapDir(dir), e.Name())
		if strings.HasSuffix(e.Name(), ".tmp") {
			// Left by a crash or a full disk; raft never reads it.
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("remove an unfinished snapshot: %w", err)
			}
			continue
		}
		index, ok := snapshotIndex(e.Name())
		if !ok {
			continue // not one of raft's
		}
		meta, state, err := readSnapshot(store, e.Name())
		switch {
		case err != nil:
			damaged = append(damaged, damagedSnapshot{path: path, reason: err.Error(), index: index})
			c.lost = max(c.lost, index)
		case meta.Index >= c.snapshot:
			c.snapshot, c.state = meta.Index, state
		}
	}
	if c.lost <= c.snapshot {
		c.lost = 0
	}
	return damaged, nil
}

// snapshotIndex takes the index from a snapshot's name, term-index-time, since
// what is inside may be damaged.
func snapshotIndex(name string) (uint64, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0, false
	}
	index, err := strconv.ParseUint(parts[1], 10, 64)
	return index, err == nil
}

func readSnapshot(store *raft.FileSnapshotStore, id string) (*raft.SnapshotMeta, fsm.State, error) {
	meta, r, err := store.Open(id)
	if err != nil {
		return nil, fsm.State{}, err
	}
	defer r.Close()
	state, err := fsm.DecodeSnapshot(r)
	return meta, state, err
}

// verifyEntries reads every entry that raft will need, and the terms and votes,
// against their checksums.
func verifyEntries(g *guard, c checked) (err error) {
	// Bolt reads through a mapping: a bad sector is a fault, not an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = corrupt(g.file, fmt.Sprint(cause))
		}
	}()
	for i := c.snapshot + 1; i <= c.last; i++ {
		var l raft.Log
		if err := g.read(i, &l); err != nil {
			return corrupt(g.file, err.Error())
		}
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"} {
		if _, err := g.readValue([]byte(key)); err != nil && err.Error() != "not found" {
			return corrupt(g.file, err.Error())
		}
	}
	return nil
}

// HasState says whether dir holds the state of a cluster: a log, a term or a
// snapshot. A store that was opened and never joined anything has none.
func HasState(dir string) (bool, error) {
	var c checked
	_, marked, err := readMarker(raftDir(dir))
	if err != nil {
		return false, err
	}
	if err := c.readLog(raftDir(dir), marked); err != nil {
		return false, err
	}
	entries, err := os.ReadDir(snapDir(raftDir(dir)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("list the snapshots: %w", err)
	}
	for _, e := range entries {
		if _, ok := snapshotIndex(e.Name()); ok {
			return true, nil
		}
	}
	return !c.empty(), nil
}
