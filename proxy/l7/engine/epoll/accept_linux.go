package epoll

import (
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// acceptor accepts from one listening socket on one loop. Others may do so on
// theirs: EPOLLEXCLUSIVE wakes one of them.
type acceptor struct {
	loop     *Loop
	fd       int
	slot     int // 0: not registered
	accepted func(fd int, peer netip.AddrPort)
	failed   func(error)
	timer    engine.Timer // until it tries again
}

const (
	// maxAccepts bounds how many are accepted at a time: the rest may be taken
	// by other loops.
	maxAccepts = 16
	// acceptPause is waited after an error such as too many open files, since
	// connections that wait lose nothing, and trying at once is a busy loop.
	acceptPause = 100 * time.Millisecond
)

// Accept implements [engine.Driver].
func (l *Loop) Accept(fd int, accepted func(fd int, peer netip.AddrPort), failed func(error)) (stop func(stopped func())) {
	a := &acceptor{loop: l, fd: fd, accepted: accepted, failed: failed}
	a.timer.Fire = a.register
	a.register()
	return func(stopped func()) {
		l.Disarm(&a.timer)
		a.unregister()
		stopped()
	}
}

func (a *acceptor) register() {
	slot, err := a.loop.add(a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, nil, a)
	if err != nil {
		a.pause(err)
		return
	}
	a.slot = slot
}

func (a *acceptor) unregister() {
	if a.slot != 0 {
		_ = unix.EpollCtl(a.loop.epfd, unix.EPOLL_CTL_DEL, a.fd, nil)
		a.loop.remove(a.slot)
		a.slot = 0
	}
}

// pause tries again after an error.
func (a *acceptor) pause(err error) {
	a.failed(err)
	a.unregister()
	a.loop.Arm(&a.timer, acceptPause)
}

// ready accepts what waits.
func (a *acceptor) ready() {
	for range maxAccepts {
		fd, sa, err := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.accepted(fd, socket.AddrPort(sa))
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED, unix.EPERM:
		default:
			a.pause(os.NewSyscallError("accept", err))
			return
		}
	}
}
