package secure

import (
	"crypto/tls"
	"net/netip"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

// Conn is a TLS connection of one loop: an [engine.Conn]. All its methods must
// be called on the loop.
type Conn struct {
	loop    *Loop
	raw     engine.Conn
	handler engine.Handler // nil before the handshake of an accepted one, and after the end
	tls     *tls.Conn      // the handshake's goroutine's, until that has ended
	shake   *handshake     // nil when it has ended

	greeting []byte // sent in clear before the handshake of a dialled one

	// What has arrived, in this order: first what tls holds, then in.
	in    []byte // given by the engine, for the present call
	held  []byte // kept while paused; the raw connection is paused then, too
	frame frame

	// unsent is plain: before the handshake has ended, all that was sent; then,
	// what is gathered within the present callback.
	unsent []byte

	control   int   // bytes sent in answer to the peer's control messages, and pending
	problem   error // of reading, to be told
	paused    bool
	more      bool // tls may hold something decrypted
	rawEOF    bool // the peer's FIN has arrived
	eof       bool // the peer's close_notify has been told
	finished  bool // ours was sent, or will be after the handshake
	gathering bool // in loop.gathering
	sending   bool // within a call of Send
	batch     bool // whose records are collected in loop.sealed
	posted    bool // a turn to deliver has been posted
	ended     bool // no callbacks any more
	lingering bool // a handshake has failed, and the peer is given time to read why
}

// smallPiece is below what it costs less to copy than to make a record of.
const smallPiece = 4 << 10

// Send implements [engine.Conn].
func (c *Conn) Send(b []byte) {
	switch {
	case c.ended || c.finished || len(b) == 0:
		return
	case c.shake != nil:
		c.unsent = append(c.unsent, b...)
		return
	}
	if len(c.unsent) > 0 {
		// Fill up the record that was begun.
		n := min(len(b), maxRecord-len(c.unsent))
		c.unsent = append(c.unsent, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return
		}
		c.flush()
	}
	if len(b) > smallPiece || c.loop.depth == 0 {
		c.write(b)
		return
	}
	if c.unsent == nil {
		c.unsent = c.loop.takeBuffer()
	}
	c.unsent = append(c.unsent, b...)
	if !c.gathering {
		c.gathering = true
		c.loop.gathering = append(c.loop.gathering, c)
	}
}

// flush sends what was gathered.
func (c *Conn) flush() {
	c.gathering = false
	if c.unsent == nil || c.shake != nil {
		return
	}
	b := c.unsent
	c.unsent = nil
	if !c.ended {
		c.write(b)
	}
	c.loop.giveBuffer(b)
}

// maxBatch is how much is encrypted for one call of the raw Send.
const maxBatch = 4 * maxRecord

// write encrypts b and sends it. Records that follow one another go down in
// one call: each may be a system call.
func (c *Conn) write(b []byte) {
	l := c.loop
	for len(b) > 0 {
		piece := b[:min(len(b), maxBatch)]
		b = b[len(piece):]
		c.sending, c.batch = true, len(piece) > maxRecord
		_, err := c.tls.Write(piece)
		if c.batch {
			c.raw.Send(l.sealed)
			if l.sealed = l.sealed[:0]; cap(l.sealed) > maxSealed {
				l.sealed = nil
			}
		}
		c.sending, c.batch = false, false
		if err != nil {
			// Told later: the handler may be in the middle of its own work.
			if c.problem == nil {
				c.problem = err
				c.deliverLater()
			}
			return
		}
	}
}

// Pending implements [engine.Conn]. Before the handshake has ended, it counts
// what was sent; later on, what is encrypted.
func (c *Conn) Pending() int {
	if c.shake != nil {
		return len(c.unsent)
	}
	return c.raw.Pending()
}

// Pause implements [engine.Conn].
func (c *Conn) Pause() {
	if c.ended {
		return
	}
	c.paused = true
	if c.shake == nil {
		c.raw.Pause()
	}
}

// Resume implements [engine.Conn].
func (c *Conn) Resume() {
	if !c.paused || c.ended {
		return
	}
	c.paused = false
	switch {
	case c.shake != nil:
	case len(c.held) > 0 || c.more || c.problem != nil || c.rawEOF:
		c.deliverLater() // not from within the caller's callback
	default:
		c.raw.Resume()
	}
}

// deliverLater posts a turn of delivering.
func (c *Conn) deliverLater() {
	if !c.posted {
		c.posted = c.loop.engine.Post(func() {
			c.posted = false
			c.deliverHeld()
		})
	}
}

// CloseWrite implements [engine.Conn]: it sends close_notify and a FIN.
func (c *Conn) CloseWrite() {
	if c.ended || c.finished {
		return
	}
	c.flush()
	c.finished = true
	if c.shake == nil {
		c.farewell()
		c.raw.CloseWrite()
	}
}

// farewell sends close_notify, once.
func (c *Conn) farewell() {
	c.sending = true
	_ = c.tls.CloseWrite() // fails after an alert, which says more
	c.sending = false
}

// Close implements [engine.Conn]: it sends close_notify after what was sent.
func (c *Conn) Close() {
	if c.ended {
		return
	}
	if c.shake != nil {
		c.abandon(Cancelled, nil)
		c.raw.Close()
		return
	}
	c.flush()
	if !c.finished {
		c.farewell()
	}
	c.end()
	c.raw.Close()
}

// Abort implements [engine.Conn].
func (c *Conn) Abort() {
	if c.ended {
		return
	}
	if c.shake != nil {
		c.abandon(Cancelled, nil)
	}
	c.end()
	c.raw.Abort()
}

// Peer implements [engine.Conn].
func (c *Conn) Peer() netip.AddrPort { return c.raw.Peer() }

// Local implements [engine.Near].
func (c *Conn) Local() netip.AddrPort { return engine.LocalOf(c.raw) }

// ConnectionState is what the handshake has agreed on. It must not be called
// before Opened.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// end lets go of what the connection holds.
func (c *Conn) end() {
	c.ended = true
	c.handler = nil
	c.in, c.held, c.problem = nil, nil, nil
	if c.unsent != nil {
		c.loop.giveBuffer(c.unsent)
		c.unsent = nil
	}
}

// wire is the connection as [tls.Conn] sees it: during the handshake, its
// goroutine's; then the loop's, and it never blocks.
type wire Conn
