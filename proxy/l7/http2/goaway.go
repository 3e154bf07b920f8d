package http2

import (
	"encoding/binary"
	"time"
)

// goAwayState is how far a graceful end has come.
type goAwayState uint8

const (
	staying  goAwayState = iota
	warned               // a GOAWAY with the highest id is on its way
	goneAway             // the real one is: later streams are not taken
)

// GoAway begins a graceful end (RFC 9113 section 6.8). Streams in flight go
// on. A server says first that it will take no more, and, a round trip later,
// which stream was the last, so that none on its way is lost; a second call
// says so at once, for a client that does not answer.
//
// When Finished reports true, the caller closes the transport.
func (c *conn) GoAway() {
	switch {
	case c.dead != nil:
	case c.server && c.goingAway == staying:
		c.goingAway = warned
		c.queue(appendGoAway(c.buffer(), maxStreamID, NoError, ""))
		c.queue(appendPing(c.buffer(), 0, drainPing[:]))
	default:
		c.goneAway()
	}
}

func (c *conn) goneAway() {
	if c.goingAway != goneAway {
		c.goingAway = goneAway
		c.queue(appendGoAway(c.buffer(), c.lastDone, NoError, ""))
	}
}

// Finished reports whether a graceful end, ours or the peer's, has come to its
// end: no stream is open, and none will be. A client that said GOAWAY may
// still open streams until it closes.
func (c *conn) Finished() bool {
	return len(c.streams.open) == 0 && (c.goingAway == goneAway || c.peerAway && !c.server)
}

// goAwayFrame takes a GOAWAY.
func (c *conn) goAwayFrame(p []byte) {
	last := binary.BigEndian.Uint32(p) & maxStreamID
	code := Code(binary.BigEndian.Uint32(p[4:]))
	if c.peerAway {
		c.overhead()
	}
	c.peerAway = true
	if c.server {
		return
	}
	// It may lower the id later, never raise it.
	c.peerLast = min(c.peerLast, last)
	for {
		n := len(c.streams.open)
		if n == 0 || c.streams.open[n-1].id <= c.peerLast {
			break
		}
		s := c.streams.open[n-1]
		c.remove(s)
		c.ours.add(s.id)
		c.h.Reset(s, Reset{Code: code, Unprocessed: true})
	}
	c.ch.GoAway(code)
}

// pings are the PINGs that we have sent.
type pings struct {
	sent    uint64 // number of the last one
	waiting bool
	at      time.Duration
	rtt     time.Duration
}

// drainPing marks the PING behind the first GOAWAY.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'}

// Ping asks the peer for a sign of life (RFC 9113 section 6.7), unless one is
// waited for. The answer shows in Pinged: the caller looks when its own timer
// fires.
func (c *conn) Ping(now time.Duration) {
	c.now = now
	if c.dead != nil || c.pings.waiting {
		return
	}
	c.pings.waiting = true
	c.pings.sent++
	c.pings.at = now
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], c.pings.sent)
	c.queue(appendPing(c.buffer(), 0, p[:]))
}

// Pinged returns the round trip time of the last PING; ok reports that it was
// answered, or that there was none yet.
func (c *conn) Pinged() (rtt time.Duration, ok bool) { return c.pings.rtt, !c.pings.waiting }

func (c *conn) pingFrame(f *frame, p []byte) {
	c.overhead()
	switch {
	case !f.has(flagAck):
		c.queue(appendPing(c.buffer(), flagAck, p))
		c.unread(headerLength + 8)
	case c.goingAway == warned && [8]byte(p) == drainPing:
		c.goneAway()
	case c.pings.waiting && binary.BigEndian.Uint64(p) == c.pings.sent:
		c.pings.waiting = false
		c.pings.rtt = c.now - c.pings.at
	}
}
