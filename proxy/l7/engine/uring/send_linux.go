package uring

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// sends is the sends of a loop through the ring. A connection has at most one
// that is not completed: were the kernel to take only a part of one, and then
// another, bytes would be missing between them.
type sends struct {
	all   []send
	free  []int
	round []int // not submitted
}

// send is one of them.
type send struct {
	piece
	conn *conn // nil: revoked before it was submitted
}

// gatherMost is up to how much a connection sends through the ring in a
// round. A system call of its own costs less than copying more.
const gatherMost = 24 << 10

// where a connection's send is.
type sendState uint8

const (
	sendNone     sendState = iota
	sendGathered           // in sends.round: more may be added to it
	sendFlying             // submitted
)

// gather sends b in this round, behind what c has gathered before; false if
// it is too much.
func (c *conn) gather(b []byte) bool {
	l := c.loop
	if c.sending == sendGathered {
		s := &l.sends.all[c.send]
		return s.len+len(b) <= gatherMost && l.arena.extend(&s.piece, b)
	}
	if len(b) > gatherMost {
		return false
	}
	p, ok := l.arena.add(b)
	if !ok {
		return false
	}
	i := len(l.sends.all)
	if n := len(l.sends.free); n > 0 {
		i, l.sends.free = l.sends.free[n-1], l.sends.free[:n-1]
	} else {
		l.sends.all = append(l.sends.all, send{})
	}
	l.sends.all[i] = send{p, c}
	l.sends.round = append(l.sends.round, i)
	c.sending, c.send = sendGathered, i
	return true
}

// revoke takes back what c has gathered; the bytes are good until the end of
// the round.
func (c *conn) revoke() []byte {
	if c.sending != sendGathered {
		return nil
	}
	s := &c.loop.sends.all[c.send]
	s.conn = nil
	c.sending = sendNone
	return s.bytes()
}

// submitSends submits what was gathered.
func (l *Loop) submitSends() {
	for _, i := range l.sends.round {
		s := &l.sends.all[i]
		if s.conn == nil {
			l.sent(i, 0)
			continue
		}
		s.conn.sending = sendFlying
		l.prompt = l.prompt || s.conn.closing || s.conn.finish
		l.pushInstant(sqe{
			opcode:   opSend,
			fd:       int32(s.conn.fd),
			addr:     uint64(uintptr(unsafe.Pointer(&s.chunk.mem[s.off]))),
			len:      uint32(s.len),
			opFlags:  unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL,
			userData: userData(kindSend, 0, i),
		})
	}
	l.sends.round = l.sends.round[:0]
}

// sent takes the outcome of a send.
func (l *Loop) sent(i int, res int32) {
	s := l.sends.all[i]
	l.sends.all[i] = send{}
	l.sends.free = append(l.sends.free, i)
	if s.conn != nil && !s.conn.dead {
		s.conn.sent(s.bytes(), res)
	}
	l.arena.release(s.piece)
}

// sent: of b, the kernel took res bytes, or failed.
func (c *conn) sent(b []byte, res int32) {
	c.sending = sendNone
	switch {
	case int(res) == len(b):
		if c.Pending() > 0 {
			c.flush()
		} else {
			c.emptied()
		}
		return
	case res < 0 && unix.Errno(-res) != unix.EAGAIN && unix.Errno(-res) != unix.EINTR:
		c.sendFailed(unix.Errno(-res))
		return
	}
	c.unsend(b[max(res, 0):])
	c.awaitWritable()
}

// unsend puts b before what is pending.
func (c *conn) unsend(b []byte) {
	if c.Pending() == 0 {
		c.keep(b)
		return
	}
	rest := c.out[c.taken:]
	c.out = append(append(make([]byte, 0, len(b)+len(rest)), b...), rest...)
	c.taken = 0
}

// keep puts b behind what is pending.
func (c *conn) keep(b []byte) {
	if len(b) == 0 {
		return
	}
	if c.out == nil {
		c.out = c.loop.spares.Take()
	}
	if c.taken > 0 && len(c.out)+len(b) > cap(c.out) {
		c.out = c.out[:copy(c.out, c.out[c.taken:])]
		c.taken = 0
	}
	c.out = append(c.out, b...)
}

// Send implements [engine.Conn].
func (c *conn) Send(b []byte) {
	if c.dead || c.closing || c.finish || c.broken != nil || len(b) == 0 {
		return
	}
	if c.connecting || c.sending == sendFlying || c.Pending() > 0 {
		c.keep(b)
		return
	}
	if c.gather(b) {
		return
	}
	before := c.revoke()
	n, errno := sendBoth(c.fd, before, b)
	switch {
	case errno != 0 && errno != unix.EAGAIN:
		c.sendFailed(errno)
	case n < len(before)+len(b):
		c.keep(before[min(n, len(before)):])
		c.keep(b[max(n-len(before), 0):])
		c.awaitWritable()
	}
}

// flush sends what is pending, when the kernel has room again.
func (c *conn) flush() {
	if c.Pending() == 0 || c.polling {
		return
	}
	n, errno := socket.Send(c.fd, c.out[c.taken:])
	switch errno {
	case 0:
		c.taken += n
		if c.closing {
			c.loop.Arm(&c.timer, closeWithin) // slow, but it takes
		}
	case unix.EAGAIN:
	default:
		c.sendFailed(errno)
		return
	}
	if c.Pending() > 0 {
		c.awaitWritable()
		return
	}
	c.dropOut()
	if c.emptied(); !c.dead && c.handler != nil {
		c.handler.Drained()
	}
}

// emptied: all that was sent is the kernel's.
func (c *conn) emptied() {
	switch {
	case c.closing:
		c.shut()
	case c.finish:
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

func (c *conn) dropOut() {
	if c.out != nil {
		c.loop.spares.Give(c.out)
		c.out, c.taken = nil, 0
	}
}

// awaitWritable asks to be told when the kernel has room.
func (c *conn) awaitWritable() {
	if c.polling {
		return
	}
	c.polling = true
	c.loop.push(sqe{opcode: opPollAdd, fd: int32(c.fd), opFlags: unix.POLLOUT, userData: c.loop.data(kindWritable, c.slot)})
	if c.handler == nil {
		c.hold() // closing, and it may take a while
	}
}

// writable takes the poll's outcome. Errors show as sending fails.
func (c *conn) writable(int32) {
	c.polling = false
	if c.sending != sendFlying {
		c.flush()
	}
}

// sendBoth sends a and b, of which a may be empty, as one.
func sendBoth(fd int, a, b []byte) (int, unix.Errno) {
	if len(a) == 0 {
		return socket.Send(fd, b)
	}
	iov := [2]unix.Iovec{{Base: &a[0]}, {Base: &b[0]}}
	iov[0].SetLen(len(a))
	iov[1].SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov[0], Iovlen: 2}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if errno != unix.EINTR {
			runtime.KeepAlive(&iov)
			return int(n), errno
		}
	}
}
