package http2

import (
	"encoding/binary"
	"unsafe"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// The pseudo-header fields (RFC 9113 section 8.3). Others, :protocol of RFC
// 8441 among them, are unknown.
const (
	pseudoMethod = iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoStatus
	pseudoKinds
)

func pseudoOf(name string) int {
	switch name {
	case ":method":
		return pseudoMethod
	case ":scheme":
		return pseudoScheme
	case ":authority":
		return pseudoAuthority
	case ":path":
		return pseudoPath
	case ":status":
		return pseudoStatus
	}
	return -1
}

// view is the bytes of a string. Nobody writes to fields, and the decoder
// makes strings: this saves a copy of each of them.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// add takes the next field of the block, or sets b.err.
func (b *block) add(name, value string, limits *http1.Limits) {
	if len(name) > 0 && name[0] == ':' {
		b.size += len(name) + len(value)
		if b.size > limits.Head || len(value) > limits.Line {
			b.err = ErrTooLarge
			return
		}
		b.addPseudo(name, value)
		return
	}
	if b.size += len(name) + len(value) + 4; b.size > limits.Head || len(name)+len(value) > limits.Line {
		b.err = ErrTooLarge
		return
	}
	underscore, ok := validName(name)
	if !ok {
		b.err = ErrName
		return
	}
	if !validValue(value) {
		b.err = ErrValue
		return
	}
	f := http1.Field{Name: view(name), Value: view(value)}
	if underscore {
		f.Kind = http1.Underscore
	} else if !b.know(name, value, &f) {
		return
	}
	if len(b.fields) >= limits.Fields {
		b.err = ErrTooLarge
		return
	}
	b.fields = append(b.fields, f)
}

// addPseudo takes a pseudo-header field: a known one, once, before the others
// (RFC 9113 section 8.3).
func (b *block) addPseudo(name, value string) {
	kind := pseudoOf(name)
	if kind < 0 || b.seen[kind] || len(b.fields) > 0 {
		b.err = ErrPseudo
		return
	}
	b.any = true
	b.seen[kind] = true
	b.pseudo[kind] = value
}

// know takes what the codec must know from a field, and marks its kind. It
// reports whether the field is to be kept in the list.
func (b *block) know(name, value string, f *http1.Field) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		b.err = ErrConnectionField // RFC 9113 section 8.2.2
		return false
	case "te":
		if !http1.EqualFold(f.Value, "trailers") {
			b.err = ErrTE
			return false
		}
		f.Kind = http1.HopByHop
		b.te = true
	case "host":
		f.Kind = http1.Host
		b.hosts++
		b.host = value
	case "content-length":
		f.Kind = http1.ContentLength
		if n, ok := parseLength(value); !ok || b.length >= 0 {
			b.err = ErrLength // a second one, equal or not
			return false
		} else {
			b.length = n
		}
	case "expect":
		f.Kind = http1.Expect
		b.expect = true
		b.magic = b.magic || !http1.EqualFold(f.Value, "100-continue")
	case "cookie":
		f.Kind = http1.Cookie
		return b.addCookie(value)
	default:
		f.Kind = http1.KindOf(f.Name)
	}
	return true
}

// addCookie joins the crumbs that clients cut a cookie into, for the sake of
// the table (RFC 9113 section 8.2.3). It reports whether this is the first.
func (b *block) addCookie(value string) bool {
	if b.cookie < 0 {
		b.cookie = len(b.fields)
		return true
	}
	if len(b.crumbs) == 0 {
		b.crumbs = append(b.crumbs, b.fields[b.cookie].Value...)
	}
	b.crumbs = append(b.crumbs, "; "...)
	b.crumbs = append(b.crumbs, value...)
	b.fields[b.cookie].Value = b.crumbs
	return false
}

// parseLength reads digits only (RFC 9110 section 8.6), at most 18 of them so
// that the value fits.
func parseLength(v string) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for i := range len(v) {
		c := v[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// classes tell where a byte may stand.
type classes uint8

const (
	inName   classes = 1 << iota // a token without capitals
	inToken                      // RFC 9110 section 5.6.2
	inTarget                     // a path: no controls, spaces, '#', bytes over 127
	inHost                       // an authority: without the '@' of userinfo, and the comma that joins lists
	isUnderscore
)

var class = func() (t [256]classes) {
	set := func(bytes string, c classes) {
		for i := range len(bytes) {
			t[bytes[i]] |= c
		}
	}
	const digits, lower, upper = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	set(digits+lower+"!#$%&'*+-.^_`|~", inName)
	set(digits+lower+upper+"!#$%&'*+-.^_`|~", inToken)
	set(digits+lower+upper+"-._~%!$&'()*+;=:[]", inHost)
	set("_", isUnderscore)
	for c := '!'; c < 0x7f; c++ {
		if c != '#' {
			t[c] |= inTarget
		}
	}
	return t
}()

func all(s string, c classes) bool {
	for i := range len(s) {
		if class[s[i]]&c == 0 {
			return false
		}
	}
	return true
}

// validName takes a token without capitals (RFC 9113 section 8.2.1), and
// reports whether it has an underscore: servers that turn - into _ (CGI)
// cannot tell x_y from x-y.
func validName(name string) (underscore, ok bool) {
	every, some := inName, classes(0)
	for i := range len(name) {
		c := class[name[i]]
		every &= c
		some |= c
	}
	return some&isUnderscore != 0, every != 0 && len(name) > 0
}

// validValue refuses control characters, and white space at the ends (RFC 9113
// section 8.2.1, RFC 9110 section 5.5).
func validValue(v string) bool {
	if len(v) == 0 {
		return true
	}
	if blank(v[0]) || blank(v[len(v)-1]) {
		return false
	}
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b := view(v)
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		del := x ^ 0x7f*ones
		// A byte below 0x20, or equal to 0x7f. Tabs are sorted out one by one.
		if ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0 {
			break
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
