package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Freeze stops every process of a machine with SIGSTOP, as far as its owner can
// tell them: what the kernel does for them goes on.
type Freeze struct {
	Name string // for errors: "n2"
	// Pids lists the machine's processes.
	Pids func() ([]int, error)
}

// settleFor bounds the wait for processes to stand still.
const settleFor = 5 * time.Second

// Inject implements Injector. Its Moment ends when all stand still.
func (f *Freeze) Inject(ctx context.Context) (Moment, error) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	m, stopped := Moment{}, map[int]bool{}
	// Until a look finds none that another could have started meanwhile.
	for more := true; more; {
		pids, err := f.Pids()
		if err == nil && len(pids) == 0 {
			err = errors.New("it has none")
		}
		if err != nil {
			return m, fmt.Errorf("find the processes of %s: %w", f.Name, err)
		}
		if m.Began.IsZero() {
			m.Began = time.Now()
		}
		more = false
		for _, pid := range pids {
			if stopped[pid] {
				continue
			}
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil && err != unix.ESRCH {
				return m, fmt.Errorf("stop process %d of %s: %w", pid, f.Name, err)
			}
			stopped[pid], more = true, true
		}
	}
	for pid := range stopped {
		for !standsStill(pid) {
			if ctx.Err() != nil {
				return m, fmt.Errorf("wait until process %d of %s stands still: %w", pid, f.Name, context.Cause(ctx))
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	m.Done = time.Now()
	return m, nil
}

// Revert implements Injector.
func (f *Freeze) Revert(context.Context) (Moment, error) {
	m := Moment{Began: time.Now()}
	pids, err := f.Pids()
	if err != nil {
		return m, fmt.Errorf("find the processes of %s: %w", f.Name, err)
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("let process %d of %s go on: %w", pid, f.Name, err))
		}
	}
	m.Done = time.Now()
	return m, errors.Join(errs...)
}

// standsStill reads the state of a process (proc(5)): stopped, traced, or gone.
func standsStill(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The name before it is in parentheses, and may have any.
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	return len(rest) < 2 || bytes.IndexByte([]byte("TtZX"), rest[1]) >= 0
}
