package bfd

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel is given packets of sessions that are up before they are due, and
// sends each at its time in the name of the loop's thread. So no packet waits
// for this thread to get a P of Go's scheduler, nor for the garbage collector.
//
// It is honest still: what is given ahead is little, so that a process that
// hangs is silent soon, and one that is stopped, or dead, at once. And it is
// taken back as soon as something else is to be said.

const (
	// horizon is for how long the kernel goes on without the thread, which was
	// up to 245 ms late on two cores at load 20. It is also by how much later a
	// process that hangs is found.
	horizon = 200 * time.Millisecond
	// aheadOf is the most packets of a session that the kernel has: the horizon
	// at the shortest intervals, nearly.
	aheadOf = 16
)

// ahead are the packets of one session that the kernel was given.
type ahead struct {
	slots [aheadOf]slot
	first int // the oldest slot
	count int
	taken bool // back: the session's plan is as before the first of those that were
}

// slot is a packet that the kernel has. It must stay where it is until that
// has completed it.
type slot struct {
	id       uint64 // even; the packet's own is the next one
	at       time.Time
	before   plan          // what the session's next packet was, before this one was given away
	interval time.Duration // what at was planned by
	time     unix.Timespec
	bytes    [lengthMandatory]byte
	vector   unix.Iovec
	header   unix.Msghdr
	address  unix.RawSockaddrInet6 // large enough for either
}

func (a *ahead) oldest() *slot { return &a.slots[a.first] }

func (a *ahead) newest() *slot { return &a.slots[(a.first+a.count-1)%aheadOf] }

// fits says whether what the kernel has is what the session would send.
func (a *ahead) fits(m *Machine, now time.Time) bool {
	if a.count == 0 {
		return true
	}
	if m.expires(now) || m.prompt || m.silent() || a.newest().interval != m.transmitInterval() {
		return false
	}
	var out [lengthMandatory]byte
	return string(m.packet().Append(out[:0])) == string(a.newest().bytes[:])
}

// stock gives the kernel the next packets of a session.
func (l *loop) stock(s *session, now time.Time) {
	if l.ring == nil || s.fd < 0 || !s.until.IsZero() {
		return
	}
	var zero int64 // of the kernel's clock, as time.Time has it: now
	given := false
	for s.ahead.count < aheadOf && l.ring.room(2) {
		if s.ahead.count > 0 && s.machine.sendAt.After(now.Add(horizon)) {
			break // of a slow session, it has one
		}
		before := s.machine.plan
		p, at, ok := s.machine.Ahead(now)
		if !ok {
			break
		}
		if zero == 0 {
			now, zero = monotonic()
		}
		l.serial += 2
		s.ahead.count++
		e := s.ahead.newest()
		e.id, e.at, e.before, e.interval = l.serial, at, before, s.machine.transmitInterval()
		e.time = unix.NsecToTimespec(zero + int64(at.Sub(now)))
		p.Append(e.bytes[:0])
		e.vector.Base = &e.bytes[0]
		e.vector.SetLen(len(e.bytes))
		e.header.Name, e.header.Namelen = (*byte)(unsafe.Pointer(&e.address)), s.source.rawSockaddr(l.engine.options.to, &e.address)
		e.header.Iov = &e.vector
		e.header.SetIovlen(1)
		e.header.Control = nil
		e.header.SetControllen(0)
		if s.stamps.on {
			e.header.Control = &s.stamps.ask[0]
			e.header.SetControllen(len(s.stamps.ask))
		}
		l.ring.push(sqe{
			opcode: opTimeout, flags: sqeLink, addr: addressOf(&e.time), len: 1, opFlags: timeoutAbs | timeoutETimeIsGood, userData: e.id,
		})
		l.ring.push(sqe{
			opcode: opSendmsg, fd: int32(s.fd), addr: addressOf(&e.header), len: 1, opFlags: unix.MSG_DONTWAIT, userData: e.id + 1,
		})
		given = true
	}
	if given && l.ring.enter(0) != nil {
		l.lay()
	}
}

// monotonic gives one moment as time.Time has it, which does not tell its
// monotonic part, and by the kernel's clock.
func monotonic() (now time.Time, clock int64) {
	var ts unix.Timespec
	for range 5 {
		now = time.Now()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		if time.Since(now) < time.Millisecond {
			break // else this thread was put aside between the two
		}
	}
	return now, ts.Nano()
}

// takeBack has the kernel send none of what it was given for a session. What
// it has sent already stays sent.
func (l *loop) takeBack(s *session, now time.Time) {
	for s.ahead.count > 0 && l.ring != nil {
		if l.ring.room(aheadOf) {
			for i := range s.ahead.count {
				e := &s.ahead.slots[(s.ahead.first+i)%aheadOf]
				l.ring.push(sqe{opcode: opTimeoutRemove, addr: e.id})
			}
		}
		if l.ring.enter(1) != nil {
			l.lay()
			return
		}
		l.reap(now)
	}
}

// reap learns what has become of the packets that the kernel had.
func (l *loop) reap(now time.Time) {
	for c, ok := l.ring.next(); ok; c, ok = l.ring.next() {
		if c.userData%2 == 0 {
			continue // a timeout, or the removal of one
		}
		for _, s := range l.order {
			if s.ahead.count > 0 && s.ahead.has(c.userData-1) {
				l.settle(s, c, now)
				break
			}
		}
	}
	for _, s := range l.order {
		for late, ok := s.stamps.read(s.fd); ok; late, ok = s.stamps.read(s.fd) {
			l.engine.lateness.add(late)
		}
	}
}

func (a *ahead) has(id uint64) bool { return a.oldest().id <= id && id <= a.newest().id }

// settle takes note of what has become of a packet, and of those before it.
func (l *loop) settle(s *session, c cqe, now time.Time) {
	a := &s.ahead
	for a.count > 0 && a.oldest().id < c.userData {
		e := a.oldest()
		a.first = (a.first + 1) % aheadOf
		a.count--
		switch {
		case c.res == -int32(unix.ECANCELED):
			if !a.taken {
				s.machine.plan = e.before
			}
			a.taken = true
		case c.res < 0:
			s.sendErr = unix.Errno(-c.res)
			l.engine.lateness.unsent.Add(1)
			s.stamps.enable(s.fd) // it may have been numbered, or not
		default:
			s.sendErr = nil
			s.stamps.sent(e.at)
		}
	}
	if a.count == 0 && a.taken {
		a.taken = false
		s.machine.reschedule(now)
	}
}

// lay gives up sending ahead: the kernel refuses what it has taken before.
func (l *loop) lay() {
	now := time.Now()
	for _, s := range l.order {
		if s.ahead.count > 0 {
			s.machine.plan = s.ahead.oldest().before
			s.machine.reschedule(now)
		}
		s.ahead.count, s.ahead.taken = 0, false
	}
	if l.ring != nil {
		l.ring.close()
		l.ring = nil
	}
}
