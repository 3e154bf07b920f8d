package uring

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
	fd      int // -1: none was made
	slot    int
	handler engine.Handler // nil after Close, Abort or Closed
	peer    netip.AddrPort
	timer   engine.Timer // until Close, when to look for a reset; then, its bound

	out   []byte // what the kernel has not taken: out[taken:]
	taken int
	send  int // in loop.sends, unless sending is sendNone

	stash []byte // received while paused

	broken  error // sending failed; c is read to its end, then it fails with this
	ending  error // receiving has ended so (errEOF: by a FIN); not told yet
	mark    uint32
	sending sendState

	// Operations that the kernel has.
	connecting bool
	receiving  bool // a receive
	cancelling bool // the receive was cancelled, which is not completed
	polling    bool // a poll for room to send
	watching   bool // a poll for a reset

	readable bool // there may be more than the receive brought
	paused   bool
	eof      bool // it was told
	finish   bool // shut down writing when all is sent
	closing  bool // close when all is sent
	dead     bool // fd is closed, or will be at the end of the round
	queued   bool // in loop.again
	held     bool // in loop.held
}

const (
	// closeWithin bounds how long Close waits for a peer that takes nothing.
	closeWithin = 10 * time.Second
	// watchAfter is how long a connection has received nothing by its own
	// choice when a poll begins to look for a reset, which a receive would
	// have told. Most pauses are shorter, and cost no poll.
	watchAfter = 50 * time.Millisecond
)

var (
	errEOF    = errors.New("end of stream")
	errHangup = errors.New("connection reset")
)

// newConn makes a connection; fd may be set later.
func (l *Loop) newConn(fd int, peer netip.AddrPort) *conn {
	c := &conn{loop: l, fd: fd, peer: peer}
	c.slot = l.take(c, nil)
	l.load.Add(1)
	return c
}

// Peer implements [engine.Conn].
func (c *conn) Peer() netip.AddrPort { return c.peer }

// Local implements [engine.Near].
func (c *conn) Local() netip.AddrPort {
	if c.dead || c.fd < 0 {
		return netip.AddrPort{}
	}
	return socket.Local(c.fd)
}

// Pending implements [engine.Conn].
func (c *conn) Pending() int { return len(c.out) - c.taken }

// connected takes the outcome of a dial.
func (c *conn) connected(res int32) {
	c.connecting = false
	if res < 0 {
		c.fail(os.NewSyscallError("connect", unix.Errno(-res)))
		return
	}
	c.receive(recvPollFirst)
	c.handler.Opened()
	if !c.dead {
		c.flush()
	}
}

// fail ends the connection after an error of the system. The handler hears of
// it at the end of the round: it may be in the middle of its own work now.
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
	if c.broken != nil {
		return
	}
	c.broken = err
	c.revoke()
	c.dropOut()
	if c.receiving {
		c.stopReceiving() // then, what is left is read
		return
	}
	c.readable = true
	c.loop.later(c)
}

// CloseWrite implements [engine.Conn].
func (c *conn) CloseWrite() {
	if c.dead || c.finish || c.closing {
		return
	}
	c.finish = true
	if !c.unsent() && !c.connecting {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// unsent reports whether anything is on its way to the kernel.
func (c *conn) unsent() bool { return c.sending != sendNone || c.Pending() > 0 }

// Close implements [engine.Conn].
func (c *conn) Close() {
	if c.dead || c.closing {
		return
	}
	c.handler = nil
	if !c.unsent() || c.connecting {
		c.shut()
		return
	}
	c.closing = true
	c.stash = nil
	if c.timer.Fire == nil {
		c.timer.Fire = c.expired
	}
	c.loop.Arm(&c.timer, closeWithin)
	if c.Pending() > 0 {
		c.hold()
	}
}

// Abort implements [engine.Conn].
func (c *conn) Abort() {
	if c.dead {
		return
	}
	c.handler = nil
	if c.fd >= 0 {
		socket.ResetOnClose(c.fd)
	}
	c.shut()
}

// shut closes the descriptor. A socket lives as long as an operation refers
// to it: those are cancelled first.
func (c *conn) shut() {
	if c.dead {
		return
	}
	c.dead = true
	l := c.loop
	l.Disarm(&c.timer)
	c.revoke()
	c.dropOut()
	c.stash = nil
	for _, op := range []struct {
		k  kind
		on bool
	}{{kindReceive, c.receiving}, {kindWritable, c.polling}, {kindHangup, c.watching}, {kindConnect, c.connecting}} {
		if op.on {
			l.cancel(l.data(op.k, c.slot))
		}
	}
	if c.fd >= 0 {
		l.pushInstant(sqe{opcode: opClose, fd: int32(c.fd), userData: userData(kindNone, 0, 0)})
	}
	l.release(c.slot)
	l.load.Add(-1)
}

// expired: see timer.
func (c *conn) expired() {
	switch {
	case c.closing:
		c.Abort()
	case (c.paused || c.eof) && !c.receiving && !c.watching:
		// Errors are always polled for; bytes are not. As multishot, since
		// the peer's FIN would complete it again and again.
		c.watching = true
		c.loop.push(sqe{opcode: opPollAdd, fd: int32(c.fd), len: pollAddMulti, userData: c.loop.data(kindHangup, c.slot)})
	}
}

// watch looks for a reset, some time later, if c still does not receive then.
func (c *conn) watch() {
	if c.watching || c.closing || c.timer.Armed() {
		return
	}
	if c.timer.Fire == nil {
		c.timer.Fire = c.expired
	}
	c.loop.Arm(&c.timer, watchAfter)
}

// hungUp takes what the poll for a reset brings.
func (c *conn) hungUp(res int32, more bool) {
	c.watching = more
	if res < 0 || res&unix.POLLERR == 0 {
		return
	}
	err := socket.Error(c.fd)
	if err == nil {
		err = errHangup
	}
	c.sendFailed(err)
}
