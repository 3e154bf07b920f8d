package addr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// RecordError is a record of our addresses that cannot be read or written.
type RecordError struct {
	Path string
	Op   string // read or write
	Err  error
}

func (e *RecordError) Error() string {
	text := fmt.Sprintf("%s the record of our VIPs %s: %v", e.Op, e.Path, e.Err)
	if e.Op == "read" {
		text += ": remove left-over VIPs from the interface by hand, then this file"
	}
	return text
}

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// record is the file that says which addresses are ours.
type record struct {
	path    string
	procSys string
}

// recordFormat is the file's content.
type recordFormat struct {
	Version int `json:"version"`
	// Boot identifies the kernel's life in which the addresses were added: the
	// next one has lost them, and if it has them again, they are not ours.
	Boot      string       `json:"boot"`
	Addresses []netip.Addr `json:"addresses"`
}

const recordVersion = 1

// read returns nothing if there is no file.
func (r record) read() ([]netip.Addr, error) {
	b, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &RecordError{r.path, "read", err}
	}
	f, err := parseRecord(b)
	if err != nil {
		return nil, &RecordError{r.path, "read", err}
	}
	if f.Boot != r.boot() {
		return nil, nil
	}
	return f.Addresses, nil
}

// boot is the kernel's identifier of its own life; empty if it has none, and
// then all lives count as one.
func (r record) boot() string {
	b, err := os.ReadFile(filepath.Join(r.procSys, "kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func parseRecord(b []byte) (recordFormat, error) {
	var f recordFormat
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	if f.Version != recordVersion {
		return f, fmt.Errorf("version %d is unknown: this program knows %d", f.Version, recordVersion)
	}
	for _, a := range f.Addresses {
		// What could never have been a VIP of ours is not ours to remove.
		if problem := unusable(a); problem != "" {
			return f, fmt.Errorf("address %q: %s", a, problem)
		}
	}
	return f, nil
}

// write replaces the file atomically, and returns when it is on the disk.
func (r record) write(ours map[netip.Addr]bool) error {
	addrs := slices.SortedFunc(maps.Keys(ours), netip.Addr.Compare)
	if have, err := r.read(); err == nil && have != nil && slices.Equal(have, addrs) {
		return nil // a write costs a disk flush
	}
	if addrs == nil {
		addrs = []netip.Addr{}
	}
	b, err := json.Marshal(recordFormat{Version: recordVersion, Boot: r.boot(), Addresses: addrs})
	if err == nil {
		err = replaceFile(r.path, append(b, '\n'))
	}
	if err != nil {
		return &RecordError{r.path, "write", err}
	}
	return nil
}

// replaceFile writes a new file beside path, flushes it, renames it over path
// and flushes the directory: after a crash at any point, path holds the old or
// the new content, whole.
func replaceFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
