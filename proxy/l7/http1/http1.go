// Package http1 is a codec of HTTP/1.1 messages (RFC 9110, RFC 9112) on byte
// slices. It parses in place: what it returns are views of the caller's
// buffer, and it allocates nothing on the ordinary path.
//
// It is strict where implementations disagree, because what two of them read
// differently can smuggle a request past one of them: such messages are
// refused, never repaired. It is stricter than RFC 9112 in that it does not
// skip empty lines before a request, takes no bare LF as a line's end, and no
// white space around a chunk's size.
package http1

// Error is a message that is refused.
type Error struct {
	Status int    // what to answer if it was a request
	Reason string // constant, safe to log and to show
}

func (e *Error) Error() string { return e.Reason }

// The refusals. They are variables only so that no request can make the
// parser allocate; compare by identity.
var (
	ErrLine          = &Error{400, "line does not end in CRLF, or holds a control character"}
	ErrRequestLine   = &Error{400, "malformed request line"}
	ErrVersion       = &Error{505, "HTTP version is not 1.0 or 1.1"}
	ErrMethod        = &Error{501, "method is not offered"}
	ErrTarget        = &Error{400, "malformed request target"}
	ErrField         = &Error{400, "malformed field"}
	ErrHost          = &Error{400, "Host is missing, repeated, malformed, or disagrees with the target"}
	ErrLength        = &Error{400, "malformed, repeated or contradicted Content-Length"}
	ErrCoding        = &Error{501, "transfer coding other than chunked"}
	ErrCoding10      = &Error{400, "transfer coding on HTTP/1.0"}
	ErrBody10        = &Error{413, "body on a GET, HEAD or DELETE of HTTP/1.0"}
	ErrTooLarge      = &Error{431, "head is too large"}
	ErrExpect        = &Error{417, "expectation other than 100-continue"}
	ErrStatusLine    = &Error{502, "malformed status line"}
	ErrChunk         = &Error{400, "malformed chunk"}
	ErrChunkOverhead = &Error{400, "chunks carry too much overhead"}
	ErrTrailer       = &Error{400, "malformed or too large trailer section"}
)

// Limits bound a head.
type Limits struct {
	Fields int // number of fields
	Line   int // bytes of the longest line, without its CRLF
	Head   int // bytes of all lines
}

// RequestLimits are the default limits of requests, and ResponseLimits of
// responses, which carry longer fields (cookies, policies) from servers that
// are trusted more.
func RequestLimits() Limits { return Limits{Fields: 100, Line: 8 << 10, Head: 16 << 10} }

// ResponseLimits are the default limits of responses.
func ResponseLimits() Limits { return Limits{Fields: 250, Line: 32 << 10, Head: 60 << 10} }

// Framing says how long a body is (RFC 9112 section 6.3).
type Framing uint8

// The framings.
const (
	NoBody   Framing = iota
	Length           // Content-Length
	Chunked          // Transfer-Encoding: chunked
	UntilEOF         // responses only: all until the connection ends
)

// Kind marks the fields that the codec or a proxy must know.
type Kind uint8

// The kinds. Other is everything that passes as it is.
const (
	Other Kind = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	HopByHop // Keep-Alive, Proxy-Connection, TE: for one hop only
	Upgrade
	Expect
	ForwardedFor
	ForwardedProto
	ForwardedHost
	Forwarded  // RFC 7239
	RealIP     // X-Real-IP
	Cookie     // of a request
	SetCookie  // of a response
	Date       // RFC 9110 section 6.6.1
	Underscore // the name holds an underscore
	Dropped    // Connection lists it: not to be passed on
)

// Field is one field line. Name and Value are views; Value is trimmed.
type Field struct {
	Name, Value []byte
	Kind        Kind
}

// token and value tell which bytes may stand in tokens (RFC 9110 section
// 5.6.2) and field values (section 5.5); host which in an authority.
type classes uint8

const (
	inToken classes = 1 << iota
	inValue
	inTarget
	inHost
	isDigit
	isHex
)

var class = func() (t [256]classes) {
	for i := range 256 {
		c := byte(i)
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if alnum || contains("!#$%&'*+-.^_`|~", c) {
			t[i] |= inToken
		}
		if c == '\t' || c >= 0x20 && c != 0x7f {
			t[i] |= inValue
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[i] |= inTarget
		}
		// Without the comma that RFC 3986 allows: it joins lists.
		if alnum || contains("-._~%!$&'()*+;=:[]", c) {
			t[i] |= inHost
		}
		if c >= '0' && c <= '9' {
			t[i] |= isDigit | isHex
		}
		if c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[i] |= isHex
		}
	}
	return t
}()

func contains(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

func all(b []byte, c classes) bool {
	for _, x := range b {
		if class[x]&c == 0 {
			return false
		}
	}
	return true
}

// EqualFold compares a token with one in lower case, ASCII only.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// EqualNames compares two field names, ASCII case aside.
func EqualNames[A, B []byte | string](a A, b B) bool { return equalFold(a, b) }

func equalFoldBytes(a, b []byte) bool { return equalFold(a, b) }

func equalFold[A, B []byte | string](a A, b B) bool {
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
		return c + 'a' - 'A'
	}
	return c
}
