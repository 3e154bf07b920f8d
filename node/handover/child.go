package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Environment of a successor: the numbers of its inherited descriptors.
const (
	envLine   = "PHAROS_HANDOVER_FD" // of the line to the process before it
	envParent = "PHAROS_PARENT_FD"   // of the line to the parent that stays, if there is one
)

// Child is a successor that was started: it may yet fail.
type Child struct {
	*Conn
	Pid    int
	binary string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended

	mu sync.Mutex
	// ending is told how the process ended, before anything else can lose that:
	// see tellEnd.
	ending func(syscall.WaitStatus)

	// refused says that it ends by itself, holds no file of the node's any more,
	// and may still answer the clients whose connections it has accepted.
	refused bool
}

// start runs binary with args as a successor. parent is the line to the
// process that stays as the parent of all; nil: there is none.
func start(binary string, args []string, parent *os.File) (*Child, error) {
	conn, theirs, err := newPair()
	if err != nil {
		return nil, Failuref(Internal, "make a line to the new process: %w", err)
	}
	defer func() { _ = theirs.Close() }()
	cmd := exec.Command(binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(os.Environ(), envLine+"=3")
	if parent != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, parent)
		cmd.Env = append(cmd.Env, envParent+"=4")
		// A terminal's Ctrl-C must reach the parent alone, which passes it on.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	if err := cmd.Start(); err != nil {
		_ = conn.Close()
		return nil, Failuref(CannotStart, "start the new binary: %w", err)
	}
	c := &Child{Conn: conn, Pid: cmd.Process.Pid, binary: binary, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		status, known := lookAtEnd(c.Pid)
		c.mu.Lock()
		ending := c.ending
		c.mu.Unlock()
		if known && ending != nil {
			ending(status)
		}
		_ = cmd.Wait() // the state tells it all
	}()
	return c, nil
}

// Await waits for a message of this kind, for at most limit. Whatever else
// happens is a *Failure.
func (c *Child) Await(ctx context.Context, kind Kind, limit time.Duration) (Message, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, fds, err := c.Receive(within)
	closeAll(fds) // a successor has none to give
	switch {
	case ctx.Err() != nil:
		return Message{}, Failuref(Busy, "the node was told to stop")
	case errors.Is(err, context.DeadlineExceeded):
		return Message{}, Failuref(TimedOut, "%s (process %d) was not %s within %s", c.binary, c.Pid, kind, limit)
	case err == nil && m.Kind == Failed:
		c.refused = true
		return Message{}, Failuref(Refused, "%s cannot take over: %s", c.binary, m.Error)
	case err == nil && m.Kind == kind:
		return m, nil
	case err == nil:
		return Message{}, Failuref(Refused, "%s says %q, and not %q: is it another version's order?", c.binary, m.Kind, kind)
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return Message{}, c.gone(kind)
	default:
		return Message{}, Failuref(Refused, "%s cannot be understood: %w", c.binary, err)
	}
}

// status is how the process ended; once ended is closed.
func (c *Child) status() syscall.WaitStatus {
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// tellEnd has tell called with how the process ended, when it does. If this one
// ends before it has called it, the process that inherits the child can learn
// the same: it is waited for only afterwards.
func (c *Child) tellEnd(tell func(syscall.WaitStatus)) {
	c.mu.Lock()
	c.ending = tell
	c.mu.Unlock()
	select {
	case <-c.ended:
		tell(c.status())
	default:
	}
}

// lookAtEnd returns when a child has ended, with how, and leaves it to be waited
// for (WNOWAIT, waitid(2)).
func lookAtEnd(pid int) (status syscall.WaitStatus, known bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, false
		}
		break
	}
	// si_status has no name in Go: it stands behind si_code, which is padded to 8
	// octets, si_pid and si_uid (asm-generic/siginfo.h).
	const statusAt = 24
	octets := unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info))
	value := int32(binary.NativeEndian.Uint32(octets[statusAt:]))
	const exited, dumped = 1, 3 // CLD_EXITED, CLD_DUMPED
	switch info.Code {
	case exited:
		return syscall.WaitStatus(value&0xff) << 8, true
	case dumped:
		return syscall.WaitStatus(value | 0x80), true
	default:
		return syscall.WaitStatus(value), true
	}
}

// goneWait is how long a process that has closed its line may take to end: one
// that ends anyway is to be told with its exit status.
const goneWait = time.Second

func (c *Child) gone(kind Kind) *Failure {
	select {
	case <-c.ended:
		return Failuref(Ended, "%s ended before it was %s: %s: its last words are in this node's log", c.binary, kind, c.cmd.ProcessState)
	case <-time.After(goneWait):
		return Failuref(Ended, "%s (process %d) hung up before it was %s", c.binary, c.Pid, kind)
	}
}

// refusedWait is how long a successor that has refused may take to end.
const refusedWait = 2 * time.Minute

// End ends a successor that did not succeed. When it returns, that one holds no
// file of the node's; one that has refused ends by itself.
func (c *Child) End() {
	_ = c.Close()
	if c.refused {
		tooLong := time.AfterFunc(refusedWait, func() { _ = c.cmd.Process.Kill() })
		go func() {
			<-c.ended // it will: by itself, or by the timer
			tooLong.Stop()
		}()
		return
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}

// inherited takes a descriptor that the environment names out of it; nil if it
// names none.
func inherited(name string) (*os.File, error) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(name) // it means nothing to our own children
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q in the environment is no descriptor", name, text)
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name), nil
}
