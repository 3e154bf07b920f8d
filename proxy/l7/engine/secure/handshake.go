package secure

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
)

var (
	errCancelled = errors.New("handshake was cancelled")
	errGaveWay   = errors.New("handshake gave way to others")
)

const (
	// maxUnread is how much a peer may send during the handshake that is not
	// used yet. The engine hands on 64 KiB at most, which may come on top.
	maxUnread = 16 << 10
	// lingerWithin is how long a peer may take to read why the handshake has
	// failed: were the connection closed while it sends, the kernel would
	// reset it, and the alert be lost.
	lingerWithin = time.Second
	maxLinger    = 256 << 10
)

// handshake is one connection's, and goes with its end. What is not said to
// be shared belongs to the loop.
type handshake struct {
	c      *Conn
	config *tls.Config
	accept *Acceptor // nil: it was dialled
	timer  engine.Timer
	since  time.Duration
	timed  bool // the clock runs, and the end will be counted

	silence, place links // in loop.silent; in the handshakes' lists
	turns          *Handshakes
	stage          stage // guarded by turns.mu
	wake           chan struct{}

	mu      sync.Mutex // guards what follows, which the goroutine shares
	in      []byte     // from the peer
	eof     bool
	waiting bool  // the goroutine waits for more of in
	cause   error // why it was closed; nil: it was not
	out     []byte
	paused  bool // the raw connection, since too much is unread
	posted  bool // pump will run
	done    bool
	err     error
}

func newHandshake(c *Conn, config *tls.Config, a *Acceptor) *handshake {
	h := &handshake{c: c, config: config, accept: a, turns: c.loop.handshakes}
	h.timer.Fire = func() { h.expire() }
	return h
}

// begin starts the clock.
func (h *handshake) begin() {
	h.turns.open.Add(1)
	h.timed = true
	h.since = h.c.loop.engine.Now()
	h.c.loop.engine.Arm(&h.timer, h.turns.limits.Timeout)
}

// data takes what has arrived.
func (h *handshake) data(b []byte) {
	h.mu.Lock()
	h.in = append(h.in, b...)
	if len(h.in) > maxUnread && !h.paused {
		h.paused = true
		h.c.raw.Pause()
	}
	if h.waiting {
		h.waiting = false
		h.turns.ready(h)
	}
	h.mu.Unlock()
	if h.silence.in != nil { // no whole ClientHello before this
		whole, wrong, why := sniff(h.in)
		switch {
		case wrong:
			h.c.refuse(why, nil)
			return
		case whole:
			h.silence.in.remove(h)
			h.join(false)
		}
	}
}

// join asks for a turn. Dialled ones go first: clients that were accepted
// already wait for them.
func (h *handshake) join(dialled bool) {
	h.wake = make(chan struct{}, 1)
	ok, idlest := h.turns.join(h, dialled)
	if idlest != nil {
		idlest.close(errGaveWay, true)
	}
	if !ok {
		h.c.refuse(Overloaded, nil)
	}
}

// end: the peer sends no more.
func (h *handshake) end() {
	if h.silence.in != nil {
		h.c.refuse(PeerGone, nil)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eof = true
	if h.waiting {
		h.waiting = false
		h.turns.ready(h)
	}
}

// close makes the goroutine end, from anywhere; only if it waits for its
// peer, if so asked.
func (h *handshake) close(cause error, ifWaiting bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause != nil || ifWaiting && !h.waiting {
		return
	}
	h.cause = cause
	if h.waiting {
		h.waiting = false
		h.turns.ready(h)
	}
}

// run is the goroutine.
func (h *handshake) run() {
	c := h.c
	if h.accept != nil {
		c.tls = tls.Server((*wire)(c), h.config)
	} else {
		c.tls = tls.Client((*wire)(c), h.config)
	}
	err := c.tls.Handshake()
	h.mu.Lock()
	h.done, h.err = true, err
	// In one step: a pump that was posted before, for the last write, would
	// else see the end, and the next one see it again.
	h.postLocked()
	h.mu.Unlock()
	h.turns.leave(h)
}

// read is tls.Conn's Read in the goroutine. While it waits, others have a
// turn.
func (h *handshake) read(p []byte) (int, error) {
	for {
		h.mu.Lock()
		switch {
		case h.cause != nil:
			err := h.cause
			h.mu.Unlock()
			return 0, err
		case len(h.in) > 0:
			n := h.c.frame.next(h.in, len(p))
			copy(p, h.in[:n])
			h.in = h.in[n:]
			h.mu.Unlock()
			return n, nil
		case h.eof:
			h.mu.Unlock()
			return 0, io.EOF
		}
		h.waiting = true
		h.turns.rest(h)
		paused := h.paused
		h.mu.Unlock()
		if paused {
			h.post() // to resume
		}
		<-h.wake
	}
}

// write is tls.Conn's Write in the goroutine.
func (h *handshake) write(p []byte) (int, error) {
	h.mu.Lock()
	if err := h.cause; err != nil {
		h.mu.Unlock()
		return 0, err
	}
	h.out = append(h.out, p...)
	h.mu.Unlock()
	if !h.post() {
		return 0, net.ErrClosed
	}
	return len(p), nil
}

// post has pump run on the loop, unless it will anyway.
func (h *handshake) post() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.postLocked()
}

