package epoll

import (
	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

const (
	// pipeSize is asked for; what the kernel gives may be less (pipe(7)).
	pipeSize = 256 << 10
	// keptPipes bounds how many empty ones a loop keeps, two descriptors each.
	keptPipes = 16
	// maxFull bounds how many may hold something: a slow receiver keeps one
	// full, and what is in it is kernel memory. Beyond that, bytes are copied.
	maxFull = 64
)

// pipe is what bytes stand in between two sockets. A connection has one only
// while there is something in it.
type pipe struct {
	r, w int
	held int // bytes in it
}

func newPipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// takePipe returns an empty pipe, or nil.
func (l *Loop) takePipe() *pipe {
	if l.full >= maxFull {
		return nil
	}
	var p *pipe
	if n := len(l.pipes); n > 0 {
		p, l.pipes = l.pipes[n-1], l.pipes[:n-1]
	} else if p = newPipe(); p == nil {
		return nil
	}
	l.full++
	return p
}

// givePipe takes back a pipe of takePipe's.
func (l *Loop) givePipe(p *pipe) {
	l.full--
	if p.held > 0 || len(l.pipes) >= keptPipes {
		p.close()
		return
	}
	l.pipes = append(l.pipes, p)
}

// splice is raw and never blocks, as send is.
func splice(from, to, n int) (int, unix.Errno) {
	m, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return int(m), errno
}

// SpliceTo implements [engine.Splicer].
func (c *conn) SpliceTo(to engine.Conn) bool {
	d, ok := to.(*conn)
	if !ok || d.loop != c.loop || c.loop.noSplice || c.loop.full >= maxFull ||
		c.dead || c.eof || c.connecting || c.broken != nil || c.to != nil ||
		d.dead || d.closing || d.finish || d.connecting || d.broken != nil || d.from != nil || d.Pending() > 0 {
		return false
	}
	if _, ok := c.handler.(engine.SpliceHandler); !ok {
		return false
	}
	c.to, d.from = d, c
	return true
}

// unsplice ends it; what is in the pipe is lost.
func (c *conn) unsplice() {
	if c.to == nil {
		return
	}
	c.to.from, c.to = nil, nil
	if c.pipe != nil {
		c.loop.givePipe(c.pipe)
		c.pipe = nil
	}
}

// pump moves what has arrived, as far as the other side takes it.
func (c *conn) pump() {
	d, moved := c.to, 0
	for rounds := 0; ; rounds++ {
		if c.pipe != nil {
			n, errno := c.loop.splice(c.pipe.r, d.fd, c.pipe.held)
			if errno == unix.EINTR {
				continue
			}
			if errno == unix.EAGAIN {
				break // the next edge of d's goes on
			}
			if errno != 0 {
				c.unsplice()
				d.sendFailed(errno)
				return
			}
			c.pipe.held -= n
			moved += n
			if c.pipe.held > 0 {
				continue
			}
			c.loop.givePipe(c.pipe)
			c.pipe = nil
		}
		if !c.readable || c.paused {
			break
		}
		if rounds >= maxReads {
			c.loop.later(c)
			break
		}
		if !c.fill() {
			break
		}
	}
	c.spliced(moved)
}

// fill takes what has arrived into a pipe. The pipe is a new one, so that
// EAGAIN has one meaning: the socket is empty. (A short count says nothing,
// since the pipe may have no slot for another fragment.) It reports false when
// there is nothing to go on with.
func (c *conn) fill() bool {
	p := c.loop.takePipe()
	if p == nil {
		c.unsplice()
		c.loop.later(c)
		return false
	}
	for {
		n, errno := c.loop.splice(c.fd, p.w, pipeSize)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == 0 && n > 0:
			p.held, c.pipe = n, p
			return true
		}
		c.loop.givePipe(p)
		switch {
		case errno == unix.EAGAIN && c.broken == nil:
			c.readable = false
		case c.broken != nil:
			c.fail(c.broken)
		case errno == unix.EINVAL, errno == unix.ENOSYS, errno == unix.EPERM, errno == unix.EACCES:
			c.loop.noSplice = true
			c.unsplice()
			c.loop.later(c)
		case errno != 0:
			c.fail(errno)
		default: // the end: read finds it once more, and says so
			c.unsplice()
			c.loop.later(c)
		}
		return false
	}
}

// spliced tells the handler, which may have enough of it.
func (c *conn) spliced(n int) {
	if n == 0 || c.handler == nil {
		return
	}
	if h := c.handler.(engine.SpliceHandler); !h.Spliced(n) && c.to != nil && c.pipe == nil {
		c.unsplice()
		if c.readable {
			c.loop.later(c)
		}
	}
}
