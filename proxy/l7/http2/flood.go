package http2

import "time"

// What a peer may do without getting anywhere is bounded by rates with a
// burst. The bursts are far above what browsers and gRPC do, and the rates far
// below what hurts.
const (
	// Streams that the client resets before it got a response head: the
	// cancellation of a page's images, but not a rapid reset (CVE-2023-44487).
	// A completed stream earns one back.
	resetBurst, resetRate = 200, 20
	// Streams that the peer makes us refuse or reset, by malformed requests or
	// frames that a stream's state forbids (CVE-2025-8671), and those beyond
	// MaxStreams, which a client may open before it knows the limit.
	provokedBurst, provokedRate = 200, 10
	// Frames that lead nowhere: PING, SETTINGS, PRIORITY, unknown types, empty
	// DATA, interim responses, updates of small windows, frames on closed
	// streams. A stream earns 4 back, since browsers send priorities; a DATA
	// frame that was received 1, for gRPC's PING after data; one that was sent
	// 2, for the window updates that answer it.
	overheadBurst, overheadRate = 2000, 200
)

const (
	// smallWindow: an update by less, and a DATA frame that is cut to less by
	// a window, count as overhead.
	smallWindow = 64
	// maxUnread bounds the acknowledgements, resets and window updates that
	// wait while the peer does not read.
	maxUnread = 16 << 10
	// maxBacklog: with more unread than this, no new stream is taken.
	maxBacklog = 256 << 10
)

// budget is a rate with a burst (the generic cell rate algorithm: one time, at
// which all that was taken will have been paid for).
type budget struct {
	paid  time.Duration
	price time.Duration // of one
	burst time.Duration // the price of the whole burst
}

func newBudget(burst, rate int) budget {
	price := time.Second / time.Duration(rate)
	return budget{price: price, burst: price * time.Duration(burst)}
}

// take spends one, and reports whether it was there.
func (b *budget) take(now time.Duration) bool {
	b.paid = max(b.paid, now) + b.price
	return b.paid-now <= b.burst
}

// earn gives n back.
func (b *budget) earn(n int) { b.paid -= b.price * time.Duration(n) }

// overhead counts a frame that leads nowhere.
func (c *conn) overhead() {
	if !c.nowhere.take(c.now) {
		c.doom(ErrOverhead)
	}
}

// provoked counts a stream that had to be refused or reset.
func (c *conn) provoked() {
	if !c.provocations.take(c.now) {
		c.doom(ErrProvoked)
	}
}

// peerReset counts a stream that the peer has reset. A response that has
// begun was worth its work.
func (c *conn) peerReset(s *Stream) {
	if c.server && !s.headSent && !c.resets.take(c.now) {
		c.doom(ErrResets)
	}
}

// unread counts n queued bytes that the peer has caused and can leave unread.
func (c *conn) unread(n int) {
	c.control += n
	if c.control <= maxUnread {
		return
	}
	if c.flush(); c.control > maxUnread {
		c.doom(ErrUnread)
	}
}

// doom ends the connection, once the present frame is done with.
func (c *conn) doom(err *Error) {
	if c.doomed == nil {
		c.doomed = err
	}
}