// postLocked is post for who holds h.mu.
func (h *handshake) postLocked() bool {
	if !h.posted {
		h.posted = h.c.loop.engine.Post(h.pump)
	}
	return h.posted
}

// pump takes from the goroutine, on the loop.
func (h *handshake) pump() {
	h.mu.Lock()
	out, done := h.out, h.done
	h.out, h.posted = nil, false
	resume := h.paused && len(h.in) <= maxUnread && !done
	if resume {
		h.paused = false
	}
	h.mu.Unlock()
	c := h.c
	if !c.ended {
		c.raw.Send(out)
		if resume {
			c.raw.Resume()
		}
	}
	if done {
		// The goroutine has let go of everything.
		c.shake = nil
		if !c.ended {
			c.settle(h)
		}
	}
}

// expire: it took too long.
func (h *handshake) expire() {
	c := h.c
	if c.lingering {
		c.lingering = false
		c.raw.Close()
		return
	}
	if c.shake == h && !c.ended {
		c.refuse(TimedOut, nil)
	}
}

// count counts how it ended, and stops the clock.
func (h *handshake) count(f func(*Counts)) {
	h.timed = false
	h.turns.open.Add(-1)
	h.c.loop.engine.Disarm(&h.timer)
	if h.silence.in != nil {
		h.silence.in.remove(h)
	}
	f(&h.turns.counts)
	if h.accept != nil && h.accept.Counts != nil {
		f(h.accept.Counts)
	}
}

// settle goes on after the goroutine's end.
func (c *Conn) settle(h *handshake) {
	if h.err != nil {
		c.shake = h
		c.refuse(reasonFor(h.err), h.err)
		c.shake = nil
		return
	}
	state := c.tls.ConnectionState()
	h.count(func(n *Counts) {
		if state.DidResume {
			n.resumed.Add(1)
		} else {
			n.full.Add(1)
		}
	})
	c.held = h.in
	early := c.unsent
	c.unsent = nil
	c.loop.enter()
	if h.accept != nil {
		if handler := h.accept.Accepted(c, state); !c.ended {
			c.handler = handler
		}
	} else {
		c.write(early)
		if c.finished {
			c.farewell()
			c.raw.CloseWrite()
		}
		c.handler.Opened()
		if len(early) > 0 && !c.ended && c.raw.Pending() == 0 {
			c.handler.Drained()
		}
	}
	c.loop.leave()
	if c.ended {
		return
	}
	if c.paused {
		c.raw.Pause()
		return
	}
	c.deliverHeld()
}

// abandon ends a handshake without a word, on the loop. The raw connection
// is the caller's to end.
func (c *Conn) abandon(why Reason, err error) {
	h := c.shake
	if h.timed {
		h.count(func(n *Counts) { n.failed[why].Add(1) })
		if h.accept != nil && h.accept.Failed != nil {
			h.accept.Failed(&HandshakeError{Peer: c.raw.Peer(), Reason: why, Err: err})
		}
	}
	c.end()
	if h.turns.drop(h) {
		c.shake = nil
		return
	}
	h.close(errCancelled, false) // pump will see its end
}

// refuse ends a handshake, and the connection so that the peer can read why.
func (c *Conn) refuse(why Reason, err error) {
	h, handler := c.shake, c.handler
	c.abandon(why, err)
	if handler != nil {
		c.raw.Close()
		c.loop.enter()
		handler.Closed(&HandshakeError{Peer: c.raw.Peer(), Reason: why, Err: err})
		c.loop.leave()
		return
	}
	if c.rawEOF || why == TimedOut || why == PeerGone || why == Overloaded || why == GaveWay {
		c.raw.Close()
		return
	}
	c.lingering, c.control = true, 0
	c.raw.CloseWrite()
	c.raw.Resume()
	c.loop.engine.Arm(&h.timer, lingerWithin)
}
