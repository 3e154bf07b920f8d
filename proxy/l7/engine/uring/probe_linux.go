package uring

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

// NotAllowedError says why io_uring cannot be used here: the kernel is too
// old (before 6.0), or something forbids it (the sysctl
// kernel.io_uring_disabled, seccomp, a limit).
type NotAllowedError struct{ Reason error }

func (e *NotAllowedError) Error() string { return "io_uring is not usable here: " + e.Reason.Error() }

// Unwrap returns the reason.
func (e *NotAllowedError) Unwrap() error { return e.Reason }

// supports asks the kernel for the operations that are needed.
func supports(r *ring) error {
	var p probe
	if err := r.register(registerProbe, unsafe.Pointer(&p), uintptr(len(p.ops))); err != nil {
		return fmt.Errorf("ask for the operations that the kernel knows: %w", err)
	}
	var missing []string
	for _, op := range []struct {
		code int
		name string
	}{
		{opPollAdd, "poll"},
		{opAccept, "accept"},
		{opAsyncCancel, "cancel"},
		{opConnect, "connect"},
		{opClose, "close"},
		{opSend, "send"},
		{opRecv, "receive"},
	} {
		if op.code > int(p.lastOp) || p.ops[op.code].flags&opSupported == 0 {
			missing = append(missing, op.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the kernel lacks %s", strings.Join(missing, ", "))
	}
	return nil
}

// probeWithin bounds the probe: what does not work in so long does not work.
const probeWithin = 3 * time.Second

// Probe makes a loop and moves bytes through it, both ways: what confines a
// process may let a ring be made and nothing be done with it. Its error is a
// [*NotAllowedError] then.
func Probe() error {
	l, err := New()
	if err != nil {
		return err
	}
	var done atomic.Bool
	ended := make(chan error, 1)
	go func() { ended <- l.Run(done.Load) }()
	outcome := make(chan error, 1)
	l.Post(func() { l.echo(outcome) })
	select {
	case err = <-outcome:
	case err = <-ended:
		ended <- err
	case <-time.After(probeWithin):
		err = fmt.Errorf("bytes sent through a ring did not come back within %v", probeWithin)
	}
	done.Store(true)
	l.Post(func() {})
	if e := <-ended; err == nil {
		err = e
	}
	if err != nil {
		return &NotAllowedError{err}
	}
	return nil
}

// echo sends bytes over a pair of sockets and back.
func (l *Loop) echo(outcome chan<- error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		outcome <- os.NewSyscallError("socketpair", err)
		return
	}
	probe := bytes.Repeat([]byte("io_uring"), 2*bufferSize/8) // more than a buffer
	var got []byte
	side := func(data func(c engine.Conn, b []byte)) func(engine.Conn) engine.Handler {
		return func(c engine.Conn) engine.Handler {
			return &prober{data: func(b []byte) { data(c, b) }, closed: func(err error) {
				select {
				case outcome <- err:
				default:
				}
			}}
		}
	}
	l.Adopt(fds[0], netip.AddrPort{}, side(func(c engine.Conn, b []byte) { c.Send(b) }))
	var sender engine.Conn
	answered := side(func(c engine.Conn, b []byte) {
		if got = append(got, b...); len(got) < len(probe) {
			return
		}
		c.Close()
		err := error(nil)
		if !bytes.Equal(got, probe) {
			err = errors.New("bytes sent through a ring came back changed")
		}
		select {
		case outcome <- err:
		default:
		}
	})
	l.Adopt(fds[1], netip.AddrPort{}, func(c engine.Conn) engine.Handler {
		sender = c
		return answered(c)
	})
	sender.Send(probe[:100])
	sender.Send(probe[100:])
}

// prober is a handler of the probe's.
type prober struct {
	data   func(b []byte)
	closed func(err error)
}

func (p *prober) Opened()          {}
func (p *prober) Data(b []byte)    { p.data(b) }
func (p *prober) Drained()         {}
func (p *prober) EOF()             {}
func (p *prober) Closed(err error) { p.closed(err) }
