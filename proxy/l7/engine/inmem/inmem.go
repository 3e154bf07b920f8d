// Package inmem is the engine for tests and fuzzing: connections are buffers,
// time is virtual, and the same calls always happen in the same order.
package inmem

import (
	"errors"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

// ErrRefused is what a dial fails with when nobody accepts it.
var ErrRefused = errors.New("connection refused")

// ErrReset is what a connection fails with when its peer resets it.
var ErrReset = errors.New("connection reset by peer")

// Loop is an engine.Loop without goroutines: work is done in Run and Advance.
type Loop struct {
	// Accept takes a dial, which p is the far end of, or refuses it with an
	// error. It is called when the dial is carried out. A Loop without it
	// refuses all.
	Accept func(address netip.AddrPort, p *Peer) error
	// Mute makes dials hang instead: neither opened nor refused.
	Mute bool

	now   time.Duration
	wheel *engine.Wheel
	queue []func()
}

// New returns a loop at time 0.
func New() *Loop { return &Loop{wheel: engine.NewWheel()} }

// Run does all work that is due now.
func (l *Loop) Run() {
	for len(l.queue) > 0 {
		f := l.queue[0]
		l.queue = l.queue[1:]
		f()
	}
}

// Advance lets time pass, in steps of a tick, and does the work that falls
// due.
func (l *Loop) Advance(d time.Duration) {
	l.Run()
	for end := l.now + d; l.now < end; {
		l.now = min(l.now+engine.Tick, end)
		l.wheel.Advance(l.now)
		l.Run()
	}
}

// Now implements [engine.Loop].
func (l *Loop) Now() time.Duration { return l.now }

// Arm implements [engine.Loop].
func (l *Loop) Arm(t *engine.Timer, d time.Duration) { l.wheel.Arm(t, l.now, d) }

// Disarm implements [engine.Loop].
func (l *Loop) Disarm(t *engine.Timer) { l.wheel.Disarm(t) }

// Post implements [engine.Loop].
func (l *Loop) Post(f func()) bool {
	l.queue = append(l.queue, f)
	return true
}

// Dial implements [engine.Loop].
func (l *Loop) Dial(address netip.AddrPort, h engine.Handler) engine.Conn {
	c := &conn{loop: l, handler: h, address: address, connecting: true}
	c.peer = &Peer{conn: c, room: unlimited}
	if l.Mute {
		return c
	}
	l.Post(func() {
		if c.handler == nil {
			return
		}
		err := ErrRefused
		if l.Accept != nil {
			err = l.Accept(address, c.peer)
		}
		if err != nil {
			c.fail(err)
			return
		}
		c.connecting = false
		c.handler.Opened()
		c.flush()
	})
	return c
}

// Connect makes a connection to the loop, as a client would, and returns the
// client's end.
func (l *Loop) Connect(from netip.AddrPort, handler func(engine.Conn) engine.Handler) *Peer {
	c := &conn{loop: l, address: from}
	c.peer = &Peer{conn: c, room: unlimited}
	if h := handler(c); !c.peer.EOF {
		c.handler = h
	}
	return c.peer
}

const unlimited = 1 << 40

// Peer is the far end of a connection, held by a test.
type Peer struct {
	conn *conn
	room int    // bytes that it takes before it reads
	got  []byte // sent by the loop, not read yet

	// EOF reports that the loop closed its side, or all; Reset that it did so
	// by a reset.
	EOF, Reset bool
	closed     bool
}

// Limit makes the peer take at most n bytes that it has not read.
func (p *Peer) Limit(n int) { p.room = n }

// Write sends b to the loop.
func (p *Peer) Write(b string) {
	c := p.conn
	c.in = append(c.in, b...)
	c.deliver()
}

// Read takes what the loop has sent.
func (p *Peer) Read() string {
	b := string(p.got)
	p.got = nil
	p.conn.loop.Post(p.conn.flush)
	return b
}

// CloseWrite ends the peer's side.
func (p *Peer) CloseWrite() {
	p.closed = true
	p.conn.deliver()
}

// Abort resets the connection.
func (p *Peer) Abort() {
	p.conn.loop.Post(func() { p.conn.fail(ErrReset) })
}

// Unread is the number of bytes sent by the peer and not taken by the loop:
// what a socket's buffers would hold.
func (p *Peer) Unread() int { return len(p.conn.in) }

// Unsent is the number of bytes that the loop holds for the peer.
func (p *Peer) Unsent() int { return len(p.conn.out) }

// conn is the loop's end.
type conn struct {
	loop    *Loop
	handler engine.Handler // nil after Close, Abort or Closed
	peer    *Peer
	address netip.AddrPort

	in, out    []byte
	connecting bool
	paused     bool
	finish     bool
	closing    bool
	eof        bool
}

func (c *conn) Peer() netip.AddrPort { return c.address }

// localAddress is the near end of every connection.
var localAddress = netip.MustParseAddrPort("192.0.2.200:443")

// Local implements [engine.Near].
func (c *conn) Local() netip.AddrPort { return localAddress }

func (c *conn) Pending() int { return len(c.out) }

func (c *conn) fail(err error) {
	if h := c.handler; h != nil {
		c.handler, c.out = nil, nil
		h.Closed(err)
	}
}

// maxRead is how much is handed on at once.
const maxRead = 64 << 10

func (c *conn) deliver() {
	c.loop.Post(func() {
		for c.handler != nil && !c.paused && len(c.in) > 0 {
			b := c.in[:min(len(c.in), maxRead)]
			c.in = c.in[len(b):]
			// A buffer that ends with the call: what is kept of it shows.
			view := append([]byte(nil), b...)
			c.handler.Data(view)
			for i := range view {
				view[i] = 0xee
			}
		}
		if c.handler != nil && !c.paused && len(c.in) == 0 && c.peer.closed && !c.eof {
			c.eof = true
			c.handler.EOF()
		}
	})
}

func (c *conn) Send(b []byte) {
	if c.handler == nil || c.finish {
		return
	}
	room := 0
	if !c.connecting && len(c.out) == 0 {
		room = min(max(c.peer.room-len(c.peer.got), 0), len(b))
	}
	c.peer.got = append(c.peer.got, b[:room]...)
	c.out = append(c.out, b[room:]...)
}

func (c *conn) flush() {
	if len(c.out) == 0 || c.connecting {
		return
	}
	n := min(max(c.peer.room-len(c.peer.got), 0), len(c.out))
	c.peer.got = append(c.peer.got, c.out[:n]...)
	c.out = append([]byte(nil), c.out[n:]...)
	if len(c.out) > 0 {
		return
	}
	if c.finish || c.closing {
		c.peer.EOF = true
	}
	if c.handler != nil {
		c.handler.Drained()
	}
}

func (c *conn) Pause() { c.paused = true }

func (c *conn) Resume() {
	if c.paused {
		c.paused = false
		c.deliver()
	}
}

func (c *conn) CloseWrite() {
	c.finish = true
	if len(c.out) == 0 {
		c.peer.EOF = true
	}
}

func (c *conn) Close() {
	if c.handler == nil {
		return
	}
	c.handler, c.closing = nil, true
	if len(c.out) == 0 {
		c.peer.EOF = true
	}
}

func (c *conn) Abort() {
	c.handler, c.out = nil, nil
	c.peer.EOF, c.peer.Reset = true, true
}
