package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// loop runs the probes: one thread, one epoll set, sockets registered once and
// edge-triggered. All of its fields belong to the goroutine in run.
type loop struct {
	config  Config
	clock   clock
	emit    func(record.Line)
	request []byte
	address unix.Sockaddr
	family  int

	epoll int
	wake  [2]int // a pipe: written when ctx ends
	open  map[int32]*probe
	// queue holds the probes by the time they were sent. All have the same
	// timeout, so the first one open is the next to run out of time.
	queue []*probe
	next  int   // sequence number of the next tick
	start int64 // time of tick 0
	spare [][]byte
}

// probe is one connection on its way.
type probe struct {
	record.Probe
	fd   int
	buf  []byte
	done bool
}

func newLoop(c Config, clk clock, emit func(record.Line)) (*loop, error) {
	l := &loop{config: c, clock: clk, emit: emit, open: make(map[int32]*probe)}
	host := c.Host
	if host == "" {
		host = c.Target.String()
	}
	l.request = []byte("GET " + c.Path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: pharos-drill\r\nConnection: close\r\n\r\n")
	l.address, l.family = sockaddr(c.Target)
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create an epoll set for the probes: %w", err)
	}
	if err := unix.Pipe2(l.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		_ = unix.Close(l.epoll)
		return nil, fmt.Errorf("create a pipe to stop the probes by: %w", err)
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake[0], &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wake[0])}); err != nil {
		l.close()
		return nil, fmt.Errorf("watch the pipe to stop the probes by: %w", err)
	}
	return l, nil
}

func sockaddr(a netip.AddrPort) (unix.Sockaddr, int) {
	if addr := a.Addr().Unmap(); addr.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: addr.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}, unix.AF_INET6
}

func (l *loop) close() {
	for _, p := range l.open {
		_ = unix.Close(p.fd)
	}
	_, _, _ = unix.Close(l.epoll), unix.Close(l.wake[0]), unix.Close(l.wake[1])
}

// run keeps the schedule until its end or ctx's, and then waits for the probes
// in flight. It says why it ended.
func (l *loop) run(ctx context.Context) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	defer RunAhead(0)()
	// The pipe's write end outlives this: stop waits for a call that runs.
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_, _ = unix.Write(l.wake[1], []byte{0})
	})
	defer func() {
		if !stop() {
			<-ended
		}
	}()

	l.start = l.clock.now()
	limit := int(l.config.Duration / l.config.Interval)
	why := "deadline"
	if limit < 1 {
		limit = 1
	}
	if l.config.Count > 0 && l.config.Count < limit {
		limit, why = l.config.Count, "count"
	}
	events := make([]unix.EpollEvent, 256)
	for {
		now := l.clock.now()
		for l.next < limit && l.due(l.next) <= now {
			l.send()
			now = l.clock.now()
		}
		l.expire(now)
		if l.next >= limit && len(l.open) == 0 {
			return why, nil
		}
		n, err := l.wait(events, limit)
		if err != nil {
			return "", err
		}
		for _, e := range events[:n] {
			if int(e.Fd) == l.wake[0] {
				limit, why = l.next, "stopped"
				var drain [8]byte
				_, _ = unix.Read(l.wake[0], drain[:])
				continue
			}
			if p := l.open[e.Fd]; p != nil {
				l.advance(p, e.Events)
			}
		}
	}
}

func (l *loop) due(tick int) int64 { return l.start + int64(tick)*int64(l.config.Interval) }

// wait blocks until a socket has news, a tick is due or a probe runs out of time.
func (l *loop) wait(events []unix.EpollEvent, limit int) (int, error) {
	until := int64(-1)
	if l.next < limit {
		until = l.due(l.next)
	}
	if len(l.queue) > 0 {
		if t := l.queue[0].Sent + int64(l.config.Timeout); until < 0 || t < until {
			until = t
		}
	}
	ts := unix.NsecToTimespec(max(0, until-l.clock.now()))
	// epoll_wait counts in milliseconds, too coarse for ticks of 2 ms.
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("wait for the probes' sockets: epoll_pwait2: %w", errno)
	}
	return int(n), nil
}

