package http2

// ClientConn is a connection towards a server.
type ClientConn struct{ conn }

// NewClientConn makes a connection that takes requests at once. It queues the
// preface and its SETTINGS. config must be valid.
func NewClientConn(shared *Shared, out Output, config *Config, h ClientHandler) *ClientConn {
	c := &ClientConn{}
	c.init(shared, out, config)
	c.h, c.ch = h, h
	c.nextID = 1
	c.start()
	return c
}

// Available is how many more requests the connection takes now: 0 at the
// limit of either side, and once the connection is going away or has ended.
func (c *ClientConn) Available() int {
	if c.dead != nil || c.doomed != nil || c.peerAway || c.goingAway != staying || c.nextID > maxStreamID-2*maxStreamsEver {
		return 0
	}
	return max(min(c.peerStreams, c.config.MaxStreams)-len(c.streams.open), 0)
}

// MaxStreams is how many requests may be open at a time, by both sides' limits:
// the server's is assumed until its SETTINGS have come (RFC 9113 section 5.1.2).
func (c *ClientConn) MaxStreams() int { return min(c.peerStreams, c.config.MaxStreams) }

// maxStreamsEver keeps the last ids unused, so that Available need not count
// them.
const maxStreamsEver = 10_000

// NewStream sends a request; end: it has no body. Of req's fields those of one
// hop are left out, see [Request]. It returns nil when Available is 0.
func (c *ClientConn) NewStream(req *Request, end bool) *Stream {
	if c.Available() == 0 {
		return nil
	}
	s := c.open(c.nextID)
	c.nextID += 2
	s.toHead = string(req.Method) == "HEAD"
	s.headSent = true
	start := len(c.buffer())
	b := beginBlock(c.buf)
	b = c.encoder.begin(b)
	b = c.encoder.requestLine(b, req)
	b = c.encoder.fields(b, req.Fields, false)
	if req.Trailers {
		b = c.encoder.field(b, []byte("te"), []byte("trailers"))
	}
	c.queue(endBlock(b, start, endFlag(end), s.id))
	if end {
		s.localEnded = true
	}
	return s
}
