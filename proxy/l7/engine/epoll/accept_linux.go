package epoll

import (
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

// Acceptor accepts from one listening socket on several loops.
//
// The loops share one socket (EPOLLEXCLUSIVE wakes one of them) instead of
// having one each by SO_REUSEPORT: closing one of several sockets drops the
// connections that wait in its queue.
type Acceptor struct {
	fd      int
	loops   []*Loop
	accept  func(*Loop) func(engine.Conn) engine.Handler
	failed  func(error)
	stopped atomic.Bool
}

// NewAcceptor returns an acceptor for a listening socket, which it owns.
// handler makes the handler of a connection accepted on a given loop; it is
// called on that loop. failed is told of errors other than those of single
// clients, on any loop.
func NewAcceptor(fd int, loops []*Loop, handler func(*Loop) func(engine.Conn) engine.Handler, failed func(error)) *Acceptor {
	return &Acceptor{fd: fd, loops: loops, accept: handler, failed: failed}
}

// Start begins to accept. It returns at once.
func (a *Acceptor) Start() {
	for _, l := range a.loops {
		l.Post(func() { a.register(l) })
	}
}

// Stop ends it: when it returns, no loop accepts any more. Connections that
// wait stay in the socket's queue. It must not be called on a loop.
func (a *Acceptor) Stop() {
	a.stopped.Store(true)
	done := make(chan struct{}, len(a.loops))
	waiting := 0
	for _, l := range a.loops {
		if l.Post(func() {
			a.unregister(l)
			done <- struct{}{}
		}) {
			waiting++
		}
	}
	for range waiting {
		<-done
	}
	_ = unix.Close(a.fd)
}

// slot is the acceptor's place in a loop, 0 without one.
func (a *Acceptor) slot(l *Loop) int {
	for i := range l.slots {
		if l.slots[i].acceptor == a {
			return i
		}
	}
	return 0
}

func (a *Acceptor) register(l *Loop) {
	if a.stopped.Load() || a.slot(l) != 0 {
		return
	}
	if _, err := l.add(a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, nil, a); err != nil {
		a.failed(err)
		a.retry(l)
	}
}

func (a *Acceptor) unregister(l *Loop) {
	if i := a.slot(l); i != 0 {
		_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, a.fd, nil)
		l.remove(i)
	}
}

func (a *Acceptor) retry(l *Loop) {
	t := &engine.Timer{}
	t.Fire = func() { a.register(l) }
	l.Arm(t, acceptPause)
}

const (
	// maxAccepts bounds how many are accepted at a time: the rest may be taken
	// by other loops.
	maxAccepts = 16
	// acceptPause is waited after an error such as too many open files, since
	// connections that wait lose nothing, and trying at once is a busy loop.
	acceptPause = 100 * time.Millisecond
)

// ready accepts what waits.
func (a *Acceptor) ready(l *Loop) {
	for range maxAccepts {
		fd, sa, err := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.give(l, fd, AddrPort(sa))
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED, unix.EPERM:
		default:
			a.failed(os.NewSyscallError("accept", err))
			a.unregister(l)
			a.retry(l)
			return
		}
	}
}

// slack is how many connections more than the idlest loop a loop may have
// before it hands new ones over, which costs a wake-up.
const slack = 4

// give places a new connection: epoll wakes the loops in a fixed order, so
// that without this the first one would get nearly all.
func (a *Acceptor) give(l *Loop, fd int, peer netip.AddrPort) {
	best := l
	for _, other := range a.loops {
		if other.Load()+slack < best.Load() {
			best = other
		}
	}
	if best != l && best.Post(func() { best.Adopt(fd, peer, a.accept(best)) }) {
		return
	}
	l.Adopt(fd, peer, a.accept(l))
}

// AddrPort converts an address of a TCP socket.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
