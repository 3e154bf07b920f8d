package sticky

import "bytes"

// AppendWithout appends the value of a Cookie field without the jar's cookie,
// and reports whether it was there; if it was not, what is appended is the
// value as it stands. Nothing is appended when no other cookie is left: the
// field is then to be dropped. Pairs are taken apart as RFC 6265 section 5.4
// puts them together.
func (j *Jar) AppendWithout(dst, value []byte) (out []byte, removed bool) {
	if !j.within(value) {
		return append(dst, value...), false
	}
	begin := len(dst)
	for rest, more := value, true; more; {
		var pair []byte
		pair, rest, more = bytes.Cut(rest, []byte{';'})
		pair = trim(pair)
		if len(pair) == 0 || j.names(pair) {
			continue
		}
		if len(dst) > begin {
			dst = append(dst, ';', ' ')
		}
		dst = append(dst, pair...)
	}
	return dst, true
}

// within reports whether the cookie is in a Cookie field.
func (j *Jar) within(value []byte) bool {
	for rest, more := value, true; more; {
		var pair []byte
		if pair, rest, more = bytes.Cut(rest, []byte{';'}); j.names(pair) {
			return true
		}
	}
	return false
}

// Sets reports whether the value of a Set-Cookie field sets the jar's cookie
// (RFC 6265 section 5.2).
func (j *Jar) Sets(setCookie []byte) bool {
	pair, _, _ := bytes.Cut(setCookie, []byte{';'})
	return j.names(pair)
}

// Preserves reports whether a cookie that the server sets itself is left alone.
// Else it is removed from the response.
func (j *Jar) Preserves() bool { return j.config.Preserve }

// names reports whether a pair has the cookie's name.
func (j *Jar) names(pair []byte) bool {
	name, _, equals := bytes.Cut(pair, []byte{'='})
	return equals && string(trim(name)) == j.config.Name
}

// trim cuts white space off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
