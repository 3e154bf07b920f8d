package http1

import "bytes"

// Request is a request's head (RFC 9112 section 3). Its slices are views of
// the bytes that it was parsed from. It may be used again.
type Request struct {
	message
	// Method is one of RFC 9110's or an extension, never CONNECT or TRACE.
	Method []byte
	// Target is the origin-form (path and query), or * with OPTIONS: an
	// absolute-form was reduced to it.
	Target []byte
	// Host is the authority to route by. It is empty if an HTTP/1.0 client
	// gave none, or a client gave an empty one.
	Host []byte
	// Body says how the body is framed; ContentLength is its length with
	// Length.
	Body          Framing
	ContentLength int64
	// Continue reports that the client waits for 100 before the body.
	Continue bool
	// Upgrade is the protocol that the client would switch to, or nil.
	Upgrade []byte
}

// Parse reads the head at the beginning of b, and returns its length; 0
// without an error when b does not hold all of it yet. After an error nothing
// of the connection's input may be used any more: where the next request
// begins is unknown. Errors are *Error, with the status to answer.
func (r *Request) Parse(b []byte, limits *Limits) (int, *Error) {
	n, err := findHead(b, limits)
	if n == 0 {
		return 0, err
	}
	line, rest, err := nextLine(b[:n], limits)
	if err != nil {
		return 0, err
	}
	absolute, err := r.parseLine(line)
	if err != nil {
		return 0, err
	}
	if err := r.parseFields(rest, limits); err != nil {
		return 0, err
	}
	if err := r.route(absolute); err != nil {
		return 0, err
	}
	if err := r.frame(); err != nil {
		return 0, err
	}
	return n, nil
}

// parseLine reads "method SP request-target SP HTTP-version".
func (r *Request) parseLine(line []byte) (authority []byte, err *Error) {
	i := bytes.IndexByte(line, ' ')
	if i < 1 || !all(line[:i], inToken) {
		return nil, ErrRequestLine
	}
	r.Method = line[:i]
	rest := line[i+1:]
	j := bytes.IndexByte(rest, ' ')
	if j < 1 {
		return nil, ErrRequestLine
	}
	if r.Minor, err = version(rest[j+1:]); err != nil {
		return nil, err
	}
	if is(r.Method, "CONNECT") || is(r.Method, "TRACE") {
		return nil, ErrMethod
	}
	return r.parseTarget(rest[:j])
}

func is(b []byte, s string) bool { return string(b) == s }

func version(b []byte) (minor int, err *Error) {
	switch {
	case is(b, "HTTP/1.1"):
		return 1, nil
	case is(b, "HTTP/1.0"):
		return 0, nil
	case len(b) == 8 && is(b[:5], "HTTP/") && class[b[5]]&isDigit != 0 && b[6] == '.' && class[b[7]]&isDigit != 0:
		return 0, ErrVersion
	}
	return 0, ErrRequestLine
}

// parseTarget sets Target, and returns the authority of an absolute-form
// (RFC 9112 section 3.2.2), nil for the other forms.
func (r *Request) parseTarget(t []byte) (authority []byte, err *Error) {
	if !all(t, inTarget) {
		return nil, ErrTarget
	}
	if t[0] == '/' {
		r.Target = t
		return nil, nil
	}
	if is(t, "*") && is(r.Method, "OPTIONS") {
		r.Target = t
		return nil, nil
	}
	switch {
	case len(t) > 7 && EqualFold(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && EqualFold(t[:8], "https://"):
		t = t[8:]
	default:
		return nil, ErrTarget
	}
	end := bytes.IndexAny(t, "/?")
	switch {
	case end < 0 && is(r.Method, "OPTIONS"):
		authority, r.Target = t, []byte("*") // RFC 9112 section 3.2.4
	case end < 0:
		authority, r.Target = t, []byte("/")
	case t[end] == '?':
		authority, r.Target = t[:end], append([]byte("/"), t[end:]...)
	default:
		authority, r.Target = t[:end], t[end:]
	}
	if len(authority) == 0 {
		return nil, ErrTarget
	}
	return authority, nil
}

// route sets Host (RFC 9112 section 3.2).
func (r *Request) route(authority []byte) *Error {
	if r.hosts > 1 || r.hosts == 0 && r.Minor == 1 {
		return ErrHost
	}
	r.Host = r.host
	if !validHost(r.Host) {
		return ErrHost
	}
	if authority == nil {
		return nil
	}
	if !validHost(authority) || r.hosts == 1 && !equalFoldBytes(authority, r.host) {
		return ErrHost
	}
	r.Host = authority
	return nil
}

// validHost takes uri-host [":" port] without userinfo.
func validHost(h []byte) bool {
	if !all(h, inHost) {
		return false
	}
	if len(h) == 0 {
		return true
	}
	port := -1
	if h[0] == '[' {
		end := bytes.IndexByte(h, ']')
		if end < 0 || bytes.IndexByte(h[1:], '[') >= 0 || bytes.IndexByte(h[end+1:], ']') >= 0 {
			return false
		}
		if rest := h[end+1:]; len(rest) > 0 {
			if rest[0] != ':' {
				return false
			}
			port = end + 2
		}
	} else {
		if bytes.IndexByte(h, '[') >= 0 || bytes.IndexByte(h, ']') >= 0 {
			return false
		}
		if c := bytes.IndexByte(h, ':'); c >= 0 {
			port = c + 1
			if c == 0 {
				return false
			}
		}
	}
	return port < 0 || len(h)-port <= 5 && all(h[port:], isDigit)
}

// frame decides how long the body is (RFC 9112 section 6.3).
func (r *Request) frame() *Error {
	r.Body, r.ContentLength = NoBody, 0
	switch {
	case r.chunked:
		r.Body = Chunked
	case r.length > 0:
		r.Body, r.ContentLength = Length, r.length
		if r.Minor == 0 && (is(r.Method, "GET") || is(r.Method, "HEAD") || is(r.Method, "DELETE")) {
			return ErrBody10
		}
	}
	r.Continue = false
	for i := range r.Fields {
		if r.Fields[i].Kind == Expect {
			if !EqualFold(r.Fields[i].Value, "100-continue") {
				return ErrExpect
			}
			r.Continue = r.Minor == 1 && r.Body != NoBody
		}
	}
	r.Upgrade = r.upgrade()
	return nil
}

// HasLength reports whether there was a Content-Length, 0 included.
func (r *Request) HasLength() bool { return r.length >= 0 }

// Make fills r in for a request that came by another version of HTTP, whose
// codec has checked it. length is the value of Content-Length, -1 without one;
// ended says that there is no body.
func (r *Request) Make(method, target, host []byte, fields []Field, length int64, ended, wait bool) {
	r.message = message{Fields: fields, Minor: 1, KeepAlive: true, length: length}
	r.Method, r.Target, r.Host = method, target, host
	r.Body, r.ContentLength = Chunked, 0
	switch {
	case ended:
		r.Body = NoBody
	case length >= 0:
		r.Body, r.ContentLength = Length, length
	}
	r.Continue, r.Upgrade = wait && r.Body != NoBody, nil
}
