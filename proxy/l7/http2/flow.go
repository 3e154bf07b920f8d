package http2

import "encoding/binary"

// receiveData accounts for a DATA frame of n bytes, size of which are data
// (RFC 9113 sections 6.9, 8.1.1).
func (s *Stream) receiveData(n, size int, end bool) *Error {
	switch {
	case s.remoteEnded:
		return ErrHalfClosed
	case !s.gotHead:
		return ErrNoHead
	case n > s.recvWindow:
		return ErrStreamWindow
	}
	if s.left >= 0 {
		if s.left -= int64(size); s.left < 0 || end && s.left > 0 {
			return ErrBodyLength
		}
	}
	s.recvWindow -= n
	s.unconsumed += n
	return nil
}

// consumed gives n received bytes back. The peer is told when it is half of
// the window, so that it always has the other half.
func (s *Stream) consumed(n int) {
	c := s.c
	s.unconsumed -= n
	s.credit += n
	if s.credit >= c.config.StreamWindow/2 && !s.remoteEnded {
		c.queue(appendWindowUpdate(c.buffer(), s.id, s.credit))
		s.recvWindow += s.credit
		s.credit = 0
		c.unread(headerLength + 4)
	}
	c.giveBack(n)
}

// giveBack does the same for the connection's window.
func (c *conn) giveBack(n int) {
	if c.credit += n; c.credit >= c.config.ConnWindow/2 && c.dead == nil {
		c.queue(appendWindowUpdate(c.buffer(), 0, c.credit))
		c.recvWindow += c.credit
		c.credit = 0
		c.unread(headerLength + 4)
	}
}

// windowFrame takes a WINDOW_UPDATE (RFC 9113 section 6.9).
func (c *conn) windowFrame(f *frame, p []byte) *Error {
	increment := int(binary.BigEndian.Uint32(p) & maxWindow)
	if increment < smallWindow {
		c.overhead()
	}
	if f.stream == 0 {
		switch {
		case increment == 0:
			return ErrNoIncrement
		case c.sendWindow+increment > maxWindow:
			return ErrConnWindow
		}
		c.sendWindow += increment
		return nil
	}
	if c.idle(f.stream) {
		return ErrIdle
	}
	s := c.streams.find(f.stream)
	switch {
	case s == nil:
		c.overhead() // it may have been on its way
	case increment == 0:
		c.resetStream(s, ErrStreamIncrement)
	case s.sendWindow+increment > maxWindow:
		c.resetStream(s, ErrStreamWindow)
	default:
		s.sendWindow += increment
		c.enqueue(s)
	}
	return nil
}

// enqueue lets s wait for its turn, if it has something to write and its own
// window allows.
func (c *conn) enqueue(s *Stream) {
	if s.wants && !s.queued && s.sendWindow > 0 {
		s.queued = true
		c.waiting = append(c.waiting, s)
	}
}

func (c *conn) unqueue(s *Stream) {
	s.queued = false
	for i, x := range c.waiting {
		if x == s {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return
		}
	}
}

// room reports whether the connection takes data: its window is open, and the
// system has taken what was sent before.
func (c *conn) room() bool {
	if len(c.buf) >= maxBatch {
		c.flush()
	}
	return c.sendWindow > 0 && c.out.Pending() == 0
}

// serve lets those write who wait for the connection, in turn. Nobody waits
// while there is room, so that newcomers overtake nobody.
func (c *conn) serve() {
	for len(c.waiting) > 0 && c.dead == nil && c.room() {
		s := c.waiting[0]
		c.unqueue(s)
		if s.sendWindow > 0 && s.wants {
			s.wants = false
			c.h.Writable(s)
		}
	}
}

// WriteData sends as much of b as the windows and the system take, and returns
// how much that was; end, which is done with the last byte, says that nothing
// follows. If it was not all, the caller keeps the rest, stops at its source,
// and goes on when the handler's Writable is called. A head must have been
// sent.
func (s *Stream) WriteData(b []byte, end bool) int {
	c := s.c
	if s.closed || s.localEnded {
		return len(b)
	}
	n := 0
	for n < len(b) {
		if s.sendWindow <= 0 || !c.room() {
			s.wants = true
			c.enqueue(s)
			return n
		}
		size := min(len(b)-n, s.sendWindow, c.sendWindow, maxFrame)
		last := n+size == len(b)
		if !last && size < smallWindow {
			c.overhead()
		} else {
			c.nowhere.earn(2)
		}
		s.sendWindow -= size
		c.sendWindow -= size
		flags := frameFlags(0)
		if last && end {
			flags = flagEndStream
		}
		buf := appendFrame(c.buffer(), size, frameData, flags, s.id)
		c.queue(append(buf, b[n:n+size]...))
		n += size
	}
	if end {
		if len(b) == 0 {
			c.queue(appendFrame(c.buffer(), 0, frameData, flagEndStream, s.id))
		}
		s.endLocal()
	}
	return n
}

// endLocal: END_STREAM was queued.
func (s *Stream) endLocal() {
	s.localEnded = true
	s.wants = false
	s.c.settle(s)
}
