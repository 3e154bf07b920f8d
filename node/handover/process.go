package handover

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// Process is this process's place among those that run one node one after the
// other.
//
// Whoever started the first of them (a service manager, a container runtime, a
// shell) knows its process id, so either it is told the new one, or the first
// process stays:
//
//   - With NOTIFY_SOCKET in the environment (systemd, Type=notify), it is told
//     MAINPID by sd_notify(3), and an old process ends with its last connection.
//   - Otherwise, and where it is a container's process 1, the first process stays
//     as the parent of all: it passes signals on, its exit code is the last
//     one's, and the others end when it is killed.
type Process struct {
	binary string   // to be started when nobody names another
	args   []string // of the command line, without the program's name

	predecessor *Conn
	line        *line // to the parent that stays; nil: none does, or it is us

	mu     sync.Mutex
	parent *parent // made for the first successor; nil: not us, or not yet
	child  *Child  // that has taken over from this process; nil: none has
}

// This reads from the environment and the command line what this process is.
// It is called once, before anything else reads the environment.
func This() (*Process, error) {
	p := &Process{binary: ownPath(), args: os.Args[1:]}
	before, err := inherited(envLine)
	if err != nil {
		return nil, err
	}
	if before != nil {
		if p.predecessor, err = connOf(before); err != nil {
			return nil, err
		}
	}
	stays, err := inherited(envParent)
	if err != nil {
		return nil, err
	}
	if stays != nil {
		if p.line, err = lineOf(stays); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ownPath is the path of this program as it was called, so that a symbolic
// link that leads to another version by the time of an upgrade is followed anew.
func ownPath() string {
	executable, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	called, err := exec.LookPath(os.Args[0])
	if err != nil {
		return executable
	}
	called, err = filepath.Abs(called)
	if err != nil {
		return executable
	}
	a, errA := os.Stat(called)
	b, errB := os.Stat(executable)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return executable // called by another name than its path
	}
	return called
}

// Predecessor is the line to the process that runs the node now, and has
// started this one to take over; nil: there is none.
func (p *Process) Predecessor() *Conn { return p.predecessor }

// StayWithParent returns when the process that stays as the parent of all has
// ended: nobody knows of this one any more, and it should end at once. It never
// returns where there is no such process.
func (p *Process) StayWithParent() {
	if p.line == nil {
		select {}
	}
	p.line.awaitEnd()
}

// Start starts a successor. binary is its path; empty: the one of this process.
// The arguments are this process's own.
func (p *Process) Start(binary string) (*Child, error) {
	if binary == "" {
		binary = p.binary
	}
	var stays *os.File
	switch {
	case p.line != nil:
		stays = p.line.file
	case !followed():
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.parent == nil {
			made, err := newParent()
			if err != nil {
				return nil, Failuref(Internal, "stay as the parent of the new process: %w", err)
			}
			p.parent = made
		}
		stays = p.parent.theirs
	}
	return start(binary, p.args, stays)
}

// HandedOver notes that child is the node from now on, and tells the service
// manager, if there is one.
func (p *Process) HandedOver(child *Child) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child = child
	if p.parent != nil {
		p.parent.adopt(child)
	}
	if p.line != nil {
		// Only its parent can know how it ended: that is us, as long as we are
		// there.
		child.tellEnd(func(s syscall.WaitStatus) { _ = p.line.tell(child.Pid, uint32(s)) })
	}
	if p.parent != nil || p.line != nil {
		return nil // the first process stays, whoever started it
	}
	return notify(fmt.Sprintf("MAINPID=%d", child.Pid))
}

// Serving tells that this process is the node from now on: the parent that
// stays, or, for the first process, the service manager.
func (p *Process) Serving() error {
	if p.line != nil {
		return p.line.tell(os.Getpid(), stateServing)
	}
	if p.predecessor != nil {
		return nil // it tells the service manager of us
	}
	return notify("READY=1")
}

// Forward passes a signal on to the process that is the node, if it is a
// successor of this one; it says whether one is. all says that older ones, which
// still serve connections, get it too. A signal may come to one twice, when
// several processes got it.
func (p *Process) Forward(s os.Signal, all bool) bool {
	p.mu.Lock()
	child, parent := p.child, p.parent
	p.mu.Unlock()
	switch {
	case child == nil:
		return false
	case parent != nil:
		parent.forward(s, all)
	default:
		// Who sent it has not heard yet that this one is not the node any more.
		_ = child.cmd.Process.Signal(s)
	}
	return true
}

// Wait returns when all successors have ended, if this process stays as their
// parent, with the exit code of the last that was the node. Otherwise it
// returns 0 at once.
func (p *Process) Wait() (exitCode int) {
	p.mu.Lock()
	child, parent := p.child, p.parent
	p.mu.Unlock()
	if child == nil || parent == nil {
		return 0
	}
	return parent.wait()
}
