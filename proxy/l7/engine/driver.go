package engine

import "net/netip"

// Driver is a [Loop] on the kernel's sockets, as its owner sees it: who runs
// it, and gives it connections.
type Driver interface {
	Loop

	// Run runs the loop, on a thread of its own, until done reports true after
	// a round of callbacks. Connections that are left are then reset without
	// a word to their handlers. It must be called once, also for a loop that
	// is not needed: it frees what the loop holds.
	Run(done func() bool) error
	// Load is the number of connections of the loop. Safe from anywhere.
	Load() int
	// Adopt makes fd, a connected non-blocking socket, a connection of the
	// loop, which owns it from here on. handler may close or abort it at once;
	// what it returns is then not called. Only on the loop.
	Adopt(fd int, peer netip.AddrPort, handler func(Conn) Handler)
	// Accept accepts connections from fd, a listening non-blocking socket that
	// stays the caller's, and gives each to accepted, which owns it. failed is
	// told of errors other than those of single clients; after one, accepting
	// goes on a tenth of a second later, since connections that wait lose
	// nothing. Several loops may accept from one socket.
	//
	// stop ends it: stopped is called once nothing more is accepted, at the
	// latest when the loop ends; fd may be closed then. All of these only on
	// the loop.
	Accept(fd int, accepted func(fd int, peer netip.AddrPort), failed func(error)) (stop func(stopped func()))
}