// send starts the probe of the next tick.
func (l *loop) send() {
	p := &probe{fd: -1, Probe: record.Probe{Sequence: l.next, Scheduled: l.due(l.next), Stage: record.Connecting}}
	l.next++
	if len(l.open) >= l.config.MaxInFlight {
		l.finish(p, record.NotSent, fmt.Sprintf("%d connections are in flight", len(l.open)))
		return
	}
	fd, err := unix.Socket(l.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.finish(p, record.NotSent, fmt.Sprintf("socket: %v", err))
		return
	}
	p.fd = fd
	// Closing resets: 500 connections a second would else leave 30,000 ports
	// in TIME_WAIT, here or at the node.
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1), Fd: int32(fd),
		})
	}
	if err != nil {
		l.finish(p, record.NotSent, fmt.Sprintf("set up the socket: %v", err))
		return
	}
	p.Sent = l.clock.now()
	if err := unix.Connect(fd, l.address); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		l.finish(p, connectOutcome(err), fmt.Sprintf("connect: %v", err))
		return
	}
	l.open[int32(fd)] = p
	l.queue = append(l.queue, p)
}

// advance takes a probe as far as its socket allows.
func (l *loop) advance(p *probe, events uint32) {
	if p.Stage == record.Connecting {
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		code, err := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
				// Only an established connection ends so (RFC 9293 3.10.7.3:
				// in SYN-SENT a reset is ECONNREFUSED); when it was
				// established, nobody saw.
				p.Stage = record.Established
			}
			l.finish(p, connectOutcome(err), fmt.Sprintf("connect: %v", err))
			return
		}
		p.Stage, p.Connected = record.Established, l.clock.now()
		if n, err := unix.Write(p.fd, l.request); err != nil || n != len(l.request) {
			l.finish(p, streamOutcome(err), fmt.Sprintf("write the request: %d of %d bytes: %v", n, len(l.request), err))
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		l.read(p)
	}
}

// read takes what has come, until the answer is whole or nothing is left.
func (l *loop) read(p *probe) {
	if p.buf == nil {
		p.buf = l.buffer()
	}
	for {
		if len(p.buf) == cap(p.buf) {
			grown := make([]byte, len(p.buf), 2*cap(p.buf))
			copy(grown, p.buf)
			p.buf = grown
		}
		n, err := unix.Read(p.fd, p.buf[len(p.buf):cap(p.buf)])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			l.finish(p, streamOutcome(err), fmt.Sprintf("read the answer: %v", err))
			return
		}
		p.buf = p.buf[:len(p.buf)+n]
		a, done, err := parseAnswer(p.buf, n == 0, l.config.NodeHeader)
		if err == nil && !done {
			continue
		}
		p.Peer, p.Node, p.Backend = a.peer, a.node, a.backend
		outcome, detail := judge(a, err, l.config)
		l.finish(p, outcome, detail)
		return
	}
}

// expire ends the probes whose time is up.
func (l *loop) expire(now int64) {
	for len(l.queue) > 0 {
		p := l.queue[0]
		if !p.done {
			if p.Sent+int64(l.config.Timeout) > now {
				return
			}
			l.finish(p, record.TimedOut, fmt.Sprintf("nothing whole within %v", l.config.Timeout))
		}
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
}

func (l *loop) finish(p *probe, o record.Outcome, detail string) {
	p.Ended = l.clock.now()
	p.done = true
	p.Outcome = o
	if o != record.OK {
		p.Detail = detail
	}
	if p.fd >= 0 {
		delete(l.open, int32(p.fd))
		_ = unix.Close(p.fd) // also takes it out of the epoll set
	}
	if p.buf != nil {
		l.spare = append(l.spare, p.buf[:0])
		p.buf = nil
	}
	l.emit(record.Line{Probe: &p.Probe})
}

func (l *loop) buffer() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, 2048)
}

// judge says what an answer, or the error in its place, is worth.
func judge(a answer, err error, c Config) (record.Outcome, string) {
	switch {
	case errors.Is(err, errTruncated):
		return record.Closed, err.Error()
	case err != nil:
		return record.WrongAnswer, err.Error()
	case a.status != c.ExpectStatus:
		return record.WrongAnswer, fmt.Sprintf("status %d, want %d", a.status, c.ExpectStatus)
	case c.RequirePeer && a.peer == "" && a.node == "":
		return record.WrongAnswer, "the answer does not say which node carried it"
	}
	return record.OK, ""
}

// connectOutcome is the outcome of a failed connect().
func connectOutcome(err error) record.Outcome {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return record.Refused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return record.Reset
	case errors.Is(err, unix.ETIMEDOUT):
		return record.TimedOut
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return record.NotSent
	default: // ENETUNREACH, EHOSTUNREACH, EACCES by a filter, ...
		return record.Unreachable
	}
}

// streamOutcome is the outcome of an error on an established connection.
func streamOutcome(err error) record.Outcome {
	switch {
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return record.Reset
	case errors.Is(err, unix.ETIMEDOUT):
		return record.TimedOut
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return record.Unreachable
	default:
		return record.Closed
	}
}
