package handover

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// parent is the first process of a node, which stays when others have taken
// over. All its descendants hold the other end of one line: on it each says
// once that it is the node now; it ends when the last of them does, or, seen
// from there, when the parent does.
type parent struct {
	line   *net.UnixConn
	theirs *os.File // the other end, until a successor holds it; then closed

	child *Child        // the first successor; set by adopt
	alone chan struct{} // closed when all descendants have ended

	mu      sync.Mutex
	pids    []int                      // all that were the node, in order
	ends    map[int]syscall.WaitStatus // of those whose end others have told
	serving *os.Process
	older   []*os.Process
}

// newParent makes this process the one that inherits its descendants' orphans
// (prctl(2), PR_SET_CHILD_SUBREAPER), so that it can wait for them.
func newParent() (*parent, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "line to the parent")
	ours, err := connOf(os.NewFile(uintptr(fds[0]), "line to the children"))
	if err != nil {
		_ = theirs.Close()
		return nil, err
	}
	return &parent{line: ours.conn, theirs: theirs, alone: make(chan struct{}), ends: make(map[int]syscall.WaitStatus)}, nil
}

// adopt notes the first successor as the node, and begins to follow the others:
// this process may have connections of its own for a long time yet.
func (p *parent) adopt(c *Child) {
	_ = p.theirs.Close()
	p.child = c
	p.note(c.Pid)
	go p.follow() // ends with the last descendant
}

func (p *parent) follow() {
	defer close(p.alone)
	for {
		var b [8]byte
		n, err := p.line.Read(b[:])
		if n == 0 || err != nil {
			return // nobody holds the other end
		}
		pid, state := int(binary.BigEndian.Uint32(b[:4])), binary.BigEndian.Uint32(b[4:])
		switch {
		case n != len(b):
		case state == stateServing:
			p.note(pid)
			p.reap()
		default:
			p.mu.Lock()
			p.ends[pid] = syscall.WaitStatus(state)
			p.mu.Unlock()
		}
	}
}

// note takes a process for the node from now on.
func (p *parent) note(pid int) {
	process, err := os.FindProcess(pid) // a pidfd: it never means another one
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pids) > 0 && p.pids[len(p.pids)-1] == pid {
		return // both it and we have said so
	}
	p.pids = append(p.pids, pid)
	if p.serving != nil {
		p.older = append(p.older, p.serving)
	}
	p.serving = process
}

func (p *parent) forward(s os.Signal, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.serving.Signal(s)
	if !all {
		return
	}
	for _, older := range p.older {
		_ = older.Signal(s) // most have ended
	}
}

func (p *parent) wait() (exitCode int) {
	<-p.alone
	<-p.child.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.pids[len(p.pids)-1]
	if status, ok := p.ends[last]; ok {
		return codeOf(status)
	}
	if last == p.child.Pid {
		return codeOf(p.child.status())
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(last, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1 // another one has waited for it, and died before it could tell
		default:
			return codeOf(status)
		}
	}
}

// reap takes leave of successors that have ended, all but the first, which has
// its own waiter, and the last, which is waited for in the end.
func (p *parent) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, pid := range p.pids {
		if i == 0 || i == len(p.pids)-1 {
			continue
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // an error: it still runs, or is gone
	}
}

// codeOf is a process's exit code; for one that was killed, the shell's 128 and
// the signal's number.
func codeOf(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// line is a descendant's end.
type line struct {
	file *os.File // to be passed on
	conn *net.UnixConn
}

func lineOf(file *os.File) (*line, error) {
	dup, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	c, err := connOf(os.NewFile(uintptr(dup), file.Name()))
	if err != nil {
		return nil, err
	}
	return &line{file, c.conn}, nil
}

// stateServing, in the place of how a process ended, says that it is the node now:
// no wait status (wait(2)) has these bits.
const stateServing = 1<<32 - 1

func (l *line) tell(pid int, state uint32) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(pid))
	_, err := l.conn.Write(binary.BigEndian.AppendUint32(b, state))
	return err
}

func (l *line) awaitEnd() {
	var b [4]byte
	for {
		// The parent says nothing: whatever comes is the end.
		if n, err := l.conn.Read(b[:]); n == 0 || err != nil {
			return
		}
	}
}
