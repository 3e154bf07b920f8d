// Package http2 is HTTP/2 (RFC 9113) for both sides of a proxy, as a state
// machine: it is fed the bytes of a connection, tells what they mean by calls
// to a handler, and hands out bytes to send. It knows no sockets, goroutines
// or clocks: time is an argument, and timeouts are the caller's.
//
// All connections of one loop share a [Shared]. Everything happens on the
// loop's goroutine, and nothing here is safe for use from elsewhere.
//
// Memory is bounded at the source. Received data is handed over as it comes,
// and the peer may send more only after [Stream.Consume]. Data to send is
// taken only as far as windows and the system take it; the rest stays with the
// caller until Writable. What a peer can make the package queue without
// reading it (acknowledgements, resets) is bounded too, and so is every kind
// of work that it can cause without getting anywhere: see flood.go.
//
// It is as strict as package http1 where implementations disagree. Not
// offered: server push, priorities, CONNECT (RFC 8441 included).
package http2

import (
	"errors"
	"fmt"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// Preface is what a client's connection begins with (RFC 9113 section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Output takes the bytes of one connection. engine.Conn is one.
type Output interface {
	// Send sends b after what was sent before, and keeps no reference to b.
	// It calls nobody back.
	Send(b []byte)
	// Pending is the number of bytes that the system has not taken yet. When
	// it has fallen to 0, the caller calls Drained of the connection.
	Pending() int
}

// Config bounds what a peer may do.
type Config struct {
	// Limits bound a head or a trailer section. A line is a field's name and
	// value; a head is all lines, with 4 bytes for the punctuation that each
	// would have in HTTP/1.1. Cookie fields count as the one they are joined to.
	Limits http1.Limits
	// MaxStreams is how many requests may be open at a time, from 1. A server
	// enforces it; a client stays below it and the server's own limit.
	MaxStreams int
	// StreamWindow and ConnWindow are the bytes of data that a peer may send
	// ahead of Consume, on one stream and on all together; from 65,535, the
	// protocol's own, to 2^30.
	StreamWindow, ConnWindow int
}

// ServerConfig is the default towards clients.
func ServerConfig() Config {
	return Config{Limits: http1.RequestLimits(), MaxStreams: 128, StreamWindow: 256 << 10, ConnWindow: 1 << 20}
}

// ClientConfig is the default towards servers, which answer many clients on
// one connection. The connection's window is that of all streams together:
// were it less, clients that don't read would stop the others' responses.
func ClientConfig() Config {
	const streams, window = 128, 256 << 10
	return Config{Limits: http1.ResponseLimits(), MaxStreams: streams, StreamWindow: window, ConnWindow: streams * window}
}

// Validate reports every value that is out of range.
func (c *Config) Validate() error {
	var errs []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("%s: %d is not within %d to %d", name, value, low, high))
		}
	}
	check("limits.fields", c.Limits.Fields, 1, 10_000)
	check("limits.line", c.Limits.Line, 64, 1<<20)
	check("limits.head", c.Limits.Head, 256, 1<<20)
	check("max_streams", c.MaxStreams, 1, 10_000)
	check("stream_window", c.StreamWindow, defaultWindow, 1<<30)
	check("conn_window", c.ConnWindow, defaultWindow, 1<<30)
	return errors.Join(errs...)
}

// Handler takes what both kinds of connection tell. Slices are views that are
// valid during the call; they must not be written to.
//
// A handler may call any method of any stream and connection, except Feed,
// Drained and Closed of the connection that calls it.
type Handler interface {
	// Data: a piece of the body, and whether it was the last. Only the last
	// one may be empty. Whoever has passed it on calls s.Consume.
	Data(s *Stream, b []byte, end bool)
	// Trailers: the trailer section, which is the end. Fields that must not
	// come late (framing, routing, authentication) were left out.
	Trailers(s *Stream, fields []http1.Field)
	// Reset: the stream has ended before its time. It is the last call for s.
	// After a complete response with a request that is not, NoError says that
	// the server needs no more of it (RFC 9113 section 8.1): the response
	// stands.
	// Streams that end in order, with an end from both sides, or by a Reset
	// of the caller's, are not told of.
	Reset(s *Stream, why Reset)
	// Writable: WriteData took less than all, and may now take more. The call
	// may be in vain.
	Writable(s *Stream)
}

