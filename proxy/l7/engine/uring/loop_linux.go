// Package uring is the engine on io_uring: multishot accepts and receives
// into provided buffers, sends gathered in a round and submitted together
// with the wait for what comes next. Raw system calls, one thread and one
// ring for each loop.
//
// What the kernel is given must outlive its use of it. So it is given little:
// the provided buffers and the arena, which live as long as the ring. Sends
// through the ring never wait in the kernel (MSG_DONTWAIT); what it does not
// take is kept by the connection, and sent by plain system calls once poll
// says so, as epoll's engine does. The same goes for receiving: a connection
// on which more arrives than fits a buffer, or which was paused, is read by
// plain system calls until it is empty, which bounds what is held for it, and
// needs no buffers. So the fast paths are the ring's, and the rest is epoll's.
package uring

import (
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

const (
	sqEntries = 1024
	cqEntries = 8192
	// Buffers are picked in turn, and a message touches only the beginning of
	// one. What fills one is taken for the beginning of much.
	bufferSize  = 32 << 10
	bufferCount = 128
	// readSize is how much is read at once by a plain system call.
	readSize = 64 << 10
	// spareSize is what unsent bytes are first copied into, and maxSpare how
	// many of those buffers a loop keeps for reuse.
	spareSize = 16 << 10
	maxSpare  = 64
)

// Loop is one event loop. Make it with [New]; Run runs it.
type Loop struct {
	ring    *ring
	buffers *buffers
	arena   arena
	wakefd  int
	now     time.Duration
	wheel   *engine.Wheel
	pace    engine.Pace
	in      []byte
	spare   [][]byte

	slots     []slot
	free      []int
	sends     sends
	addresses []*rawAddress // of dials that are not submitted
	again     []*conn       // have more to read
	held      []*conn       // receive, and should not
	failed    []failure     // handlers to be told

	backlog []sqe  // did not fit the submission queue
	instant uint32 // submissions that complete at once, since the last wait
	ops     int    // operations whose last completion has not come
	quiet   bool   // nothing came in the last wait
	ending  bool   // nothing new may begin

	load atomic.Int64 // connections of the loop

	asleep  atomic.Bool // a post must write to wakefd
	waiting atomic.Bool // something was posted
	mu      sync.Mutex
	posted  []func()
	ended   bool
}

// slot is what user data points at. The generation tells completions for the
// present owner from late ones for a predecessor.
type slot struct {
	conn       *conn
	acceptor   *acceptor
	generation uint32
}

type failure struct {
	handler engine.Handler
	err     error
}

// New returns a loop that holds descriptors and memory and does nothing until
// Run, which must be called, and frees them in the end. Its error is a
// [*NotAllowedError] when the kernel, or what confines this process, refuses
// io_uring or lacks a feature.
func New() (*Loop, error) {
	r, err := newRing(sqEntries, cqEntries)
	if err != nil {
		return nil, &NotAllowedError{err}
	}
	if err := supports(r); err != nil {
		r.close()
		return nil, &NotAllowedError{err}
	}
	b, err := newBuffers(r, bufferCount, bufferSize)
	if err != nil {
		r.close()
		return nil, &NotAllowedError{err}
	}
	// Blocking, as poll is what reads it.
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		r.close()
		b.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &Loop{ring: r, buffers: b, wakefd: wakefd, now: clock.Now(), wheel: engine.NewWheel(), in: make([]byte, readSize)}
	l.slots = append(l.slots, slot{}) // slot 0 is nobody's
	return l, nil
}

// Run implements [engine.Driver].
func (l *Loop) Run(done func() bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	if err := l.ring.enable(); err != nil {
		l.end()
		return err
	}
	l.push(sqe{opcode: opPollAdd, fd: int32(l.wakefd), len: pollAddMulti, opFlags: unix.POLLIN, userData: userData(kindWake, 0, 0)})
	for {
		if err := l.wait(); err != nil {
			l.end()
			return err
		}
		l.round()
		if done() {
			l.end()
			return nil
		}
	}
}

// round handles what has come.
func (l *Loop) round() {
	l.now = clock.Now()
	for {
		c, ok := l.ring.pop()
		if !ok {
			break
		}
		l.dispatch(c)
	}
	l.wheel.Advance(l.now)
	l.runPosted()
	l.readAgain()
	l.tellFailed()
}

// shortWait is how long a wait may be that Go's scheduler is not told of.
const shortWait = 500 * time.Microsecond

// wait submits, and waits for completions, timers and posts.
func (l *Loop) wait() error {
	l.submit()
	w := await{events: l.instant + 1, timeout: -1}
	instant := l.instant > 0
	l.instant = 0
	batch := l.pace.Batch(l.now)
	if d, ok := l.wheel.Next(clock.Now()); ok {
		w.timeout = d
	}
	l.asleep.Store(true)
	switch {
	case l.waiting.Load() || len(l.again) > 0 || len(l.failed) > 0 || len(l.backlog) > 0:
		w.events = 0
	case batch > 0 && w.timeout != 0:
		w.events += uint32(batch) - 1
		w.atLeast = engine.BatchWait
		w.timeout = limit(w.timeout, shortWait)
		w.raw = true
		if l.ring.features&featMinTimeout == 0 {
			// Before 6.12: at most so long, and then on to the next round.
			w.timeout = engine.BatchWait
		}
	case !l.quiet || instant:
		// What follows on a completion (the end behind a last answer) does not
		// wait for whatever comes next.
		w.timeout = limit(w.timeout, shortWait)
		w.raw = true
	}
	errno := l.ring.enter(w)
	l.asleep.Store(false)
	if len(l.addresses) > 0 && len(l.backlog) == 0 && l.ring.queued() == 0 {
		clear(l.addresses) // the kernel has read them
		l.addresses = l.addresses[:0]
	}
	l.quiet = l.ring.ready() == 0
	if errno != 0 {
		return os.NewSyscallError("io_uring_enter", errno)
	}
	return nil
}

// limit bounds a timeout, which may be below 0 for none.
func limit(timeout, most time.Duration) time.Duration {
	if timeout < 0 {
		return most
	}
	return min(timeout, most)
}

// submit puts what the round has left behind into the submission queue.
func (l *Loop) submit() {
	l.holdBack()
	l.submitSends()
	for len(l.backlog) > 0 {
		n := 0
		for n < len(l.backlog) {
			e := l.ring.push()
			if e == nil {
				break
			}
			*e = l.backlog[n]
			n++
		}
		l.backlog = l.backlog[:copy(l.backlog, l.backlog[n:])]
		if len(l.backlog) > 0 {
			_ = l.ring.enter(await{})
			if l.ring.queued() > 0 {
				break // the kernel takes no more at present
			}
		}
	}
}

// push gives an operation to the kernel, at the end of the round.
func (l *Loop) push(s sqe) {
	l.ops++
	if len(l.backlog) == 0 {
		if e := l.ring.push(); e != nil {
			*e = s
			return
		}
	}
	l.backlog = append(l.backlog, s)
}

// pushInstant is push for operations that complete as they are submitted.
func (l *Loop) pushInstant(s sqe) {
	l.instant++
	l.push(s)
}

// cancel ends the operation with this user data.
func (l *Loop) cancel(data uint64) {
	l.pushInstant(sqe{opcode: opAsyncCancel, fd: -1, addr: data, userData: userData(kindNone, 0, 0)})
}

// kind says what a completion is of.
type kind uint8

const (
	kindNone kind = iota // nobody waits for it
	kindWake
	kindReceive
	kindSend // its index is in sends
	kindWritable
	kindHangup
	kindConnect
	kindAccept
)

const generationMask = 1<<24 - 1

// userData tags an operation of a slot's present owner.
func userData(k kind, generation uint32, index int) uint64 {
	return uint64(k)<<56 | uint64(generation&generationMask)<<32 | uint64(uint32(index))
}

func (l *Loop) data(k kind, slot int) uint64 {
	return userData(k, l.slots[slot].generation, slot)
}

func (l *Loop) dispatch(c cqe) {
	if c.flags&cqeMore == 0 {
		l.ops--
	}
	k, index := kind(c.userData>>56), int(uint32(c.userData))
	switch k {
	case kindNone:
		return
	case kindWake:
		if c.flags&cqeMore == 0 && !l.ending {
			l.push(sqe{opcode: opPollAdd, fd: int32(l.wakefd), len: pollAddMulti, opFlags: unix.POLLIN, userData: c.userData})
		}
		return
	case kindSend:
		l.sent(index, c.res)
		return
	}
	s := &l.slots[index]
	stale := s.generation&generationMask != uint32(c.userData>>32)&generationMask
	switch {
	case k == kindReceive && c.flags&cqeBuffer != 0:
		id := uint16(c.flags >> cqeBufferShift)
		if !stale {
			s.conn.received(c.res, l.buffers.at(id, max(int(c.res), 0)), c.flags&cqeMore != 0)
		}
		l.buffers.put(id) // also of a late one
	case k == kindReceive:
		if !stale {
			s.conn.received(c.res, nil, c.flags&cqeMore != 0)
		}
	case k == kindAccept:
		if stale {
			if c.res >= 0 {
				_ = unix.Close(int(c.res))
			}
			return
		}
		s.acceptor.completed(c.res, c.flags&cqeMore != 0)
	case stale:
	case k == kindWritable:
		s.conn.writable(c.res)
	case k == kindHangup:
		s.conn.hungUp(c.res, c.flags&cqeMore != 0)
	case k == kindConnect:
		s.conn.connected(c.res)
	}
}

// take gives a slot to a connection or an acceptor.
func (l *Loop) take(c *conn, a *acceptor) int {
	var i int
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		i = len(l.slots)
		l.slots = append(l.slots, slot{})
	}
	l.slots[i].conn, l.slots[i].acceptor = c, a
	return i
}

