package epoll

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// conn is one socket of a loop. All its methods run on the loop.
type conn struct {
	loop    *Loop
	fd      int
	slot    int
	handler engine.Handler // nil after Close, Abort or Closed
	peer    netip.AddrPort

	out     []byte // what the kernel has not taken: out[sent:]
	sent    int
	goodbye engine.Timer // bounds how long Close waits for the peer to take out

	to, from *conn // what arrives is spliced to; what is spliced here comes from
	pipe     *pipe // holds what has arrived and to has not taken; nil: nothing

	mark uint32 // the loop's pace

	broken     error // sending failed; c is read to its end, then it fails with this
	connecting bool
	readable   bool // an edge said so, and no read has found the end since
	hangup     bool // an edge announced the peer's FIN: don't trust a short read
	paused     bool
	eof        bool
	finish     bool // shut down writing when out is sent
	closing    bool // close when out is sent
	dead       bool // fd is closed
	queued     bool // in loop.again
}

// closeWithin bounds how long Close waits for a peer that takes nothing.
const closeWithin = 10 * time.Second

func (c *conn) Peer() netip.AddrPort { return c.peer }
func (c *conn) Pending() int         { return len(c.out) - c.sent }

// Local implements [engine.Near].
func (c *conn) Local() netip.AddrPort {
	if c.dead {
		return netip.AddrPort{}
	}
	return socket.Local(c.fd)
}

func (c *conn) Pause() { c.paused = true }

func (c *conn) Resume() {
	if !c.paused || c.dead || c.closing {
		return
	}
	c.paused = false
	if c.readable {
		c.loop.later(c) // not from within the caller's callback
	}
}

func (c *conn) Send(b []byte) {
	if c.dead || c.closing || c.finish || c.broken != nil || len(b) == 0 {
		return
	}
	if !c.connecting && c.Pending() == 0 {
		n, errno := socket.Send(c.fd, b)
		switch errno {
		case 0:
			if n == len(b) {
				return
			}
			b = b[n:]
		case unix.EAGAIN:
		default:
			c.sendFailed(errno)
			return
		}
	}
	if c.out == nil {
		c.out = c.loop.spares.Take()
	}
	if c.sent > 0 && len(c.out)+len(b) > cap(c.out) {
		c.out = c.out[:copy(c.out, c.out[c.sent:])]
		c.sent = 0
	}
	c.out = append(c.out, b...)
}

// fail ends the connection after an error of the system. The handler hears of
// it in the next round: it may be in the middle of its own work now.
func (c *conn) fail(err error) {
	h := c.handler
	c.handler = nil
	c.shut()
	if h != nil {
		c.loop.failed.Add(h, err)
	}
}

// sendFailed notes that nothing can be sent any more. What the peer sent
// before it went may still wait to be read: a server may answer, and close,
// before it has read all of a request.
func (c *conn) sendFailed(err error) {
	if c.paused || c.closing || c.eof {
		c.fail(err)
		return
	}
	c.broken = err
	c.loop.spares.Give(c.out)
	c.out, c.sent = nil, 0
	c.readable = true
	c.loop.later(c)
}

// flush sends what is pending, when the kernel has room again.
func (c *conn) flush() {
	if c.Pending() == 0 {
		return
	}
	n, errno := socket.Send(c.fd, c.out[c.sent:])
	switch errno {
	case 0:
		c.sent += n
		if c.closing {
			c.loop.Arm(&c.goodbye, closeWithin) // slow, but it takes
		}
	case unix.EAGAIN:
		return
	default:
		c.sendFailed(errno)
		return
	}
	if c.Pending() > 0 {
		return // a short write: the next edge will tell
	}
	c.loop.spares.Give(c.out)
	c.out, c.sent = nil, 0
	switch {
	case c.closing:
		c.shut()
		return
	case c.finish:
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
	if c.handler != nil {
		c.handler.Drained()
	}
}

// maxReads bounds how long one busy connection keeps the others waiting.
const maxReads = 4

// read hands on what has arrived.
func (c *conn) read() {
	for reads := 0; c.readable && !c.paused && !c.eof && !c.dead && c.handler != nil; reads++ {
		if c.to != nil {
			c.pump()
			return
		}
		if reads == maxReads {
			c.loop.later(c)
			return
		}
		n, errno := socket.Recv(c.fd, c.loop.in)
		switch {
		case errno == unix.EAGAIN && c.broken == nil:
			c.readable = false
		case errno == unix.EINTR:
		case (errno != 0 || n == 0) && c.broken != nil:
			c.fail(c.broken)
		case errno != 0:
			c.fail(errno)
		case n == 0:
			c.readable, c.eof = false, true
			c.handler.EOF()
		default:
			// Less than asked for: the socket is empty, and what comes later
			// makes a new edge.
			if n < len(c.loop.in) && !c.hangup && c.broken == nil {
				c.readable = false
			}
			c.loop.pace.Seen(&c.mark)
			c.handler.Data(c.loop.in[:n])
		}
	}
}

func (c *conn) CloseWrite() {
	if c.dead || c.finish || c.closing {
		return
	}
	c.finish = true
	if c.Pending() == 0 && !c.connecting {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

func (c *conn) Close() {
	if c.dead || c.closing {
		return
	}
	c.handler = nil
	c.unsplice()
	if c.Pending() == 0 || c.connecting {
		c.shut()
		return
	}
	c.closing = true
	c.goodbye.Fire = c.Abort
	c.loop.Arm(&c.goodbye, closeWithin)
}

func (c *conn) Abort() {
	if c.dead {
		return
	}
	c.handler = nil
	socket.ResetOnClose(c.fd)
	c.shut()
}

// shut closes the descriptor, which takes it out of epoll as well.
func (c *conn) shut() {
	if c.dead {
		return
	}
	c.dead = true
	c.unsplice()
	if c.from != nil {
		c.from.unsplice()
	}
	c.loop.Disarm(&c.goodbye)
	if c.out != nil {
		c.loop.spares.Give(c.out)
		c.out, c.sent = nil, 0
	}
	_ = unix.Close(c.fd)
	c.loop.release(c)
}

// connected takes the outcome of a dial.
func (c *conn) connected() {
	if err := socket.Error(c.fd); err != nil {
		c.fail(os.NewSyscallError("connect", err))
		return
	}
	c.connecting = false
	c.handler.Opened()
	if !c.dead && c.Pending() > 0 {
		c.flush()
	}
}

var errHangup = errors.New("connection reset")

// event takes one edge.
func (c *conn) event(events uint32) {
	if c.connecting {
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		c.connected()
		if c.dead || c.handler == nil && !c.closing {
			return
		}
	} else if events&unix.EPOLLOUT != 0 {
		c.flush()
		if c.from != nil && c.from.pipe != nil {
			c.from.pump()
		}
		if c.dead {
			return
		}
	}
	if events&unix.EPOLLERR != 0 {
		err := socket.Error(c.fd)
		if err == nil {
			err = errHangup
		}
		c.sendFailed(err)
		return
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		c.hangup, c.readable = true, true
	}
	if events&unix.EPOLLIN != 0 {
		c.readable = true
	}
	c.read()
}