// ServerHandler takes what a client does.
type ServerHandler interface {
	Handler
	// Request: a request begins; end: it has no body. The handler answers on
	// s, now or later.
	Request(s *Stream, req *Request, end bool)
	// Refused: a request was answered or reset by the connection itself; it
	// is told of here only.
	Refused(err *Error)
}

// ClientHandler takes what a server does.
type ClientHandler interface {
	Handler
	// Response: a response begins, or an interim one (status below 200),
	// which another follows; end: it has no body.
	Response(s *Stream, res *Response, end bool)
	// GoAway: the server takes no more requests. Streams that it did not
	// process were told by Reset before; the others go on.
	GoAway(code Code)
}

// Reset says why a stream ended before its time.
type Reset struct {
	Code Code
	// Err is what the peer did wrong; nil if the reset came from the peer, or
	// with the end of the connection.
	Err *Error
	// Unprocessed: the server has done nothing with the request, so it may be
	// sent elsewhere, whatever its method (RFC 9113 section 8.7).
	Unprocessed bool
}

// Request is a request's head. Its slices are views.
type Request struct {
	// Method is any but CONNECT and TRACE.
	Method []byte
	// Scheme is http or https.
	Scheme []byte
	// Authority is :authority, or else Host: what to route by. Never empty when
	// received; when sent and empty, it is left out (RFC 9113 section 8.3.1).
	Authority []byte
	// Path begins with a slash, or is * with OPTIONS; the query is part of it.
	Path []byte
	// Fields are the other fields in their order, cookies joined (RFC 9113
	// section 8.2.3). The slice is the caller's during the call: kinds may be
	// changed, and fields appended.
	//
	// When sent, those that Kind says are of one hop or of another version are
	// left out: Host, TransferEncoding, Connection, HopByHop, Upgrade, Dropped.
	// All others go as they are; Underscore and the Forwarded kinds are for
	// the caller to judge.
	Fields []http1.Field
	// ContentLength is the value of the field of that name; -1 without one.
	// When sent, the field counts, not this.
	ContentLength int64
	// Trailers: TE says that trailers are welcome. When sent, it is said.
	Trailers bool
	// Continue: the client waits for 100 before the body.
	Continue bool
}

// Response is a response's head. Its slices are views.
type Response struct {
	Status int // 100 to 599, without 101
	Fields []http1.Field
	// ContentLength is the value of the field of that name; -1 without one.
	ContentLength int64
}

// Shared is what the connections of one loop have in common: memory that is
// needed during a call only, so that an idle connection holds little.
type Shared struct {
	buffers [][]byte
	blocks  []*block
	dirty   []*conn // have bytes to send
}

// NewShared makes the Shared of one loop.
func NewShared() *Shared { return &Shared{} }

// Flush sends what was queued on any connection. Feed, Drained and Closed do
// it themselves; a caller that used a stream or connection outside of them
// (on a timer, or on bytes of another protocol) calls it before it returns to
// the loop.
func (s *Shared) Flush() {
	for i, c := range s.dirty {
		s.dirty[i] = nil
		c.listed = false
		c.flush()
	}
	s.dirty = s.dirty[:0]
}

// buffer returns an empty buffer of at least bufferSize bytes.
func (s *Shared) buffer() []byte {
	if n := len(s.buffers); n > 0 {
		b := s.buffers[n-1]
		s.buffers = s.buffers[:n-1]
		return b
	}
	return make([]byte, 0, bufferSize)
}

func (s *Shared) release(b []byte) {
	if len(s.buffers) < maxSpare && cap(b) <= 2*maxBatch {
		s.buffers = append(s.buffers, b[:0])
	}
}

const (
	bufferSize = 32 << 10
	maxSpare   = 16
)
