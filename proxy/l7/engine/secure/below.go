package secure

import (
	"errors"
	"io"
)

// ErrTruncated is what a connection fails with whose peer ended it without
// saying so in TLS: an attacker could have done so, and what seems to be
// complete may not be (RFC 8446 section 6.1).
var ErrTruncated = errors.New("tls: connection ended without close_notify")

// ErrFlood is what a connection fails with whose peer makes us answer control
// messages, and does not take the answers.
var ErrFlood = errors.New("tls: peer does not read the answers to its key updates")

// maxControl bounds those answers, in bytes.
const maxControl = 16 << 10

// below takes the raw connection's events: an [engine.Handler].
type below Conn

// Opened implements [engine.Handler]: a dialled connection stands, and we
// speak first.
func (b *below) Opened() {
	c := (*Conn)(b)
	if c.shake != nil && !c.ended {
		if len(c.greeting) > 0 {
			c.raw.Send(c.greeting)
			c.greeting = nil
		}
		c.shake.begin()
		c.shake.join(true)
	}
}

// Data implements [engine.Handler].
func (b *below) Data(p []byte) {
	c := (*Conn)(b)
	switch {
	case c.lingering:
		if c.control += len(p); c.control > maxLinger {
			c.lingering = false
			c.raw.Abort()
		}
	case c.ended:
	case c.shake != nil:
		c.shake.data(p)
	default:
		c.in = p
		c.deliver()
		if len(c.in) > 0 {
			// It was paused, and what came with this call will be told later.
			c.held = append(c.held, c.in...)
		}
		c.in = nil
	}
}

// Drained implements [engine.Handler].
func (b *below) Drained() {
	c := (*Conn)(b)
	c.control = 0
	if c.handler != nil && c.shake == nil {
		c.loop.enter()
		c.handler.Drained()
		c.loop.leave()
	}
}

// EOF implements [engine.Handler].
func (b *below) EOF() {
	c := (*Conn)(b)
	c.rawEOF = true
	switch {
	case c.lingering:
		c.lingering = false
		c.raw.Close()
	case c.ended:
	case c.shake != nil:
		c.shake.end()
	case len(c.held) == 0:
		c.deliver()
	}
}

// Closed implements [engine.Handler].
func (b *below) Closed(err error) {
	c := (*Conn)(b)
	c.lingering = false
	if c.ended {
		return
	}
	h := c.handler
	if c.shake != nil {
		stood := c.shake.timed
		c.abandon(PeerGone, err)
		if stood { // else there was no handshake yet
			err = &HandshakeError{Peer: c.raw.Peer(), Reason: PeerGone, Err: err}
		}
	}
	c.end()
	if h != nil {
		c.loop.enter()
		h.Closed(err)
		c.loop.leave()
	}
}

// deliverHeld goes on after a pause, or after the handshake.
func (c *Conn) deliverHeld() {
	if c.ended || c.paused || c.shake != nil {
		return
	}
	c.in, c.held = c.held, nil
	c.deliver()
	if len(c.in) > 0 {
		c.held = c.in
	}
	c.in = nil // an empty rest would keep its array
	if !c.ended && !c.paused && len(c.held) == 0 {
		c.raw.Resume()
	}
}

// deliver hands on what in holds, as far as the handler takes it.
func (c *Conn) deliver() {
	c.loop.enter()
	defer c.loop.leave()
	for c.handler != nil && !c.paused && !c.eof {
		n, err := 0, c.problem
		if err == nil {
			n, err = c.read(c.loop.plain)
		}
		if n > 0 {
			c.handler.Data(c.loop.plain[:n])
		}
		if err == nil || c.ended {
			continue
		}
		if err == errDry {
			if !c.rawEOF {
				return
			}
			err = ErrTruncated
		}
		if c.problem = err; c.paused {
			return // told after the pause
		}
		c.tell(err)
	}
	if c.eof && !c.ended {
		c.in = nil // nothing may follow close_notify; what does is ignored
	}
}

// tell ends reading.
func (c *Conn) tell(err error) {
	if err == io.EOF {
		c.eof, c.problem = true, nil
		c.handler.EOF()
		return
	}
	h := c.handler
	c.flush() // it may be the answer to all that was understood
	c.end()
	if err == ErrFlood {
		c.raw.Abort()
	} else {
		c.raw.Close() // after the alert
	}
	h.Closed(err)
}

// read decrypts into b until it is full, or nothing whole is left.
func (c *Conn) read(b []byte) (n int, err error) {
	for n < len(b) {
		if len(c.in) == 0 && !c.more {
			return n, errDry
		}
		m, err := c.tls.Read(b[n:])
		// Less than there was room for: tls holds no more of this record, and
		// is given no more than one at a time.
		c.more = err == nil && m == len(b)-n
		n += m
		if c.control > maxControl {
			return n, ErrFlood
		}
		if err != nil && !(err == errDry && len(c.in) > 0) {
			return n, err
		}
	}
	return n, nil
}
