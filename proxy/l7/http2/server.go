package http2

import (
	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// ServerConn is a connection towards a client.
type ServerConn struct{ conn }

// NewServerConn makes a connection that is fed from the client's preface on.
// It queues its SETTINGS, which the first Feed or Flush sends. config must be
// valid.
func NewServerConn(shared *Shared, out Output, config *Config, h ServerHandler) *ServerConn {
	c := &ServerConn{}
	c.init(shared, out, config)
	c.server, c.h, c.sh = true, h, h
	c.preface = Preface
	c.start()
	return c
}

// WriteHeaders sends the final head of a response; end: it has no body. Field
// names are put into lower case, and fields of one hop left out, see
// [Request]. Call it once.
func (s *Stream) WriteHeaders(status int, fields []http1.Field, end bool) {
	if s.closed || s.headSent {
		return
	}
	s.headSent = true
	s.writeHead(status, fields, end)
}

// WriteInformational sends an interim response, 100 or 103, before the final
// one (RFC 9110 section 15.2).
func (s *Stream) WriteInformational(status int, fields []http1.Field) {
	if !s.closed && !s.headSent {
		s.writeHead(status, fields, false)
	}
}

func (s *Stream) writeHead(status int, fields []http1.Field, end bool) {
	c := s.c
	start := len(c.buffer())
	b := beginBlock(c.buf)
	b = c.encoder.begin(b)
	b = c.encoder.status(b, status)
	// RFC 9110 section 8.6: no Content-Length on these.
	b = c.encoder.fields(b, fields, status < 200 || status == 204)
	c.queue(endBlock(b, start, endFlag(end), s.id))
	if end {
		s.endLocal()
	}
}

func endFlag(end bool) frameFlags {
	if end {
		return flagEndStream
	}
	return 0
}

// WriteTrailers ends a request or response with trailers, after all of its
// body was taken by WriteData.
func (s *Stream) WriteTrailers(fields []http1.Field) {
	if s.closed || s.localEnded {
		return
	}
	c := s.c
	start := len(c.buffer())
	b := beginBlock(c.buf)
	b = c.encoder.begin(b)
	b = c.encoder.fields(b, fields, true)
	c.queue(endBlock(b, start, flagEndStream, s.id))
	s.endLocal()
}
