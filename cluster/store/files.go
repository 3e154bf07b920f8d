package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// What is in a node's state directory:
//
//	raft/store.json       marks a store that has been opened, and whose it is
//	raft/log.db           the log and the votes (bolt)
//	raft/snapshots/       the newest states, one directory each
//	raft/lock             held while a process has the store open
//	applied.json[.prev]   the configuration that this node last ran
//	raft.new/             an unfinished Bootstrap
func raftDir(dir string) string    { return filepath.Join(dir, "raft") }
func logFile(dir string) string    { return filepath.Join(dir, "log.db") }
func markerFile(dir string) string { return filepath.Join(dir, "store.json") }
func snapDir(dir string) string    { return filepath.Join(dir, "snapshots") }

// acquire makes this process the only one that has the store open.
func acquire(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("the store in %s is %w: stop that one first", dir, ErrInUse)
	}
	return nil, fmt.Errorf("lock %s: %w", name, err)
}

// marker is what store.json holds. Its presence says that log.db must be there.
type marker struct {
	Format int    `json:"format"`
	Name   string `json:"name"`
}

const storeFormat = 1

func readMarker(dir string) (m marker, found bool, err error) {
	data, err := os.ReadFile(markerFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("read the store's marker: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, true, corrupt(markerFile(dir), err.Error())
	}
	if m.Format != storeFormat {
		return m, true, fmt.Errorf("%s has format %d, and this version of pharos reads %d: use the version that wrote it", markerFile(dir), m.Format, storeFormat)
	}
	return m, true, nil
}

// writeMarker marks a store whose log has been made, once.
func writeMarker(dir, name string) error {
	if _, found, err := readMarker(dir); found || err != nil {
		return err
	}
	data, err := json.Marshal(marker{Format: storeFormat, Name: name})
	if err != nil {
		return fmt.Errorf("mark the store: %w", err)
	}
	return writeFile(markerFile(dir), append(data, '\n'))
}

// openBolt opens a log that check found sound.
func openBolt(dir string) (*raftboltdb.BoltStore, error) {
	// The lock file is ours already: bolt's own lock can only be held by
	// something that is no pharos.
	b, err := raftboltdb.New(raftboltdb.Options{
		Path:        logFile(dir),
		BoltOptions: &bbolt.Options{Timeout: time.Second},
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("the log %s is %w", logFile(dir), ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open the log %s: %w", logFile(dir), err)
	}
	return b, nil
}

// writeFile replaces a file: after a crash there is the old or the new one,
// whole.
func writeFile(name string, data []byte) (err error) {
	dir := filepath.Dir(name)
	tmp, err := os.CreateTemp(dir, filepath.Base(name)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name()) // the first error is the one that tells
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the renames in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
