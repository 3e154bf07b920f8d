package http2

import (
	"time"

	"golang.org/x/net/http2/hpack"
)

// conn is what both kinds of connection have in common.
type conn struct {
	shared *Shared
	out    Output
	config Config
	server bool // towards a client
	h      Handler
	sh     ServerHandler // nil towards a server
	ch     ClientHandler // nil towards a client

	now    time.Duration // of the present or last call
	dead   *Error        // the connection has ended; nothing is done any more
	doomed *Error        // it ends when the present frame is done with

	// Frames in.
	preface  string // what is left of it
	settled  bool   // the peer's first SETTINGS were seen
	in       []byte // the beginning of a frame that is not complete
	data     payload
	block    *block // a header block that is not complete; nil: none
	decoder  *hpack.Decoder
	lastSeen uint32 // highest stream that the client began
	lastDone uint32 // highest that was given to the handler

	// Frames out.
	buf     []byte // queued; nil: nothing
	listed  bool   // in shared.dirty
	control int    // queued bytes that the peer has caused, since all was taken
	encoder encoder

	// Streams.
	streams streams
	ours    resetRing // streams that we have reset
	nextID  uint32    // the next that a client opens
	waiting []*Stream // for room on the connection, in turn

	// Flow control.
	sendWindow    int // may not be below 0
	recvWindow    int
	credit        int // passed on, not given back yet
	initialWindow int // of the peer's, for streams to come
	peerStreams   int // how many the server allows

	// The end.
	goingAway goAwayState
	peerLast  uint32 // the server processes no stream above
	peerAway  bool
	pings     pings

	resets, provocations, nowhere budget
}

func (c *conn) init(shared *Shared, out Output, config *Config) {
	c.shared, c.out, c.config = shared, out, *config
	c.decoder = hpack.NewDecoder(tableSize, c.field)
	c.decoder.SetMaxStringLength(2 * config.Limits.Head)
	c.encoder.limit = tableSize
	c.sendWindow, c.recvWindow, c.initialWindow = defaultWindow, defaultWindow, defaultWindow
	c.peerStreams = assumedStreams
	c.peerLast = maxStreamID
	c.resets = newBudget(resetBurst, resetRate)
	c.provocations = newBudget(provokedBurst, provokedRate)
	c.nowhere = newBudget(overheadBurst, overheadRate)
}

// tableSize is the size of both HPACK tables: the protocol's own, from which
// no SETTINGS need to be awaited.
const tableSize = 4096

// Feed takes bytes that have arrived at time now, on a monotonic scale; b is
// not kept. It calls the handler, and sends what was queued on this and other
// connections.
//
// An error is final: every open stream was told by Reset, and the GOAWAY was
// sent. The caller closes the transport, as after the last response of
// HTTP/1.1: in a way that lets the peer read it.
func (c *conn) Feed(b []byte, now time.Duration) *Error {
	c.now = now
	if c.dead != nil {
		return c.dead
	}
	if err := c.receive(b); err != nil {
		c.doom(err)
	}
	c.round()
	return c.dead
}

// Drained says that Output.Pending has fallen to 0.
func (c *conn) Drained(now time.Duration) *Error {
	c.now = now
	if c.dead == nil {
		c.control = 0
		c.round()
	}
	return c.dead
}

// round ends a call: who waited may write, all is sent, and what a peer's
// excess has doomed ends.
func (c *conn) round() {
	if c.doomed == nil {
		c.serve()
	}
	if c.doomed != nil {
		c.fail(c.doomed)
	}
	c.shared.Flush()
}

// fail ends the connection with an error.
func (c *conn) fail(err *Error) {
	c.queue(appendGoAway(c.buffer(), c.lastDone, err.Code, err.Reason))
	c.dead = err
	c.end(Reset{Code: err.Code, Err: err})
}

// Closed says that the transport is gone, or will be closed by the caller:
// every open stream is told by Reset, and nothing works any more.
func (c *conn) Closed() {
	if c.dead == nil {
		c.dead = errTransport
		c.end(Reset{Code: Cancel})
	}
	c.shared.Flush()
}

var errTransport = &Error{Code: NoError, Reason: "the transport is closed"}

// end tells every open stream why it ends, and lets go of memory.
func (c *conn) end(why Reset) {
	for len(c.streams.open) > 0 {
		s := c.streams.open[len(c.streams.open)-1]
		c.remove(s)
		c.h.Reset(s, why)
	}
	c.in = nil
	if c.block != nil {
		c.shared.releaseBlock(c.block)
		c.block = nil
	}
	c.data = payload{}
	c.waiting = nil
}

// Streams is the number of open streams.
func (c *conn) Streams() int { return len(c.streams.open) }

// Buffered is the number of bytes that the connection holds between calls: the
// beginning of a frame, the part of a head that has come, and what is queued.
func (c *conn) Buffered() int {
	n := cap(c.in) + len(c.buf)
	if c.block != nil {
		n += c.block.size + cap(c.block.crumbs)
	}
	return n
}
