package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hang stops the threads of a process that wait for its connections, and no
// other: its data plane hangs, while the process lives on and its other
// connections are kept alive. The kernel goes on taking connections for it. It
// works as a debugger does (ptrace(2)), from outside: should this program end, the
// threads go on.
type Hang struct {
	Name string // for errors: "pharos serve of n2"
	Pid  func() (int, error)

	release chan struct{} // closed: let go
	over    chan error    // how that went
}

// lookFor is how long the threads are looked for: one that works at the moment
// waits the next.
const lookFor = 200 * time.Millisecond

// Inject implements Injector. Its Moment begins when all threads are known, and
// ends when the last one stands still.
func (h *Hang) Inject(context.Context) (Moment, error) {
	pid, err := h.Pid()
	if err != nil {
		return Moment{}, fmt.Errorf("find %s: %w", h.Name, err)
	}
	threads, err := waiters(pid)
	if err != nil {
		return Moment{}, fmt.Errorf("find the event loops of %s: %w", h.Name, err)
	}
	h.release, h.over = make(chan struct{}), make(chan error, 1)
	m := Moment{Began: time.Now()}
	stopped := make(chan error, 1)
	go func() {
		// Whoever traces a thread is a thread, too.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		held, err := hold(threads)
		stopped <- err
		if err == nil {
			<-h.release
		}
		h.over <- errors.Join(letGo(held)...)
	}()
	err = <-stopped
	m.Done = time.Now()
	if err != nil {
		return m, fmt.Errorf("stop the event loops of %s: %w", h.Name, err)
	}
	return m, nil
}

// Revert implements Injector.
func (h *Hang) Revert(context.Context) (Moment, error) {
	m := Moment{Began: time.Now()}
	if h.release == nil {
		m.Done = m.Began
		return m, nil
	}
	close(h.release)
	err := <-h.over
	h.release = nil
	m.Done = time.Now()
	if err != nil {
		return m, fmt.Errorf("let the event loops of %s go on: %w", h.Name, err)
	}
	return m, nil
}

func hold(threads []int) (held []int, err error) {
	for _, tid := range threads {
		if err := unix.PtraceSeize(tid); err != nil {
			return held, fmt.Errorf("thread %d: seize: %w", tid, err)
		}
		held = append(held, tid)
		if err := unix.PtraceInterrupt(tid); err != nil {
			return held, fmt.Errorf("thread %d: interrupt: %w", tid, err)
		}
		var status unix.WaitStatus
		for {
			_, err := unix.Wait4(tid, &status, unix.WALL, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return held, fmt.Errorf("thread %d: wait until it stands still: %w", tid, err)
			}
			break
		}
	}
	return held, nil
}

func letGo(held []int) (errs []error) {
	for _, tid := range held {
		// One whose process has ended meanwhile is gone.
		if err := unix.PtraceDetach(tid); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("thread %d: %w", tid, err))
		}
	}
	return errs
}

// errNoLoops: no thread of a process waits for connections.
var errNoLoops = errors.New("no thread waits by io_uring or by an epoll instance of the program's own")

// waiters are the threads of a Go process that wait for connections by io_uring,
// or by an epoll instance other than the first one, which is the runtime's.
func waiters(pid int) ([]int, error) {
	first, err := firstEpoll(pid)
	if err != nil {
		return nil, err
	}
	seen := make(map[int]bool)
	var out []int
	for deadline := time.Now().Add(lookFor); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil {
			return nil, err
		}
		for _, path := range calls {
			b, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			tid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil && !seen[tid] && waits(string(b), first) {
				seen[tid] = true
				out = append(out, tid)
			}
		}
	}
	if len(out) == 0 {
		return nil, errNoLoops
	}
	return out, nil
}

// waits reads the line of a thread's system call (proc(5)): its number, and its
// arguments in hexadecimal.
func waits(line string, first int) bool {
	number, rest, _ := strings.Cut(line, " ")
	call, err := strconv.Atoi(number)
	if err != nil {
		return false // "running"
	}
	switch call {
	case unix.SYS_IO_URING_ENTER:
		return true
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		text, _, _ := strings.Cut(rest, " ")
		fd, err := strconv.ParseInt(strings.TrimPrefix(text, "0x"), 16, 32)
		return err == nil && int(fd) != first
	}
	return false
}

// firstEpoll is the lowest descriptor of an epoll instance; -1: there is none.
func firstEpoll(pid int) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1, err
	}
	first := -1
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		fd, bad := strconv.Atoi(e.Name())
		if err == nil && bad == nil && to == "anon_inode:[eventpoll]" && (first < 0 || fd < first) {
			first = fd
		}
	}
	return first, nil
}
