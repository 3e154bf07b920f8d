// Package epoll is the engine on epoll(7): edge-triggered, each socket
// registered once, raw system calls, one thread for each loop.
package epoll

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

const (
	// readSize is how much is read at once, into one buffer for each loop.
	readSize  = 64 << 10
	maxEvents = 256
)

// Loop is one event loop. Make it with [New]; Run runs it.
type Loop struct {
	epfd, wakefd int
	now          time.Duration
	wheel        *engine.Wheel
	in           []byte
	spares       engine.Spares

	slots  []slot
	free   []int
	inbox  engine.Inbox
	again  engine.Again[*conn] // have more to read
	failed engine.Failures

	splice   func(from, to, n int) (int, unix.Errno)
	noSplice bool    // the system refused it
	pipes    []*pipe // empty ones, to be used again
	full     int     // pipes that hold something

	pace engine.Pace
	load atomic.Int64 // connections of the loop
}

// slot is what epoll's user data points at. The generation tells events of
// the present connection from late ones of a predecessor.
type slot struct {
	conn       *conn
	acceptor   *acceptor
	generation uint32
}

// New returns a loop that holds two descriptors and does nothing until Run,
// which must be called, and closes them in the end.
func New() (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &Loop{epfd: epfd, wakefd: wakefd, now: clock.Now(), wheel: engine.NewWheel(), in: make([]byte, readSize), splice: splice}
	l.inbox.Wake = func() { _, _ = unix.Write(wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
	l.slots = append(l.slots, slot{}) // slot 0 is wakefd
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wakefd, &ev); err != nil {
		_ = unix.Close(epfd)
		_ = unix.Close(wakefd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return l, nil
}

// Run implements [engine.Driver].
func (l *Loop) Run(done func() bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.end()
	events := make([]unix.EpollEvent, maxEvents)
	for {
		n, err := l.wait(events)
		if err != nil {
			return err
		}
		l.now = clock.Now()
		for i := range events[:n] {
			l.dispatch(&events[i])
		}
		l.wheel.Advance(l.now)
		l.inbox.Run()
		l.again.Run()
		l.failed.Tell()
		if done() {
			return nil
		}
	}
}

// wait waits for events, timers and posts.
func (l *Loop) wait(events []unix.EpollEvent) (int, error) {
	// First without blocking, and without telling the scheduler: under load
	// there is nearly always something.
	n, err := l.poll(events)
	if n > 0 || err != nil {
		return n, err
	}
	if l.pace.Batch(clock.Now()) > 0 {
		// Many are at it: a nap gathers their events, and to be woken for each
		// would cost more. The nap is raw as well.
		nap := unix.NsecToTimespec(int64(engine.BatchWait))
		_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&nap)), 0, 0)
		if n, err := l.poll(events); n > 0 || err != nil {
			return n, err
		}
	}
	timeout := -1
	if d, ok := l.wheel.Next(clock.Now()); ok {
		timeout = int((d + time.Millisecond - 1) / time.Millisecond)
	}
	if l.inbox.Sleep() || !l.again.Empty() || !l.failed.Empty() {
		timeout = 0
	}
	m, err := unix.EpollWait(l.epfd, events, timeout)
	l.inbox.Awake()
	switch err {
	case nil:
		return m, nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, os.NewSyscallError("epoll_wait", err)
}

// poll takes the events that are there.
func (l *Loop) poll(events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, os.NewSyscallError("epoll_wait", errno)
	}
	if errno != 0 {
		return 0, nil
	}
	return int(n), nil
}

func (l *Loop) dispatch(ev *unix.EpollEvent) {
	if ev.Fd == 0 {
		var b [8]byte
		_, _ = unix.Read(l.wakefd, b[:])
		return
	}
	s := &l.slots[ev.Fd]
	if s.generation != uint32(ev.Pad) {
		return // closed earlier in this round
	}
	switch {
	case s.conn != nil:
		s.conn.event(ev.Events)
	case s.acceptor != nil:
		s.acceptor.ready()
	}
}

// add registers a descriptor under a slot of its own.
func (l *Loop) add(fd int, events uint32, c *conn, a *acceptor) (int, error) {
	var i int
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		i = len(l.slots)
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[i]
	s.conn, s.acceptor = c, a
	ev := unix.EpollEvent{Events: events, Fd: int32(i), Pad: int32(s.generation)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		l.remove(i)
		return 0, os.NewSyscallError("epoll_ctl", err)
	}
	return i, nil
}

func (l *Loop) remove(i int) {
	s := &l.slots[i]
	s.conn, s.acceptor = nil, nil
	s.generation++
	l.free = append(l.free, i)
}

func (l *Loop) release(c *conn) {
	if c.slot > 0 {
		l.remove(c.slot)
		c.slot = 0
	}
	l.load.Add(-1)
}

// later gives c another turn at reading in this round or the next.
func (l *Loop) later(c *conn) {
	if !c.queued {
		c.queued = true
		l.again.Add(c)
	}
}

// Again is c's turn.
func (c *conn) Again() {
	c.queued = false
	if !c.dead {
		c.read()
	}
}

// Post implements [engine.Loop].
func (l *Loop) Post(f func()) bool { return l.inbox.Post(f) }

func (l *Loop) end() {
	l.inbox.End()
	for i := range l.slots {
		if c := l.slots[i].conn; c != nil {
			c.Abort()
		}
	}
	for _, p := range l.pipes {
		p.close()
	}
	l.pipes = nil
	_ = unix.Close(l.epfd)
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

const connEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// Dial implements [engine.Loop].
func (l *Loop) Dial(address netip.AddrPort, h engine.Handler) engine.Conn {
	c := &conn{loop: l, handler: h, peer: address, connecting: true}
	l.load.Add(1)
	fd, err := socket.New(address)
	if err != nil {
		c.dead = true
		c.handler = nil
		l.load.Add(-1)
		l.failed.Add(h, err)
		return c
	}
	c.fd = fd
	err = unix.Connect(fd, socket.Sockaddr(address))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.fail(os.NewSyscallError("connect", err))
		return c
	}
	// Registered after connect: before it, a socket reports a hang-up.
	if c.slot, err = l.add(fd, connEvents, c, nil); err != nil {
		c.fail(err)
	}
	return c
}

// Adopt implements [engine.Driver].
func (l *Loop) Adopt(fd int, peer netip.AddrPort, handler func(engine.Conn) engine.Handler) {
	c := &conn{loop: l, fd: fd, peer: peer}
	l.load.Add(1)
	socket.NoDelay(fd)
	c.handler = handler(c)
	if c.dead {
		c.handler = nil // refused at once; its descriptor may be another's by now
		return
	}
	slot, err := l.add(fd, connEvents, c, nil)
	if err != nil {
		c.fail(err)
		return
	}
	c.slot = slot
}
