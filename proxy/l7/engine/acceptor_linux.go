package engine

import (
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Acceptor accepts from one listening socket on several loops.
//
// The loops share one socket (the kernel wakes one of them) instead of having
// one each by SO_REUSEPORT: closing one of several sockets drops the
// connections that wait in its queue.
type Acceptor struct {
	fd      int
	loops   []Driver
	stops   []func(stopped func()) // each is its loop's; nil: not accepting
	handler func(Driver) func(Conn) Handler
	failed  func(error)
	stopped atomic.Bool
}

// NewAcceptor returns an acceptor for a listening socket, which it owns.
// handler makes the handler of a connection on a given loop; it is called on
// that loop. failed is told of errors other than those of single clients, on
// any loop.
func NewAcceptor(fd int, loops []Driver, handler func(Driver) func(Conn) Handler, failed func(error)) *Acceptor {
	return &Acceptor{fd: fd, loops: loops, stops: make([]func(func()), len(loops)), handler: handler, failed: failed}
}

// Start begins to accept. It returns at once.
func (a *Acceptor) Start() {
	for i, l := range a.loops {
		l.Post(func() {
			if a.stopped.Load() || a.stops[i] != nil {
				return
			}
			a.stops[i] = l.Accept(a.fd, func(fd int, peer netip.AddrPort) { a.give(l, fd, peer) }, a.failed)
		})
	}
}

// Stop ends it: when it returns, no loop accepts any more. Connections that
// wait stay in the socket's queue. It must not be called on a loop.
func (a *Acceptor) Stop() {
	a.stopped.Store(true)
	done := make(chan struct{}, len(a.loops))
	waiting := 0
	for i, l := range a.loops {
		if l.Post(func() {
			stop := a.stops[i]
			if stop == nil {
				done <- struct{}{}
				return
			}
			a.stops[i] = nil
			stop(func() { done <- struct{}{} })
		}) {
			waiting++
		}
	}
	for range waiting {
		<-done
	}
	_ = unix.Close(a.fd)
}

// slack is how many connections more than the idlest loop a loop may have
// before it hands new ones over, which costs a wake-up.
const slack = 4

// give places a new connection: the kernel wakes the loops in a fixed order,
// so that without this the first one would get nearly all.
func (a *Acceptor) give(l Driver, fd int, peer netip.AddrPort) {
	best := l
	for _, other := range a.loops {
		if other.Load()+slack < best.Load() {
			best = other
		}
	}
	if best != l && best.Post(func() { best.Adopt(fd, peer, a.handler(best)) }) {
		return
	}
	l.Adopt(fd, peer, a.handler(l))
}
