package http2

import "encoding/binary"

// payload is what is left of a DATA frame, which is not collected but handed
// on in the pieces that it comes in.
type payload struct {
	active bool
	s      *Stream // nil: dropped
	left   int     // bytes of data
	pad    int     // bytes of padding after it
	end    bool    // END_STREAM
}

// receive reads frames from b, and keeps the beginning of one that is not
// complete.
func (c *conn) receive(b []byte) *Error {
	if len(c.preface) > 0 {
		n := min(len(c.preface), len(b))
		if string(b[:n]) != c.preface[:n] {
			return ErrPreface
		}
		c.preface, b = c.preface[n:], b[n:]
	}
	for len(b) > 0 && c.doomed == nil && c.dead == nil {
		if c.data.active {
			b = c.takeData(b)
			continue
		}
		head, ok := c.collect(&b, headerLength)
		if !ok {
			return nil
		}
		f := parseFrame(head)
		if err := c.allowed(&f); err != nil {
			return err
		}
		if f.typ == frameData {
			need := headerLength
			if f.has(flagPadded) && f.length > 0 {
				need++
			}
			if head, ok = c.collect(&b, need); !ok {
				return nil
			}
			err := c.dataFrame(&f, head[headerLength:])
			if c.consume(&b, need); err != nil {
				return err
			}
			continue
		}
		need := headerLength + f.length
		all, ok := c.collect(&b, need)
		if !ok {
			return nil
		}
		err := c.dispatch(&f, all[headerLength:need])
		if c.consume(&b, need); err != nil {
			return err
		}
	}
	return nil
}

// collect returns the next n bytes, without using them up: a view of b, or of
// c.in if a part came before. If they are not there yet, it keeps all of b.
func (c *conn) collect(b *[]byte, n int) ([]byte, bool) {
	if len(c.in) == 0 && len(*b) >= n {
		return (*b)[:n], true
	}
	if missing := n - len(c.in); missing > 0 {
		take := min(missing, len(*b))
		c.in = append(c.in, (*b)[:take]...)
		*b = (*b)[take:]
	}
	return c.in, len(c.in) >= n
}

// consume uses up the n bytes that collect returned.
func (c *conn) consume(b *[]byte, n int) {
	if len(c.in) == 0 {
		*b = (*b)[n:]
		return
	}
	c.in = c.in[:0]
	if cap(c.in) > maxKept {
		c.in = nil
	}
}

// maxKept is how much memory a connection keeps for the next frame that comes
// in pieces.
const maxKept = 256

// allowed refuses frames that must not come, by their headers.
func (c *conn) allowed(f *frame) *Error {
	if err := f.check(); err != nil {
		return err
	}
	if !c.settled && (f.typ != frameSettings || f.has(flagAck)) {
		return ErrFirstFrame // RFC 9113 section 3.4
	}
	// A header block is one unit (section 4.3).
	if open := c.block != nil; open != (f.typ == frameContinuation) || open && f.stream != c.block.stream {
		return ErrContinuation
	}
	return nil
}

func (c *conn) dispatch(f *frame, p []byte) *Error {
	switch f.typ {
	case frameHeaders:
		return c.headersFrame(f, p)
	case frameContinuation:
		return c.blockFragment(f, p)
	case framePriority:
		// Deprecated, and not followed (section 5.3.2).
		c.overhead()
		if binary.BigEndian.Uint32(p)&maxStreamID == f.stream {
			return ErrDependency
		}
	case frameReset:
		return c.resetFrame(f, p)
	case frameSettings:
		return c.settingsFrame(f, p)
	case framePushPromise:
		return ErrPush
	case framePing:
		c.pingFrame(f, p)
	case frameGoAway:
		c.goAwayFrame(p)
	case frameWindowUpdate:
		return c.windowFrame(f, p)
	default:
		c.overhead()
	}
	return nil
}

// idle reports whether a stream was never opened (RFC 9113 section 5.1).
func (c *conn) idle(id uint32) bool {
	if c.server {
		return id%2 == 0 || id > c.lastSeen
	}
	return id%2 == 0 || id >= c.nextID
}

// ignored reports whether frames of a closed stream may still come: we have
// reset it, or did not take it, and the peer may not know yet.
func (c *conn) ignored(id uint32) bool {
	return c.ours.has(id) || c.server && c.goingAway == goneAway && id > c.lastDone
}

// dataFrame begins a DATA frame (RFC 9113 section 6.1); p is empty, or the
// length of its padding.
func (c *conn) dataFrame(f *frame, p []byte) *Error {
	if c.idle(f.stream) {
		return ErrIdle
	}
	pad := 0
	if f.has(flagPadded) {
		if len(p) == 0 {
			return ErrFrameLength
		}
		if pad = int(p[0]); pad >= f.length {
			return ErrPadding
		}
	}
	if f.length > c.recvWindow {
		return ErrConnWindow
	}
	c.recvWindow -= f.length
	d := payload{active: f.length > len(p), left: f.length - len(p) - pad, pad: pad, end: f.has(flagEndStream)}
	s := c.streams.find(f.stream)
	switch {
	case s == nil && !c.ignored(f.stream):
		return ErrClosed
	case s == nil:
		c.overhead()
	default:
		if err := s.receiveData(f.length, d.left, d.end); err != nil {
			c.resetStream(s, err)
			s = nil
		}
	}
	if s == nil {
		// The connection's window is given back all the same, or it would
		// starve.
		c.giveBack(f.length)
		c.data = d
		return nil
	}
	d.s = s
	if d.left == 0 && !d.end {
		c.overhead()
	} else {
		c.nowhere.earn(1)
	}
	s.consumed(f.length - d.left) // padding is nobody's
	c.data = d
	if d.left == 0 && d.end {
		c.deliver(nil, true)
	}
	return nil
}

// takeData hands on what b holds of the present DATA frame, and returns the
// rest.
func (c *conn) takeData(b []byte) []byte {
	d := &c.data
	if n := min(d.left, len(b)); n > 0 {
		d.left -= n
		c.deliver(b[:n], d.end && d.left == 0)
		b = b[n:]
	}
	if d.left == 0 {
		n := min(d.pad, len(b))
		d.pad -= n
		b = b[n:]
		d.active = d.pad > 0
	}
	return b
}

func (c *conn) deliver(b []byte, end bool) {
	s := c.data.s
	if s == nil || s.closed {
		return
	}
	s.remoteEnded = end
	c.h.Data(s, b, end)
	c.settle(s)
}

// resetFrame takes an RST_STREAM (RFC 9113 section 6.4).
func (c *conn) resetFrame(f *frame, p []byte) *Error {
	if c.idle(f.stream) {
		return ErrIdle
	}
	s := c.streams.find(f.stream)
	if s == nil {
		c.overhead()
		return nil
	}
	code := Code(binary.BigEndian.Uint32(p))
	c.peerReset(s)
	c.remove(s)
	c.h.Reset(s, Reset{Code: code, Unprocessed: !c.server && code == RefusedStream && !s.gotHead})
	return nil
}
