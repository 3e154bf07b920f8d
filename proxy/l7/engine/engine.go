// Package engine is the small interface between the HTTP session state
// machine and whatever moves its bytes: epoll, an engine in memory for tests
// and fuzzing, and io_uring later.
//
// The interface speaks of completions, not of readiness: bytes arrive in a
// buffer of the engine's, and are sent by handing them over. An engine on
// readiness (epoll) can do that as well as one on completions (io_uring), and
// an idle connection holds no buffer in either.
//
// Everything happens on the goroutine of one [Loop]; nothing here is safe for
// use from elsewhere, except Post. Callbacks must not block.
package engine

import (
	"net/netip"
	"time"
)

// Loop runs connections and timers on one goroutine.
type Loop interface {
	// Dial connects to address. The outcome comes as h.Opened or h.Closed,
	// never from within Dial.
	Dial(address netip.AddrPort, h Handler) Conn
	// Now is the time at which the present round of callbacks began. It is
	// monotonic, and counts from a beginning that all loops of the process
	// share: package clock.
	Now() time.Duration
	// Arm calls t's function once, at the earliest after d, at the latest some
	// tens of milliseconds later. A timer that was armed already is moved.
	Arm(t *Timer, d time.Duration)
	// Disarm revokes Arm; it does nothing to a timer that is not armed.
	Disarm(t *Timer)
	// Post runs f on the loop, soon. It may be called from any goroutine; it
	// reports false when the loop has ended and f will not run.
	Post(f func()) bool
}

// Conn is a connection of one loop. After Close or Abort no callback comes
// any more, and other calls do nothing.
type Conn interface {
	// Send sends b after what was sent before. It keeps no reference to b:
	// what the system does not take at once is copied. There is no bound:
	// whoever feeds a Conn looks at Pending and stops at its source.
	Send(b []byte)
	// Pending is the number of bytes that Send copied and the system has not
	// taken yet. When it has fallen to 0, Handler.Drained is called.
	Pending() int
	// Pause stops calls of Data and EOF until Resume. Within Data it takes
	// effect after the present call.
	Pause()
	Resume()
	// CloseWrite sends a FIN after what is pending.
	CloseWrite()
	// Close closes the connection after what is pending was sent, within a
	// bounded time.
	Close()
	// Abort resets the connection, and drops what is pending.
	Abort()
	// Peer is the other end's address.
	Peer() netip.AddrPort
}

// Near is a Conn that knows the address of its near end.
type Near interface{ Local() netip.AddrPort }

// LocalOf is the address of c's near end, which the peer of an accepted one
// connected to; the zero value if it is not known.
func LocalOf(c Conn) netip.AddrPort {
	if n, ok := c.(Near); ok {
		return n.Local()
	}
	return netip.AddrPort{}
}

// Handler takes the events of one Conn.
type Handler interface {
	// Opened: a dialled connection is established. Not called for accepted
	// ones.
	Opened()
	// Data: b has arrived. It is valid only during the call.
	Data(b []byte)
	// Drained: Pending has fallen to 0 after it was above.
	Drained()
	// EOF: the other end sends no more. It may still receive.
	EOF()
	// Closed: the connection failed or could not be made. It is the last
	// call; resources are the engine's to free.
	Closed(err error)
}

// Splicer is an ability that a Conn may have beyond the interface: the system
// moves what arrives on it to another Conn, and no byte passes through the
// program. It pays for much at once, not for small exchanges.
type Splicer interface {
	// SpliceTo begins it: Data is no longer called, but Spliced, of the Conn's
	// handler, which must be a [SpliceHandler]. Back-pressure is the system's;
	// EOF comes when all was handed on. It reports false, and nothing has
	// changed, where that is not possible now: to is of another loop, has
	// something pending, or the system refuses. The end of either Conn ends
	// it; the engine may end it as well, and calls Data again. Nothing may be
	// sent to to meanwhile.
	SpliceTo(to Conn) bool
}

// SpliceHandler is the handler of a Conn that is spliced.
type SpliceHandler interface {
	Handler
	// Spliced: n bytes were moved. To answer false ends it: what arrives
	// later comes by Data.
	Spliced(n int) (more bool)
}

// Timer is a place in a loop's timer wheel, meant to be a field of what it
// times, so that arming allocates nothing. It must not be copied.
type Timer struct {
	// Fire is called on the loop. Set it before the first Arm.
	Fire func()

	at         time.Duration
	prev, next *Timer // nil: not armed
}

// Armed reports whether the timer will fire.
func (t *Timer) Armed() bool { return t.next != nil }
