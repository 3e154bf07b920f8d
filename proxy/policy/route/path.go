package route

import "bytes"

// maxNormal is the length of the longest path that is normalised: the default
// limit of a line. A plain path may have any length.
const maxNormal = 8 << 10

// What a byte of a path means to plain.
const (
	ordinary = iota
	slash
	special // may read differently
)

var pathClass = [256]uint8{'/': slash, '%': special, ';': special, '\\': special, 0: special}

// plain reports whether a path is in normal form already, in both readings.
func plain(p []byte) bool {
	if len(p) == 0 || p[0] != '/' {
		return false
	}
	for i, c := range p {
		switch pathClass[c] {
		case special:
			return false
		case slash:
			if dotted(p[i+1:]) {
				return false
			}
		}
	}
	return true
}

// dotted reports whether what follows a slash begins with an empty segment
// that is not the last, or with a dot segment.
func dotted(rest []byte) bool {
	if len(rest) == 0 {
		return false
	}
	if rest[0] == '/' {
		return true
	}
	if rest[0] != '.' {
		return false
	}
	rest = rest[1:]
	if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
	}
	return len(rest) == 0 || rest[0] == '/'
}

// normalise appends a reading of the path to dst, which must be empty; see
// the package's comment. The reading is never longer than the path. ok is
// false when there is none.
func normalise(dst, path []byte, lax bool) (reading []byte, ok bool) {
	if len(path) == 0 || path[0] != '/' {
		return dst, false
	}
	dst = append(dst, '/')
	segment := 1 // where the present one begins in dst
	parameter := false
	for i := 1; i < len(path); i++ {
		c, encoded := path[i], false
		if c == '%' {
			if c, encoded = decoded(path[i:]); !encoded {
				return dst, false
			}
			i += 2
		}
		if c == 0 {
			return dst, false
		}
		if separator := c == '/' && !encoded; separator || lax && (c == '/' || c == '\\') {
			if parameter && !separator {
				// Is it in the parameter, or does it end it? Servers differ.
				return dst, false
			}
			dst = endSegment(dst, segment, lax, false)
			segment, parameter = len(dst), false
			continue
		}
		switch {
		case lax && c == ';':
			parameter = true
		case parameter:
		case encoded && c == '/':
			dst = append(dst, "%2F"...)
		case encoded && c == '%':
			dst = append(dst, "%25"...)
		default:
			dst = append(dst, c)
		}
	}
	return endSegment(dst, segment, lax, true), true
}

// endSegment ends the segment that begins at dst[begin], as RFC 3986 section
// 5.2.4 says, and opens the next one unless it was the last.
func endSegment(dst []byte, begin int, lax, last bool) []byte {
	switch s := dst[begin:]; {
	case len(s) == 1 && s[0] == '.':
		return dst[:begin]
	case len(s) == 2 && s[0] == '.' && s[1] == '.':
		if begin == 1 {
			return dst[:1] // above the root is the root
		}
		return dst[:bytes.LastIndexByte(dst[:begin-1], '/')+1]
	case last, lax && len(s) == 0:
		return dst
	}
	return append(dst, '/')
}

// decoded is the octet whose percent-encoding b begins with.
func decoded(b []byte) (octet byte, ok bool) {
	if len(b) < 3 || b[0] != '%' {
		return 0, false
	}
	high, low := hexValue[b[1]], hexValue[b[2]]
	return high<<4 | low, high != noHex && low != noHex
}

const noHex = 0xff

// hexValue is the value of a hexadecimal digit, noHex for other bytes.
var hexValue = func() (t [256]uint8) {
	for i := range t {
		t[i] = noHex
	}
	for i := range uint8(10) {
		t['0'+i] = i
	}
	for i := range uint8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()
