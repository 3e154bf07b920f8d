package sticky

import "strings"

// MaxServer is the length of the longest name of a server that a cookie holds,
// in bytes.
const MaxServer = 128

// inValue takes the cookie-octets of RFC 6265 section 4.1.1 but the percent
// sign, which encodes the others.
func inValue(c byte) bool {
	return c > 0x20 && c < 0x7f && strings.IndexByte(`",;\%`, c) < 0
}

const hex = "0123456789ABCDEF"

// appendName appends a name so that it can stand in a cookie.
func appendName(dst []byte, name string) []byte {
	for i := range len(name) {
		if c := name[i]; inValue(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// readName returns the name that stands in a cookie: a view of text or of room.
func readName(room *[MaxServer]byte, text []byte) (name []byte, ok bool) {
	plain := true
	for _, c := range text {
		if !inValue(c) {
			plain = false
			break
		}
	}
	if plain {
		return text, len(text) > 0 && len(text) <= MaxServer
	}
	n := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '%':
			if i+2 >= len(text) {
				return nil, false
			}
			high, low := strings.IndexByte(hex, text[i+1]), strings.IndexByte(hex, text[i+2])
			if high < 0 || low < 0 || inValue(byte(high<<4|low)) {
				return nil, false // there is one form of each name
			}
			c = byte(high<<4 | low)
			i += 2
		case !inValue(c):
			return nil, false
		}
		if n == MaxServer {
			return nil, false
		}
		room[n] = c
		n++
	}
	return room[:n], true
}
