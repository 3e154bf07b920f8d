package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// Down removes a lab, whole or half made: the processes in its namespaces, the
// namespaces, its files. ErrNotUp: there is none.
func Down(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	unlock, err := lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(labDir(name)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab %s: %w", name, ErrNotUp)
	}
	return remove(ctx, name)
}

// remove takes away all that the lab's state names, as far as it is there. The
// caller has the lock. The state file goes last: what could not be removed is
// found again.
func remove(ctx context.Context, name string) error {
	s, err := readState(name)
	if errors.Is(err, fs.ErrNotExist) {
		// A crash before the first word was written: nothing else was made.
		return os.RemoveAll(labDir(name))
	}
	if err != nil {
		return fmt.Errorf("remove lab %s: %w: remove %s by hand, and its namespaces (`ip netns`)", name, err, labDir(name))
	}
	if err := killStarting(s); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	if err := killAll(ctx, s); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	for _, namespace := range s.Namespaces {
		if err := deleteNamespace(ctx, namespace); err != nil {
			return fmt.Errorf("remove lab %s: %w", name, err)
		}
	}
	if err := unmountDisks(s); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	if err := removeMadeDirs(s); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	if err := os.RemoveAll(labDir(name)); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	return nil
}

func deleteNamespace(ctx context.Context, namespace string) error {
	file := filepath.Join(netnsRoot, namespace)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ip, err := lookTool("ip")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, ip, "netns", "delete", namespace).CombinedOutput()
	if err == nil {
		return nil
	}
	// A crash between the two steps of "ip netns add" leaves a plain file.
	if e := os.Remove(file); e == nil || errors.Is(e, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("delete network namespace %s: %w: %s", namespace, err, bytes.TrimSpace(out))
}

// removeMadeDirs removes folders that the lab made outside its own, once no
// other lab can be using them: a mount on one would go with it.
func removeMadeDirs(s *state) error {
	labs, err := List()
	if err != nil {
		return err
	}
	for _, other := range labs {
		if other == s.Name {
			continue
		}
		if o, err := readState(other); err == nil {
			// The other one takes over the duty.
			o.MadeDirs = append(o.MadeDirs, s.MadeDirs...)
			return o.write()
		}
	}
	for _, dir := range s.MadeDirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

// namespaceID identifies a namespace as the kernel does.
type namespaceID struct{ dev, ino uint64 }

func identify(file string) (namespaceID, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(file, &st); err != nil {
		return namespaceID{}, err
	}
	return namespaceID{uint64(st.Dev), st.Ino}, nil
}

// killStarting ends the processes that the lab recorded, wherever they are: one
// that had not entered its namespace when its starter crashed is in no
// namespace of the lab.
func killStarting(s *state) error {
	l := &Lab{state: s}
	processes, err := l.Processes()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, p := range processes {
		if !p.Alive {
			continue
		}
		if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", p.Pid, err)
		}
	}
	return nil
}

// killAll ends every process in the lab's namespaces, and no other, and
// returns once they are gone.
func killAll(ctx context.Context, s *state) error {
	ours := map[namespaceID]bool{}
	for _, namespace := range s.Namespaces {
		file := filepath.Join(netnsRoot, namespace)
		// A name that a crash left without its namespace is a plain file, on
		// another device than any process's namespace.
		if id, err := identify(file); err == nil {
			ours[id] = true
		}
	}
	self, err := identify("/proc/self/ns/net")
	if err != nil {
		return err
	}
	if ours[self] {
		return errors.New("this process is itself inside one of the lab's namespaces: run it from outside")
	}
	return poll(ctx, func() error {
		pids, err := processesIn(ours)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if len(pids) > 0 {
			return fmt.Errorf("processes %v do not end", pids)
		}
		return nil
	})
}

// processesIn lists the processes in any of the namespaces, without zombies.
func processesIn(namespaces map[namespaceID]bool) ([]int, error) {
	if len(namespaces) == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that ended meanwhile, or a zombie, has no namespace.
		if id, err := identify(filepath.Join("/proc", e.Name(), "ns", "net")); err == nil && namespaces[id] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