func (l *Loop) release(i int) {
	s := &l.slots[i]
	s.conn, s.acceptor = nil, nil
	s.generation++
	l.free = append(l.free, i)
}

// later gives c another turn at reading in this round or the next.
func (l *Loop) later(c *conn) {
	if !c.queued {
		c.queued = true
		l.again = append(l.again, c)
	}
}

func (l *Loop) readAgain() {
	n := len(l.again) // those that are added wait for the next round
	for i := range n {
		c := l.again[i]
		c.queued = false
		if !c.dead {
			c.read()
		}
	}
	k := copy(l.again, l.again[n:])
	clear(l.again[k:])
	l.again = l.again[:k]
}

func (l *Loop) tellFailed() {
	for i := 0; i < len(l.failed); i++ {
		f := l.failed[i]
		l.failed[i] = failure{}
		f.handler.Closed(f.err)
	}
	l.failed = l.failed[:0]
}

// Post implements [engine.Loop].
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.posted = append(l.posted, f)
	l.waiting.Store(true)
	if l.asleep.Swap(false) {
		// Under the lock: end closes wakefd.
		_, _ = unix.Write(l.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

func (l *Loop) runPosted() {
	if !l.waiting.Load() {
		return
	}
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.waiting.Store(false)
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// endWithin bounds how long end waits for the kernel.
const endWithin = 2 * time.Second

// end takes leave of everyone, and of the kernel.
func (l *Loop) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.runPosted() // whoever posted waits for it
	l.ending = true
	for i := range l.slots {
		switch s := &l.slots[i]; {
		case s.conn != nil:
			s.conn.Abort()
		case s.acceptor != nil:
			s.acceptor.stop(nil)
		}
	}
	l.failed = nil
	l.cancel(userData(kindWake, 0, 0))
	for deadline := time.Now().Add(endWithin); l.ops > 0 && time.Now().Before(deadline); {
		l.submit()
		l.instant = 0
		if l.ring.enter(await{events: 1, timeout: shortWait}) != 0 {
			break
		}
		for {
			c, ok := l.ring.pop()
			if !ok {
				break
			}
			l.dispatch(c)
		}
	}
	// Should the kernel have owed completions still: nobody may wait forever.
	for i := range l.slots {
		if a := l.slots[i].acceptor; a != nil {
			a.over()
		}
	}
}

func (l *Loop) close() {
	l.ring.close()
	if l.ops == 0 {
		// Else the kernel may still write there for a moment: leaked rather
		// than given to someone else.
		l.buffers.close()
		l.arena.close()
	}
	_ = unix.Close(l.wakefd)
}

// Now implements [engine.Loop].
func (l *Loop) Now() time.Duration { return l.now }

// Arm implements [engine.Loop].
func (l *Loop) Arm(t *engine.Timer, d time.Duration) { l.wheel.Arm(t, l.now, d) }

// Disarm implements [engine.Loop].
func (l *Loop) Disarm(t *engine.Timer) { l.wheel.Disarm(t) }

// Load implements [engine.Driver].
func (l *Loop) Load() int { return int(l.load.Load()) }

func (l *Loop) takeSpare() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, spareSize)
}

