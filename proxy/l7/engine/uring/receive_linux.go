package uring

import (
	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// receive begins a multishot receive: from now on, bytes come by themselves.
func (c *conn) receive(flags uint16) {
	if c.dead || c.receiving || c.paused || c.handler == nil {
		return
	}
	c.receiving = true
	c.loop.push(sqe{
		opcode:   opRecv,
		flags:    sqeBufferSelect,
		ioprio:   recvMultishot | flags,
		fd:       int32(c.fd),
		bufGroup: bufferGroup,
		userData: c.loop.data(kindReceive, c.slot),
	})
}

// stopReceiving cancels the receive. What it brings until this is completed
// is still good.
func (c *conn) stopReceiving() {
	if c.receiving && !c.cancelling {
		c.cancelling = true
		c.loop.cancel(c.loop.data(kindReceive, c.slot))
	}
}

// hold stops the receive at the end of the round, if there is still a reason.
func (c *conn) hold() {
	if c.receiving && !c.held {
		c.held = true
		c.loop.held = append(c.loop.held, c)
	}
}

// holdBack is the end of the round that hold speaks of.
func (l *Loop) holdBack() {
	for i, c := range l.held {
		l.held[i] = nil
		c.held = false
		if !c.dead && (c.paused || c.handler == nil) {
			c.stopReceiving()
		}
	}
	l.held = l.held[:0]
}

// Pause implements [engine.Conn].
func (c *conn) Pause() {
	if c.paused || c.dead || c.closing {
		return
	}
	c.paused = true
	c.hold()
	c.watch()
}

// Resume implements [engine.Conn].
func (c *conn) Resume() {
	if !c.paused || c.dead || c.closing {
		return
	}
	c.paused = false
	if !c.receiving || len(c.stash) > 0 {
		c.loop.later(c) // not from within the caller's callback
	}
}

// received takes a completion of the receive: res bytes, which are in data,
// 0 for the peer's FIN, or an error. more: the receive goes on.
func (c *conn) received(res int32, data []byte, more bool) {
	if !more {
		c.receiving, c.cancelling = false, false
	}
	switch errno := unix.Errno(-res); {
	case c.handler == nil: // closing
		return
	case res > 0:
		c.loop.pace.Seen(&c.mark)
		if len(data) == bufferSize {
			c.stopReceiving() // there is probably much more
		}
		if c.paused || len(c.stash) > 0 {
			c.stash = append(c.stash, data...)
		} else {
			c.handler.Data(data)
		}
	case res == 0:
		c.ending = errEOF
	case errno == unix.ECANCELED, errno == unix.ENOBUFS, errno == unix.EINTR, errno == unix.EAGAIN, errno == unix.ENOMEM:
		// Read, and receive again when that finds nothing.
	default:
		c.ending = errno
		if c.paused {
			c.fail(errno)
			return
		}
	}
	if c.dead || c.receiving {
		return
	}
	c.readable = c.ending == nil
	if c.queued || c.paused {
		return // its turn comes
	}
	c.read()
}

// maxReads bounds how long one busy connection keeps the others waiting.
const maxReads = 4

// read hands on what has come: first what was received while paused, then
// what the kernel has, until it has no more and a receive is begun again.
func (c *conn) read() {
	if !c.unstash() {
		return
	}
	for reads := 0; c.readable && c.reads(); reads++ {
		if reads == maxReads {
			c.loop.later(c)
			return
		}
		in := c.loop.in
		n, errno := socket.Recv(c.fd, in)
		switch {
		case errno == unix.EAGAIN && c.broken == nil:
			c.readable = false
		case errno == unix.EINTR:
		case errno != 0:
			c.ending, c.readable = errno, false
		case n == 0:
			c.ending, c.readable = errEOF, false
		default:
			c.loop.pace.Seen(&c.mark)
			if n < len(in) && c.broken == nil {
				c.readable = false // it is empty, or a receive will see
			}
			c.handler.Data(in[:n])
		}
	}
	switch {
	case !c.reads() || c.readable:
	case c.ending == nil:
		c.receive(recvPollFirst)
	case c.broken != nil:
		c.fail(c.broken)
	case c.ending == errEOF:
		c.eof = true
		c.handler.EOF()
		if !c.dead {
			c.watch()
		}
	default:
		c.fail(c.ending)
	}
}

// reads reports whether the handler takes bytes, and no receive brings them.
func (c *conn) reads() bool {
	return !c.dead && c.handler != nil && !c.paused && !c.eof && !c.receiving && !c.connecting
}

// unstash hands on what was received while paused, and reports whether all of
// it was.
func (c *conn) unstash() bool {
	for b := c.stash; len(b) > 0; b = c.stash {
		if c.dead || c.handler == nil || c.paused {
			return false
		}
		n := min(len(b), readSize)
		c.stash = b[n:]
		c.handler.Data(b[:n])
	}
	c.stash = nil
	return true
}
