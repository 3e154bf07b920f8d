package http2

// maxBatch is how much is queued before it is handed to the system; in the
// end, all is.
const maxBatch = 64 << 10

// buffer returns the buffer to append to; what was appended is handed to
// queue. Nothing else may happen in between.
func (c *conn) buffer() []byte {
	if c.buf == nil {
		c.buf = c.shared.buffer()
	}
	return c.buf
}

func (c *conn) queue(b []byte) {
	c.buf = b
	if !c.listed {
		c.listed = true
		c.shared.dirty = append(c.shared.dirty, c)
	}
}

// flush hands what is queued to the system.
func (c *conn) flush() {
	if c.buf == nil {
		return
	}
	if len(c.buf) > 0 {
		c.out.Send(c.buf)
	}
	c.shared.release(c.buf)
	c.buf = nil
	if c.out.Pending() == 0 {
		c.control = 0
	}
}

// endBlock completes the HEADERS frame whose header stands at start, and
// splits its block if it is too long for one frame (RFC 9113 section 4.3).
func endBlock(b []byte, start int, flags frameFlags, stream uint32) []byte {
	length := len(b) - start - headerLength
	if length <= maxFrame {
		putFrame(b[start:], length, frameHeaders, flags|flagEndHeaders, stream)
		return b
	}
	// Seldom: move the tail out, and write it behind in pieces.
	rest := append([]byte(nil), b[start+headerLength+maxFrame:]...)
	b = b[:start+headerLength+maxFrame]
	putFrame(b[start:], maxFrame, frameHeaders, flags, stream)
	for len(rest) > 0 {
		n := min(len(rest), maxFrame)
		more := frameFlags(0)
		if n == len(rest) {
			more = flagEndHeaders
		}
		b = appendFrame(b, n, frameContinuation, more, stream)
		b = append(b, rest[:n]...)
		rest = rest[n:]
	}
	return b
}

// beginBlock appends the place of a HEADERS frame's header.
func beginBlock(b []byte) []byte { return append(b, make([]byte, headerLength)...) }
