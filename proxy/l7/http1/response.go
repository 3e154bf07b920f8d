package http1

// Response is a response's head (RFC 9112 section 4). Its slices are views of
// the bytes that it was parsed from. It may be used again.
type Response struct {
	message
	Status int // 100 to 599
	Reason []byte
	// Body says how the body is framed; ContentLength is its length with
	// Length.
	Body          Framing
	ContentLength int64
	// Upgrade is the protocol that a 101 switched to, or nil.
	Upgrade []byte
}

// Parse reads the head at the beginning of b, of the response to a request
// whose method was HEAD or not, and returns its length; 0 without an error
// when b does not hold all of it yet. After an error the connection is of no
// more use.
func (r *Response) Parse(b []byte, limits *Limits, head bool) (int, *Error) {
	n, err := findHead(b, limits)
	if n == 0 {
		return 0, err
	}
	line, rest, err := nextLine(b[:n], limits)
	if err != nil {
		return 0, err
	}
	if err := r.parseLine(line); err != nil {
		return 0, err
	}
	if err := r.parseFields(rest, limits); err != nil {
		return 0, err
	}
	r.Upgrade = nil
	if r.Status == 101 {
		r.Upgrade = r.upgrade()
	}
	r.Body, r.ContentLength = NoBody, 0
	switch {
	case head || r.Status < 200 || r.Status == 204 || r.Status == 304:
	case r.chunked:
		r.Body = Chunked
	case r.length > 0:
		r.Body, r.ContentLength = Length, r.length
	case r.length < 0:
		r.Body = UntilEOF
		r.KeepAlive = false
	}
	return n, nil
}

// parseLine reads "HTTP-version SP status-code [SP reason-phrase]": servers
// that have no reason often leave out the space before it.
func (r *Response) parseLine(line []byte) (err *Error) {
	if len(line) < 12 || line[8] != ' ' {
		return ErrStatusLine
	}
	if r.Minor, err = version(line[:8]); err != nil {
		return ErrStatusLine
	}
	code := line[9:12]
	if !all(code, isDigit) || code[0] < '1' || code[0] > '5' {
		return ErrStatusLine
	}
	r.Status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	r.Reason = nil
	if len(line) > 12 {
		if line[12] != ' ' || !all(line[13:], inValue) {
			return ErrStatusLine
		}
		r.Reason = line[13:]
	}
	return nil
}

// HasLength reports whether there was a Content-Length, 0 included.
func (r *Response) HasLength() bool { return r.length >= 0 }

// Make fills r in for a response that came by another version of HTTP, whose
// codec has checked it. length is the value of Content-Length, -1 without one;
// ended says that there is no body, whatever length says.
func (r *Response) Make(status int, reason []byte, fields []Field, length int64, ended bool) {
	r.message = message{Fields: fields, Minor: 1, KeepAlive: true, length: length}
	r.Status, r.Reason, r.Upgrade = status, reason, nil
	r.Body, r.ContentLength = Chunked, 0
	switch {
	case ended:
		r.Body = NoBody
	case length >= 0:
		r.Body, r.ContentLength = Length, length
	}
}
