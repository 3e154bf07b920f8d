package http1

// Body reads a message's body from the stream of its connection, piece by
// piece. The zero value is an empty body.
type Body struct {
	framing Framing
	left    int64 // bytes of the body (Length) or of the chunk that are to come
	state   chunkState
	line    int    // bytes of the present size line
	excess  int64  // overhead that the data does not account for
	trailer []byte // the trailer section, its last CRLF included, while it comes in
	fields  []Field
	done    bool
}

type chunkState uint8

const (
	chunkSize   chunkState = iota // in the digits
	chunkExt                      // in the extensions, which are dropped
	chunkSizeLF                   // after the size line's CR
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
)

// Bounds of what is not data.
const (
	maxSizeDigits = 13
	maxSizeLine   = 256
	maxExcess     = 16 << 10
	maxTrailer    = 8 << 10
)

// Reset makes b the body of a new message.
func (d *Body) Reset(framing Framing, length int64) {
	trailer, fields := d.trailer[:0], d.fields[:0]
	*d = Body{framing: framing, left: length, trailer: trailer, fields: fields}
	switch framing {
	case NoBody:
		d.done = true
	case Length:
		d.done = length == 0
	case Chunked:
		d.left = 0
	}
}

// Done reports whether the body has ended. A body that ends with the
// connection is never done: see [UntilEOF].
func (d *Body) Done() bool { return d.done }

// Next reads from b: data is a view of the next piece of the body, which may
// be empty, and n says how much of b was used up. Call it again with what is
// left until n is 0. Errors are final.
func (d *Body) Next(b []byte) (data []byte, n int, err *Error) {
	if d.done {
		return nil, 0, nil
	}
	switch d.framing {
	case UntilEOF:
		return b, len(b), nil
	case Length:
		data = b
		if int64(len(data)) > d.left {
			data = data[:d.left]
		}
		d.left -= int64(len(data))
		d.done = d.left == 0
		return data, len(data), nil
	}
	return d.nextChunked(b)
}

func (d *Body) nextChunked(b []byte) (data []byte, n int, err *Error) {
	for n < len(b) {
		c := b[n]
		switch d.state {
		case chunkSize:
			if err := d.sizeByte(c); err != nil {
				return nil, n, err
			}
		case chunkExt:
			switch {
			case c == '\r':
				d.state = chunkSizeLF
			case class[c]&inValue == 0:
				return nil, n, ErrChunk
			}
			if d.line++; d.line > maxSizeLine {
				return nil, n, ErrChunkOverhead
			}
		case chunkSizeLF:
			if c != '\n' {
				return nil, n, ErrChunk
			}
			if err := d.sizeDone(); err != nil {
				return nil, n, err
			}
		case chunkData:
			data = b[n:]
			if int64(len(data)) > d.left {
				data = data[:d.left]
			}
			d.left -= int64(len(data))
			if d.left == 0 {
				d.state = chunkDataCR
			}
			return data, n + len(data), nil
		case chunkDataCR:
			if c != '\r' {
				return nil, n, ErrChunk
			}
			d.state = chunkDataLF
		case chunkDataLF:
			if c != '\n' {
				return nil, n, ErrChunk
			}
			d.state, d.line = chunkSize, 0
		case chunkTrailer:
			used, err := d.trailerBytes(b[n:])
			return nil, n + used, err
		}
		n++
	}
	return nil, n, nil
}

// sizeByte reads a byte of chunk-size (RFC 9112 section 7.1).
func (d *Body) sizeByte(c byte) *Error {
	switch {
	case class[c]&isHex != 0:
		if d.line++; d.line > maxSizeDigits {
			return ErrChunk
		}
		d.left = d.left<<4 | int64(hexValue(c))
	case d.line == 0:
		return ErrChunk
	case c == ';':
		d.state = chunkExt
		d.line++
	case c == '\r':
		d.state = chunkSizeLF
	default:
		return ErrChunk
	}
	return nil
}

// sizeDone begins a chunk, or the trailer section after the last one. A
// sender may not hide an endless stream in extensions and tiny chunks: the
// overhead beyond 16 bytes a chunk and twice its data is added up.
func (d *Body) sizeDone() *Error {
	if d.left == 0 {
		d.state = chunkTrailer
		return nil
	}
	d.excess = max(d.excess+int64(d.line)-16-2*d.left, 0)
	if d.excess > maxExcess {
		return ErrChunkOverhead
	}
	d.state = chunkData
	return nil
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// trailerBytes collects the trailer section until its empty line.
func (d *Body) trailerBytes(b []byte) (n int, err *Error) {
	for n < len(b) {
		c := b[n]
		n++
		d.trailer = append(d.trailer, c)
		t := d.trailer
		if len(t) > maxTrailer {
			return n, ErrTrailer
		}
		if c != '\n' {
			continue
		}
		if len(t) < 2 || t[len(t)-2] != '\r' {
			return n, ErrTrailer
		}
		if len(t) == 2 || len(t) >= 4 && t[len(t)-4] == '\r' && t[len(t)-3] == '\n' {
			d.done = true
			return n, d.parseTrailer()
		}
	}
	return n, nil
}

func (d *Body) parseTrailer() *Error {
	b := d.trailer
	limits := Limits{Fields: 32, Line: maxTrailer}
	for {
		line, rest, err := nextLine(b, &limits)
		if err != nil {
			return ErrTrailer
		}
		if len(line) == 0 {
			return nil
		}
		b = rest
		if len(d.fields) == limits.Fields {
			return ErrTrailer
		}
		f, err := parseField(line)
		if err != nil {
			return ErrTrailer
		}
		if f.Kind == Other && !forbiddenTrailer(f.Name) {
			d.fields = append(d.fields, f)
		}
	}
}

// forbiddenTrailer lists what must not come late, beside the kinds that the
// codec knows: fields that route, authenticate, or change how the message is
// read (RFC 9110 section 6.5.1).
func forbiddenTrailer(name []byte) bool {
	for _, f := range [...]string{
		"authorization", "cache-control", "content-encoding", "content-range", "content-type",
		"max-forwards", "proxy-authenticate", "proxy-authorization", "range", "trailer", "www-authenticate",
	} {
		if EqualFold(name, f) {
			return true
		}
	}
	return false
}

// Trailer returns the fields of the trailer section that may be passed on,
// once the body is done.
func (d *Body) Trailer() []Field { return d.fields }