func (l *Loop) giveSpare(b []byte) {
	if b != nil && len(l.spare) < maxSpare && cap(b) <= 2*readSize {
		l.spare = append(l.spare, b[:0])
	}
}

// rawAddress is a socket's address as the kernel reads it.
type rawAddress struct {
	mem  unix.RawSockaddrInet6 // or a RawSockaddrInet4, which is shorter
	size int
}

func newRawAddress(a netip.AddrPort) *rawAddress {
	r := &rawAddress{size: unix.SizeofSockaddrInet6}
	port := (*[2]byte)(unsafe.Pointer(&r.mem.Port)) // in both at the same place
	port[0], port[1] = byte(a.Port()>>8), byte(a.Port())
	ip := a.Addr().Unmap()
	if !ip.Is4() {
		r.mem.Family, r.mem.Addr = unix.AF_INET6, ip.As16()
		return r
	}
	four := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.mem))
	four.Family, four.Addr = unix.AF_INET, ip.As4()
	r.size = unix.SizeofSockaddrInet4
	return r
}

// Dial implements [engine.Loop].
func (l *Loop) Dial(address netip.AddrPort, h engine.Handler) engine.Conn {
	c := l.newConn(-1, address)
	c.handler = h
	fd, err := socket.New(address)
	if err != nil {
		c.fail(err)
		return c
	}
	c.fd, c.connecting = fd, true
	a := newRawAddress(address)
	l.addresses = append(l.addresses, a)
	l.push(sqe{opcode: opConnect, fd: int32(fd), addr: uint64(uintptr(unsafe.Pointer(&a.mem))), off: uint64(a.size), userData: l.data(kindConnect, c.slot)})
	return c
}

// Adopt implements [engine.Driver].
func (l *Loop) Adopt(fd int, peer netip.AddrPort, handler func(engine.Conn) engine.Handler) {
	c := l.newConn(fd, peer)
	socket.NoDelay(fd)
	c.handler = handler(c)
	if !c.dead {
		c.receive(0) // a client's request is often there already
	}
}
