package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2/hpack"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// block is a header block that is being decoded (RFC 9113 section 4.3), and
// the head that it makes.
type block struct {
	stream uint32
	end    bool // END_STREAM
	bytes  int  // compressed, so far
	frames int

	err    *Error // what makes it malformed, or too large
	size   int    // as Config.Limits counts it
	fields []http1.Field
	pseudo [pseudoKinds]string
	seen   [pseudoKinds]bool
	any    bool // a pseudo-header field was seen
	length int64
	host   string
	hosts  int
	te     bool
	expect bool
	magic  bool   // an expectation that is not known
	cookie int    // place in fields, -1: none
	crumbs []byte // the joined cookie, if there are several

	request  Request
	response Response
}

func (s *Shared) block() *block {
	if n := len(s.blocks); n > 0 {
		b := s.blocks[n-1]
		s.blocks = s.blocks[:n-1]
		return b
	}
	return &block{}
}

func (s *Shared) releaseBlock(b *block) {
	if len(s.blocks) < maxSpare && cap(b.crumbs) <= bufferSize {
		clear(b.fields) // they hold on to what the decoder made
		*b = block{fields: b.fields[:0], crumbs: b.crumbs[:0]}
		s.blocks = append(s.blocks, b)
	}
}

// headersFrame begins a header block (RFC 9113 section 6.2).
func (c *conn) headersFrame(f *frame, p []byte) *Error {
	if f.stream%2 == 0 {
		return ErrStreamID
	}
	if c.idle(f.stream) {
		if !c.server {
			return ErrIdle
		}
	} else if c.streams.find(f.stream) == nil && !c.ignored(f.stream) {
		return ErrClosed
	}
	pad := 0
	if f.has(flagPadded) {
		if len(p) == 0 {
			return ErrFrameLength
		}
		pad = int(p[0])
		p = p[1:]
	}
	b := c.shared.block()
	b.stream, b.end, b.length, b.cookie = f.stream, f.has(flagEndStream), -1, -1
	c.block = b
	if f.has(flagPriority) {
		if len(p) < 5 {
			return ErrFrameLength
		}
		if binary.BigEndian.Uint32(p)&maxStreamID == f.stream {
			b.err = ErrDependency
		}
		p = p[5:]
	}
	if pad > len(p) {
		return ErrPadding
	}
	return c.blockFragment(f, p[:len(p)-pad])
}

// blockFragment decodes a piece of the block, and takes it up if it was the
// last. All of it is decoded, whatever becomes of it: the table is the
// connection's.
func (c *conn) blockFragment(f *frame, p []byte) *Error {
	b := c.block
	b.bytes += len(p)
	b.frames++
	// An endless block costs memory and time before any limit on fields
	// applies (CVE-2024-27316). Within twice the limit the answer is a status.
	if b.bytes > 2*c.config.Limits.Head || b.frames > 8+2*c.config.Limits.Head/maxFrame {
		return ErrBlockTooLarge
	}
	c.decoder.SetEmitEnabled(b.err == nil)
	if _, err := c.decoder.Write(p); err != nil {
		return ErrCompression
	}
	if !f.has(flagEndHeaders) {
		return nil
	}
	if c.decoder.Close() != nil {
		return ErrCompression
	}
	c.block = nil
	err := c.takeBlock(b)
	c.shared.releaseBlock(b)
	return err
}

// field takes a field from the decoder.
func (c *conn) field(f hpack.HeaderField) {
	b := c.block
	if b.err == nil {
		b.add(f.Name, f.Value, &c.config.Limits)
	}
	if b.err != nil {
		// What follows need not be made into strings.
		c.decoder.SetEmitEnabled(false)
	}
}

// takeBlock takes up a complete block, by what it stands for.
func (c *conn) takeBlock(b *block) *Error {
	s := c.streams.find(b.stream)
	switch {
	case s == nil && c.server && b.stream > c.lastSeen:
		c.lastSeen = b.stream
		c.takeRequest(b)
	case s == nil:
		c.overhead() // a stream that we have reset
	case s.remoteEnded:
		c.resetStream(s, ErrHalfClosed)
	case !s.gotHead:
		c.takeResponse(s, b)
	default:
		c.takeTrailers(s, b)
	}
	return nil
}

// takeTrailers takes a trailer section (RFC 9113 section 8.1).
func (c *conn) takeTrailers(s *Stream, b *block) {
	err := b.err
	switch {
	case err != nil:
	case !b.end:
		err = ErrTrailers
	case b.any:
		err = ErrPseudo
	case s.left > 0:
		err = ErrBodyLength
	}
	if err != nil {
		c.resetStream(s, err)
		return
	}
	s.remoteEnded = true
	c.h.Trailers(s, lateFields(b.fields))
	c.settle(s)
}

// lateFields drops what must not come late, as package http1 does: fields that
// frame, route or authenticate, or change how the message is read (RFC 9110
// section 6.5.1).
func lateFields(fields []http1.Field) []http1.Field {
	kept := fields[:0]
	for _, f := range fields {
		if (f.Kind == http1.Other || f.Kind == http1.Underscore) && !forbiddenTrailer(f.Name) {
			kept = append(kept, f)
		}
	}
	return kept
}

func forbiddenTrailer(name []byte) bool {
	switch string(name) {
	case "authorization", "cache-control", "content-encoding", "content-range", "content-type",
		"max-forwards", "proxy-authenticate", "proxy-authorization", "range", "trailer", "www-authenticate":
		return true
	}
	return false
}
