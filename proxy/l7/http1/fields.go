package http1

import "bytes"

// findHead returns the length of the head at the beginning of b, its empty
// line included; 0 when it is not complete.
func findHead(b []byte, limits *Limits) (int, *Error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > limits.Head {
			return 0, ErrTooLarge
		}
		// Don't wait for the rest of what is lost already: such a client
		// would believe its request complete.
		for at := 0; ; {
			i := bytes.IndexByte(b[at:], '\n')
			if i < 0 {
				return 0, nil
			}
			at += i
			if at == 0 || b[at-1] != '\r' {
				return 0, ErrLine
			}
			at++
		}
	}
	if end > limits.Head {
		return 0, ErrTooLarge
	}
	return end + 4, nil
}

// nextLine cuts the first line off b, without its CRLF. b ends in CRLF.
func nextLine(b []byte, limits *Limits) (line, rest []byte, err *Error) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, ErrLine
	}
	if i-1 > limits.Line {
		return nil, nil, ErrTooLarge
	}
	return b[:i-1], b[i+1:], nil
}

// parseField reads one field line.
func parseField(line []byte) (Field, *Error) {
	colon := 0
	underscore := false
	for colon < len(line) && class[line[colon]]&inToken != 0 {
		underscore = underscore || line[colon] == '_'
		colon++
	}
	// No name, white space before the colon, obs-fold, no colon at all.
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return Field{}, ErrField
	}
	value := trim(line[colon+1:])
	for _, c := range value {
		if class[c]&inValue == 0 {
			return Field{}, ErrField
		}
	}
	f := Field{Name: line[:colon], Value: value}
	if underscore {
		// Servers that turn - into _ (CGI) cannot tell X_Y from X-Y.
		f.Kind = Underscore
	} else {
		f.Kind = kindOf(f.Name)
	}
	return f, nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// KindOf tells what a field's name means here, whatever its case.
func KindOf(name []byte) Kind { return kindOf(name) }

func kindOf(name []byte) Kind {
	is := func(lower string, k Kind) Kind {
		if EqualFold(name, lower) {
			return k
		}
		return Other
	}
	switch len(name) {
	case 2:
		return is("te", HopByHop)
	case 4:
		if EqualFold(name, "date") {
			return Date
		}
		return is("host", Host)
	case 6:
		if EqualFold(name, "cookie") {
			return Cookie
		}
		return is("expect", Expect)
	case 7:
		return is("upgrade", Upgrade)
	case 9:
		if EqualFold(name, "x-real-ip") {
			return RealIP
		}
		return is("forwarded", Forwarded)
	case 10:
		if EqualFold(name, "set-cookie") {
			return SetCookie
		}
		if EqualFold(name, "keep-alive") {
			return HopByHop
		}
		return is("connection", Connection)
	case 14:
		return is("content-length", ContentLength)
	case 15:
		return is("x-forwarded-for", ForwardedFor)
	case 16:
		if EqualFold(name, "proxy-connection") {
			return HopByHop
		}
		return is("x-forwarded-host", ForwardedHost)
	case 17:
		if EqualFold(name, "transfer-encoding") {
			return TransferEncoding
		}
		return is("x-forwarded-proto", ForwardedProto)
	}
	return Other
}

// message is what requests and responses have in common.
type message struct {
	// Fields are the field lines in their order.
	Fields []Field
	// Minor is the minor version: 0 or 1.
	Minor int
	// KeepAlive reports whether the sender allows another message on the
	// connection (RFC 9112 section 9.3).
	KeepAlive bool

	length            int64 // of Content-Length, -1 without one
	chunked           bool
	hosts             int
	host              []byte
	close, keep, upgr bool // options of Connection
}

// parseFields reads field lines until the empty line that ends b.
func (m *message) parseFields(b []byte, limits *Limits) *Error {
	m.Fields = m.Fields[:0]
	m.length, m.chunked, m.hosts, m.host = -1, false, 0, nil
	m.close, m.keep, m.upgr = false, false, false
	codings, options := 0, false
	for {
		line, rest, err := nextLine(b, limits)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		b = rest
		if len(m.Fields) == limits.Fields {
			return ErrTooLarge
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		switch f.Kind {
		case Host:
			m.hosts++
			m.host = f.Value
		case ContentLength:
			if m.length >= 0 {
				return ErrLength // a second one, equal or not
			}
			if m.length, err = parseLength(f.Value); err != nil {
				return err
			}
		case TransferEncoding:
			codings++
			if codings > 1 || !EqualFold(f.Value, "chunked") {
				return ErrCoding
			}
			m.chunked = true
		case Connection:
			options = true
		}
		m.Fields = append(m.Fields, f)
	}
	if m.chunked && m.length >= 0 {
		return ErrLength
	}
	if m.chunked && m.Minor == 0 {
		return ErrCoding10
	}
	if options {
		m.readConnection()
	}
	m.KeepAlive = !m.close && (m.Minor == 1 || m.keep)
	return nil
}

// parseLength reads digits only (RFC 9110 section 8.6), at most 18 of them so
// that the value fits.
func parseLength(v []byte) (int64, *Error) {
	if len(v) == 0 || len(v) > 18 {
		return 0, ErrLength
	}
	n := int64(0)
	for _, c := range v {
		if class[c]&isDigit == 0 {
			return 0, ErrLength
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// readConnection reads the options of all Connection fields, and marks the
// fields that they name (RFC 9110 section 7.6.1). Fields that frame or route
// the message cannot be named away.
func (m *message) readConnection() {
	for i := range m.Fields {
		if m.Fields[i].Kind != Connection {
			continue
		}
		rest := m.Fields[i].Value
		for len(rest) > 0 {
			option := rest
			if c := bytes.IndexByte(rest, ','); c >= 0 {
				option, rest = rest[:c], rest[c+1:]
			} else {
				rest = nil
			}
			option = trim(option)
			switch {
			case len(option) == 0:
			case EqualFold(option, "close"):
				m.close = true
			case EqualFold(option, "keep-alive"):
				m.keep = true
			case EqualFold(option, "upgrade"):
				m.upgr = true
			default:
				for j := range m.Fields {
					switch f := &m.Fields[j]; f.Kind {
					case Other, Underscore, Expect, ForwardedFor, ForwardedHost, ForwardedProto, Forwarded, RealIP, Cookie, SetCookie, Date:
						if equalFoldBytes(f.Name, option) {
							f.Kind = Dropped
						}
					}
				}
			}
		}
	}
}

// upgrade returns the protocol asked for or switched to (RFC 9110 section
// 7.8); nil without one.
func (m *message) upgrade() []byte {
	if !m.upgr || m.Minor == 0 {
		return nil
	}
	var protocol []byte
	for i := range m.Fields {
		if m.Fields[i].Kind == Upgrade {
			if protocol != nil {
				return nil
			}
			protocol = m.Fields[i].Value
		}
	}
	return protocol
}
