package http2

import "sort"

// Stream is one request and its response. After it has ended (both sides have
// said so, or it was reset), its methods do nothing.
type Stream struct {
	// User is the caller's, to find its own state by.
	User any

	c           *conn
	id          uint32
	sendWindow  int   // below 0 if the peer has shrunk it (RFC 9113 section 6.9.2)
	recvWindow  int   // what the peer may still send
	unconsumed  int   // received, and not passed on
	credit      int   // passed on, not given back yet
	left        int64 // of the body that Content-Length promises; -1: unknown
	closed      bool
	localEnded  bool
	remoteEnded bool
	headSent    bool // the (final) head
	gotHead     bool // the (final) head
	toHead      bool // the method is HEAD
	wants       bool // WriteData took less than all
	queued      bool // in c.waiting
}

// ID is the stream's identifier, for logs.
func (s *Stream) ID() uint32 { return s.id }

// Ended reports whether the stream has ended.
func (s *Stream) Ended() bool { return s.closed }

// Reset ends the stream at once: Cancel for what is not wanted any more,
// InternalError for what cannot be completed, NoError after a complete
// response to a request that is not complete (RFC 9113 section 8.1). The
// handler is not told.
func (s *Stream) Reset(code Code) {
	if s.closed {
		return
	}
	c := s.c
	c.queueReset(s.id, code)
	c.remove(s)
}

// Consume gives n bytes of Data back to the peer's window: they were passed
// on. Never more than were received.
func (s *Stream) Consume(n int) {
	if !s.closed {
		s.consumed(min(n, s.unconsumed))
	}
}

// streams are the open streams in the order of their ids, which is that of
// their making: a sorted slice finds, adds and removes without a map.
type streams struct{ open []*Stream }

func (t *streams) place(id uint32) int {
	if n := len(t.open); n == 0 || t.open[n-1].id < id {
		return n
	}
	return sort.Search(len(t.open), func(i int) bool { return t.open[i].id >= id })
}

func (t *streams) find(id uint32) *Stream {
	if i := t.place(id); i < len(t.open) && t.open[i].id == id {
		return t.open[i]
	}
	return nil
}

func (t *streams) remove(s *Stream) {
	i := t.place(s.id)
	copy(t.open[i:], t.open[i+1:])
	t.open[len(t.open)-1] = nil
	t.open = t.open[:len(t.open)-1]
}

// open makes the stream of an id that is above all others.
func (c *conn) open(id uint32) *Stream {
	s := &Stream{c: c, id: id, sendWindow: c.initialWindow, recvWindow: c.config.StreamWindow, left: -1}
	c.streams.open = append(c.streams.open, s)
	return s
}

// remove forgets a stream that has ended. What it still held of the
// connection's window is given back.
func (c *conn) remove(s *Stream) {
	s.closed = true
	c.streams.remove(s)
	if s.queued {
		c.unqueue(s)
	}
	c.giveBack(s.unconsumed)
	s.unconsumed = 0
}

// settle removes a stream that both sides have ended.
func (c *conn) settle(s *Stream) {
	if s.localEnded && s.remoteEnded && !s.closed {
		c.remove(s)
		c.resets.earn(1)
	}
}

// resetStream ends a stream for what the peer did wrong on it (RFC 9113
// section 5.4.2).
func (c *conn) resetStream(s *Stream, err *Error) {
	c.queueReset(s.id, err.Code)
	c.remove(s)
	c.provoked()
	c.h.Reset(s, Reset{Code: err.Code, Err: err})
}

// queueReset queues an RST_STREAM, and remembers that frames of the stream
// may still come.
func (c *conn) queueReset(id uint32, code Code) {
	c.queue(appendReset(c.buffer(), id, code))
	c.ours.add(id)
	c.unread(headerLength + 4)
}

// resetRing remembers the last streams that we have reset.
type resetRing struct {
	ids       []uint32
	next      int
	forgotten uint32 // the highest id that was overwritten
}

const resetsKept = 256

func (r *resetRing) add(id uint32) {
	if len(r.ids) < resetsKept {
		r.ids = append(r.ids, id)
		return
	}
	r.forgotten = max(r.forgotten, r.ids[r.next])
	r.ids[r.next] = id
	r.next = (r.next + 1) % resetsKept
}

// has reports whether id was reset by us. Of ids as old as forgotten ones it
// may be mistaken, in the peer's favour.
func (r *resetRing) has(id uint32) bool {
	if id <= r.forgotten {
		return true
	}
	for _, x := range r.ids {
		if x == id {
			return true
		}
	}
	return false
}
