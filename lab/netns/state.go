package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

const (
	stateRoot = "/run/pharos-lab" // one folder for each lab
	netnsRoot = "/run/netns"      // where ip-netns(8) keeps names
)

// phase says how far a lab has come.
type phase string

const (
	phaseMaking phase = "making" // from before the first thing is made
	phaseUp     phase = "up"     // everything is made
)

// state is what a lab's state.json holds. It is written before anything is
// made, and names all that will be, so that a crash leaves nothing unknown.
type state struct {
	Name       string             `json:"name"`
	Phase      phase              `json:"phase"`
	Created    time.Time          `json:"created"`
	Topology   string             `json:"topology"` // file name in the lab's topology folder
	Binary     string             `json:"binary"`   // the pharos that the nodes run
	Namespaces map[string]string  `json:"namespaces"`
	Mounts     map[string][]mount `json:"mounts,omitempty"`    // by node
	MadeDirs   []string           `json:"made_dirs,omitempty"` // outside the lab's own folder
	// DiskBytes is the size of the disk that each node of the cluster has for its
	// data; 0: it is on this machine's.
	DiskBytes uint64 `json:"disk_bytes,omitempty"`
}

// mount is one bind mount in the private mount namespace of a node's
// processes.
type mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

var labName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// checkName refuses names that could not be part of a path or of a namespace's
// name.
func checkName(name string) error {
	if !labName.MatchString(name) {
		return fmt.Errorf("%q is not a lab's name: use a-z, 0-9 and -, at most 32", name)
	}
	return nil
}

func labDir(name string) string { return filepath.Join(stateRoot, name) }

func namespaceName(lab, node string) string { return "pharos-" + lab + "-" + node }

// readState returns an error that is fs.ErrNotExist when there is no such lab.
func readState(name string) (*state, error) {
	file := filepath.Join(labDir(name), "state.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &s, nil
}

// write replaces state.json as a whole, never half.
func (s *state) write() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(labDir(s.Name), "state.json")
	if err := os.WriteFile(file+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// lock takes the lock of one lab's name, and never waits for it: ErrBusy.
func lock(name string) (unlock func(), err error) {
	if err := os.MkdirAll(stateRoot, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the labs' state: %w", err)
	}
	file := labDir(name) + ".lock"
	for {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock lab %s: %w", name, err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("lab %s: %w", name, ErrBusy)
			}
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		// The one who held it before may have removed the file meanwhile: then
		// this lock is on a file that nobody else will find.
		held, err1 := f.Stat()
		present, err2 := os.Stat(file)
		if err1 == nil && err2 == nil && os.SameFile(held, present) {
			return func() {
				os.Remove(file)
				f.Close()
				os.Remove(stateRoot) // if it is empty
			}, nil
		}
		f.Close()
	}
}

// List returns the names of the labs that are up or half made.
func List() ([]string, error) {
	entries, err := os.ReadDir(stateRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
