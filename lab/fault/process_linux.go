package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Process ends a process by a signal, and starts it again.
type Process struct {
	Name   string // for errors: "pharos serve of n2"
	Signal unix.Signal
	// Pid finds it; an error that Stopped recognises means that it is not running.
	Pid     func() (int, error)
	Stopped func(error) bool
	// Start starts it, and returns once it has been started (not: is ready).
	Start func(ctx context.Context) error
	// Await makes Inject return only when the process has ended, as it should
	// for a signal that asks for an orderly end.
	Await bool
}

// awaitSlice is how often a wait for a process looks at its context.
const awaitSlice = 100 * time.Millisecond

// Inject implements Injector. Its Moment begins right before the signal is
// sent.
func (p *Process) Inject(ctx context.Context) (Moment, error) {
	pid, err := p.Pid()
	if err != nil {
		return Moment{}, fmt.Errorf("find %s: %w", p.Name, err)
	}
	// A descriptor cannot come to mean another process, as a number can.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return Moment{}, fmt.Errorf("find %s, process %d: %w", p.Name, pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	m := Moment{Began: time.Now()}
	if err := unix.PidfdSendSignal(fd, p.Signal, nil, 0); err != nil {
		return m, fmt.Errorf("send %s to %s, process %d: %w", unix.SignalName(p.Signal), p.Name, pid, err)
	}
	if p.Await {
		if err := awaitEnd(ctx, fd); err != nil {
			return m, fmt.Errorf("wait for the end of %s, process %d, after %s: %w", p.Name, pid, unix.SignalName(p.Signal), err)
		}
	}
	m.Done = time.Now()
	return m, nil
}

// Revert implements Injector: it starts the process if it does not run.
func (p *Process) Revert(ctx context.Context) (Moment, error) {
	m := Moment{Began: time.Now()}
	_, err := p.Pid()
	switch {
	case err == nil:
		m.Done = m.Began
		return m, nil
	case !p.Stopped(err):
		return m, fmt.Errorf("find %s: %w", p.Name, err)
	}
	if err := p.Start(ctx); err != nil {
		return m, fmt.Errorf("start %s: %w", p.Name, err)
	}
	m.Done = time.Now()
	return m, nil
}

// awaitEnd waits until a process descriptor is readable: the process has ended
// (pidfd_open(2)).
func awaitEnd(ctx context.Context, fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(awaitSlice/time.Millisecond))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}
