package uring

import (
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// acceptor accepts from one listening socket on one loop.
type acceptor struct {
	loop     *Loop
	fd       int
	slot     int
	accepted func(fd int, peer netip.AddrPort)
	failed   func(error)
	timer    engine.Timer // until it tries again
	begun    bool         // the kernel has the operation
	stopping bool
	stopped  func()
	gone     bool
}

// acceptPause is waited after an error such as too many open files, since
// connections that wait lose nothing, and trying at once is a busy loop.
const acceptPause = 100 * time.Millisecond

// Accept implements [engine.Driver].
func (l *Loop) Accept(fd int, accepted func(fd int, peer netip.AddrPort), failed func(error)) (stop func(stopped func())) {
	a := &acceptor{loop: l, fd: fd, accepted: accepted, failed: failed}
	a.slot = l.take(nil, a)
	a.timer.Fire = a.begin
	a.begin()
	return a.stop
}

func (a *acceptor) begin() {
	a.begun = true
	a.loop.push(sqe{
		opcode:   opAccept,
		ioprio:   acceptMultishot,
		fd:       int32(a.fd),
		opFlags:  unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC,
		userData: a.loop.data(kindAccept, a.slot),
	})
}

// completed takes one connection, or an error. more: accepting goes on.
func (a *acceptor) completed(res int32, more bool) {
	a.begun = more
	switch errno := unix.Errno(-res); {
	case res >= 0 && a.loop.ending:
		_ = unix.Close(int(res))
	case res >= 0:
		// A multishot accept does not tell whom from.
		a.accepted(int(res), socket.Peer(int(res)))
	case errno == unix.ECANCELED, errno == unix.EINTR, errno == unix.ECONNABORTED, errno == unix.EPERM, errno == unix.EAGAIN:
	case !a.stopping:
		a.failed(os.NewSyscallError("accept", errno))
		a.loop.Arm(&a.timer, acceptPause)
		return
	}
	switch {
	case a.begun:
	case a.stopping || a.loop.ending:
		a.over()
	default:
		a.begin()
	}
}

// stop ends it. What the kernel has accepted already is still taken.
func (a *acceptor) stop(stopped func()) {
	if stopped != nil {
		a.stopped = stopped
	}
	if a.stopping {
		return
	}
	a.stopping = true
	a.loop.Disarm(&a.timer)
	if !a.begun {
		a.over()
		return
	}
	a.loop.cancel(a.loop.data(kindAccept, a.slot))
}

// over: nothing more is accepted.
func (a *acceptor) over() {
	if a.gone {
		return
	}
	a.gone = true
	a.loop.release(a.slot)
	if a.stopped != nil {
		a.stopped()
	}
}
