package fault

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors lowers a process's limit of open files to what it has open, and some
// more, as if it had leaked the rest.
type Descriptors struct {
	Name  string // for errors: "pharos serve of n2"
	Pid   func() (int, error)
	Spare uint64 // how many more it may open

	pid int
	was unix.Rlimit
}

// Guarded is the fault with a guard.
func (d *Descriptors) Guarded() Injector {
	return &Guarded{Injector: d, Mend: func(ctx context.Context) (*exec.Cmd, error) {
		if err := d.remember(); err != nil {
			return nil, err
		}
		return exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(d.pid), fmt.Sprintf("--nofile=%d:%d", d.was.Cur, d.was.Max)), nil
	}}
}

func (d *Descriptors) remember() error {
	pid, err := d.Pid()
	if err != nil {
		return fmt.Errorf("find %s: %w", d.Name, err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &d.was); err != nil {
		return fmt.Errorf("read how many files %s, process %d, may open: %w", d.Name, pid, err)
	}
	d.pid = pid
	return nil
}

// Inject implements Injector.
func (d *Descriptors) Inject(context.Context) (Moment, error) {
	if d.pid == 0 {
		if err := d.remember(); err != nil {
			return Moment{}, err
		}
	}
	open, err := d.open()
	if err != nil {
		return Moment{}, fmt.Errorf("see what %s has open: %w", d.Name, err)
	}
	return d.set(unix.Rlimit{Cur: min(open+d.Spare, d.was.Max), Max: d.was.Max})
}

// open counts what the process has open, for long: the least of several looks,
// since connections come and go.
func (d *Descriptors) open() (least uint64, err error) {
	for i := range 20 {
		now, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid))
		if err != nil {
			return 0, err
		}
		if n := uint64(len(now)); i == 0 || n < least {
			least = n
		}
		time.Sleep(5 * time.Millisecond)
	}
	return least, nil
}

// Revert implements Injector.
func (d *Descriptors) Revert(context.Context) (Moment, error) {
	if d.pid == 0 {
		return now(), nil
	}
	m, err := d.set(d.was)
	if err == nil {
		d.pid = 0
	}
	return m, err
}

func (d *Descriptors) set(limit unix.Rlimit) (Moment, error) {
	m := Moment{Began: time.Now()}
	err := unix.Prlimit(d.pid, unix.RLIMIT_NOFILE, &limit, nil)
	m.Done = time.Now()
	if err != nil && err != unix.ESRCH { // one that has ended has no limit
		return m, fmt.Errorf("let %s, process %d, open %d files: %w", d.Name, d.pid, limit.Cur, err)
	}
	return m, nil
}
