package route

import "bytes"

// parameter returns the value, as sent, of the first parameter of this name in
// a query (URL Standard, application/x-www-form-urlencoded parsing).
func parameter(query []byte, name string) (raw []byte, ok bool) {
	for len(query) > 0 {
		pair := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		if len(pair) == 0 {
			continue
		}
		key, value, _ := bytes.Cut(pair, []byte{'='})
		if equalDecoded(key, name) {
			return value, true
		}
	}
	return nil, false
}

// equalDecoded compares what a part of a query stands for.
func equalDecoded(raw []byte, want string) bool {
	n := 0
	for i := 0; i < len(raw); n++ {
		c, width := octet(raw[i:])
		if n == len(want) || c != want[n] {
			return false
		}
		i += width
	}
	return n == len(want)
}

// appendDecoded appends what a part of a query stands for.
func appendDecoded(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c, width := octet(raw[i:])
		dst = append(dst, c)
		i += width
	}
	return dst
}

// octet decodes the first octet of a part of a query.
func octet(raw []byte) (c byte, width int) {
	switch raw[0] {
	case '+':
		return ' ', 1
	case '%':
		if c, ok := decoded(raw); ok {
			return c, 3
		}
	}
	return raw[0], 1
}
