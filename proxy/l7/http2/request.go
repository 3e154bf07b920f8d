package http2

import (
	"strings"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// takeRequest opens a stream for a request, or refuses it.
func (c *conn) takeRequest(b *block) {
	if c.goingAway == goneAway {
		return // RFC 9113 section 6.8: above the last stream
	}
	switch {
	case b.err != nil:
	case len(c.streams.open) >= c.config.MaxStreams:
		b.err = ErrTooMany // section 5.1.2
	case c.out.Pending() > maxBacklog:
		b.err = ErrBacklog
	default:
		b.makeRequest(&c.config.Limits)
	}
	if b.err != nil {
		c.refuse(b, b.err)
		return
	}
	c.lastDone = b.stream
	c.nowhere.earn(4)
	s := c.open(b.stream)
	s.gotHead = true
	s.remoteEnded = b.end
	s.left = b.length
	s.toHead = string(b.request.Method) == "HEAD"
	c.sh.Request(s, &b.request, b.end)
}

// refuse answers a request with a status, or resets its stream.
func (c *conn) refuse(b *block, err *Error) {
	if err.Status != 0 {
		start := len(c.buffer())
		buf := beginBlock(c.buf)
		buf = c.encoder.begin(buf)
		buf = c.encoder.status(buf, err.Status)
		buf = c.encoder.field(buf, []byte("content-length"), []byte("0"))
		c.queue(endBlock(buf, start, flagEndStream, b.stream))
		c.unread(len(c.buf) - start)
		if !b.end {
			c.queueReset(b.stream, NoError) // section 8.1
		}
	} else {
		c.queueReset(b.stream, err.Code)
	}
	c.provoked()
	c.sh.Refused(err)
}

// makeRequest makes b.request of a complete block (RFC 9113 section 8.3.1).
func (b *block) makeRequest(limits *http1.Limits) {
	if b.seen[pseudoStatus] {
		b.err = ErrPseudo
		return
	}
	if b.cookie >= 0 && len("cookie")+len(b.fields[b.cookie].Value) > limits.Line {
		b.err = ErrTooLarge
		return
	}
	method := b.pseudo[pseudoMethod]
	switch {
	case !b.seen[pseudoMethod]:
		b.err = ErrPseudo
	case method == "" || !all(method, inToken):
		b.err = ErrMethod
	case method == "CONNECT" || method == "TRACE":
		b.err = ErrNotOffered
	case !b.seen[pseudoScheme] || !b.seen[pseudoPath]:
		b.err = ErrPseudo
	case b.pseudo[pseudoScheme] != "http" && b.pseudo[pseudoScheme] != "https":
		b.err = ErrScheme
	case !validPath(b.pseudo[pseudoPath], method):
		b.err = ErrPath
	case b.end && b.length > 0:
		b.err = ErrBodyLength
	case b.magic:
		b.err = ErrExpect
	}
	if b.err != nil {
		return
	}
	authority, ok := b.authority()
	if !ok {
		b.err = ErrAuthority
		return
	}
	b.request = Request{
		Method:        view(method),
		Scheme:        view(b.pseudo[pseudoScheme]),
		Authority:     view(authority),
		Path:          view(b.pseudo[pseudoPath]),
		Fields:        b.fields,
		ContentLength: b.length,
		Trailers:      b.te,
		Continue:      b.expect && !b.end,
	}
}

// validPath takes path and query, or * with OPTIONS.
func validPath(p, method string) bool {
	if p == "*" {
		return method == "OPTIONS"
	}
	return p != "" && p[0] == '/' && all(p, inTarget)
}

// authority returns what to route by. If :authority and Host are both there,
// they must agree: servers differ in which they look at.
func (b *block) authority() (string, bool) {
	if b.hosts > 1 {
		return "", false
	}
	a := b.pseudo[pseudoAuthority]
	switch {
	case !b.seen[pseudoAuthority]:
		a = b.host
	case b.hosts == 1 && !equalFold(a, b.host):
		return "", false
	}
	return a, validAuthority(a)
}

func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// validAuthority takes uri-host [":" port] without userinfo (RFC 3986 section
// 3.2).
func validAuthority(a string) bool {
	if a == "" || !all(a, inHost) {
		return false
	}
	name, port := a, ""
	if a[0] == '[' {
		end := strings.IndexByte(a, ']')
		if end < 2 {
			return false
		}
		name, port = a[1:end], a[end+1:]
	} else if i := strings.IndexByte(a, ':'); i >= 0 {
		name, port = a[:i], a[i:]
	}
	if name == "" || strings.ContainsAny(name, "[]") {
		return false
	}
	if port == "" {
		return true
	}
	if port[0] != ':' || len(port) > 6 {
		return false
	}
	for i := 1; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	return true
}
