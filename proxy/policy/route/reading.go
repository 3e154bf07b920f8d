package route

// AppendReading appends the path as rules read it, in the strict reading of
// the package's comment, percent-encoded anew where a path may not have a byte
// as it is (RFC 3986 section 3.3). Whoever replaces a part of a path that
// matched a rule works on this: the path as it was sent need not begin with
// the rule's. A path without a reading, or too long for one, is appended as it
// is.
func AppendReading(dst, path []byte) []byte {
	if plain(path) || len(path) > maxNormal {
		return append(dst, path...)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	reading, ok := normalise(s.a[:0], path, false)
	if !ok {
		return append(dst, path...)
	}
	const hex = "0123456789ABCDEF"
	for i, c := range reading {
		switch {
		case c > ' ' && c < 0x7f && c != '?' && c != '#' && c != '"' && c != '<' && c != '>' && c != '%':
			dst = append(dst, c)
		case c == '%' && i+2 < len(reading) && (string(reading[i+1:i+3]) == "2F" || string(reading[i+1:i+3]) == "25"):
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
