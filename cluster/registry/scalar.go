package registry

import (
	"encoding/base64"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// text reads a string. A number is not one: YAML would have changed some (010,
// 1e3), so it needs quotes.
func (r *reader) text(path string, n node) (string, bool) {
	switch n.kind {
	case textKind:
		return n.text, true
	case wholeKind, fractionKind, truthKind:
		r.wrong(path, n, "is %s, must be text: put it in quotes", n.kind)
	default:
		r.wrong(path, n, "is %s, must be text", n.kind)
	}
	return "", false
}

// token reads text that has its own shape, such as an address: here a number
// is as good or wrong as any other text, and quotes would not help.
func (r *reader) token(path string, n node) (string, bool) {
	if n.kind == wholeKind || n.kind == fractionKind {
		return n.text, true
	}
	return r.text(path, n)
}

// shaped reports whether a text field may look like a number.
func (f *field) shaped() bool {
	return f.format == "community" || f.format == "large_community" || len(f.words) > 0 && f.words[0][0] >= '0' && f.words[0][0] <= '9'
}

// integer reads a whole number in plain decimal digits that the field's type
// holds. Whether it is within the field's bounds is for the checks to say.
func (r *reader) integer(path string, n node, to reflect.Value, f *field) {
	if n.kind == truthKind && f.truth != "" {
		n = node{kind: wholeKind, at: n.at, text: map[string]string{"true": f.truth, "false": "0"}[n.text]}
	}
	v, ok := r.digits(path, n, limitsOf(to.Type()), f)
	switch {
	case !ok:
	case to.CanUint():
		to.SetUint(uint64(v))
	default:
		to.SetInt(v)
	}
}

// span is the range of an integer type.
type span struct{ low, high int64 }

func limitsOf(t reflect.Type) span {
	switch t.Kind() {
	case reflect.Uint16:
		return span{0, math.MaxUint16}
	case reflect.Uint32:
		return span{0, math.MaxUint32}
	default:
		return span{math.MinInt64, math.MaxInt64}
	}
}

func (r *reader) digits(path string, n node, within span, f *field) (int64, bool) {
	switch n.kind {
	case wholeKind, fractionKind, textKind:
	default:
		r.wrong(path, n, "is %s, must be a whole number", n.kind)
		return 0, false
	}
	digits := strings.TrimPrefix(n.text, "-")
	plain := digits != "" && strings.Trim(digits, "0123456789") == ""
	switch {
	case plain && n.quoted:
		r.wrong(path, n, "is text, must be a whole number: take the quotes off")
		return 0, false
	case !plain && n.kind == textKind:
		r.wrong(path, n, "is text, must be a whole number")
		return 0, false
	case !plain || (len(digits) > 1 && digits[0] == '0'):
		r.wrong(path, n, "is %s, must be a whole number in plain decimal digits", shorten(n.text))
		return 0, false
	}
	v, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil || v < within.low || v > within.high {
		r.wrong(path, n, "is %s, must be %s", shorten(n.text), f.values())
		return 0, false
	}
	return v, true
}

// values says which numbers a field takes.
func (f *field) values() string {
	if f.bounds != nil {
		return f.bounds.String()
	}
	return anyOf(f.words)
}

// fraction reads a decimal number, with or without a point.
func (r *reader) fraction(path string, n node, to reflect.Value, f *field) {
	if n.kind != wholeKind && n.kind != fractionKind {
		r.wrong(path, n, "is %s, must be a number", n.kind)
		return
	}
	whole, decimals, point := strings.Cut(strings.TrimPrefix(n.text, "-"), ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	v, err := strconv.ParseFloat(n.text, 64)
	switch {
	case !digits(whole) || point && !digits(decimals) || len(whole) > 1 && whole[0] == '0':
		r.wrong(path, n, "is %s, must be a number in plain decimal digits", shorten(n.text))
	case err != nil:
		r.wrong(path, n, "is %s, must be %s", shorten(n.text), f.values())
	default:
		to.SetFloat(v)
	}
}

// duration reads a duration such as 2s, 50ms or 1m30s.
func (r *reader) duration(path string, n node, to *time.Duration) {
	switch n.kind {
	case wholeKind:
		r.wrong(path, n, "has no unit: write %ss for seconds, %sms for milliseconds", shorten(n.text), shorten(n.text))
		return
	case textKind:
	default:
		r.wrong(path, n, "is %s, must be a duration such as 2s or 500ms", n.kind)
		return
	}
	v, err := time.ParseDuration(n.text)
	if err != nil {
		r.wrong(path, n, "is %s, must be a duration such as 2s, 500ms or 1m30s", quote(n.text))
		return
	}
	*to = v
}

// address reads an IP address.
func (r *reader) address(path string, n node, to *netip.Addr) {
	s, ok := r.token(path, n)
	if !ok {
		return
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if _, err := netip.ParsePrefix(s); err == nil {
			r.wrong(path, n, "is %s, must be an address without a prefix length", quote(s))
		} else {
			r.wrong(path, n, "is %s, must be an IPv4 or IPv6 address", quote(s))
		}
		return
	}
	*to = a
}

// addressPort reads address:port.
func (r *reader) addressPort(path string, n node, to *netip.AddrPort) {
	s, ok := r.token(path, n)
	if !ok {
		return
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		if _, err := netip.ParseAddr(s); err == nil {
			r.wrong(path, n, "is %s: the port is missing", quote(s))
		} else {
			r.wrong(path, n, "is %s, must be address:port such as 10.0.1.10:8080 or [2001:db8::1]:8080", quote(s))
		}
		return
	}
	*to = a
}

// prefix reads a network.
func (r *reader) prefix(path string, n node, to *netip.Prefix) {
	s, ok := r.token(path, n)
	if !ok {
		return
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			r.wrong(path, n, "is %s: the prefix length is missing: write %s/%d for this address alone", quote(s), a, a.BitLen())
		} else {
			r.wrong(path, n, "is %s, must be a network such as 10.0.0.0/8 or 2001:db8::/32", quote(s))
		}
		return
	}
	*to = p
}

// bytes reads base64 (RFC 4648 4), white space aside.
func (r *reader) bytes(path string, n node, to reflect.Value) {
	s, ok := r.text(path, n)
	if !ok {
		return
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		r.wrong(path, n, "must be base64 (RFC 4648 4)")
		return
	}
	if len(b) > 0 {
		to.SetBytes(b)
	}
}

// statuses reads a list of HTTP statuses and ranges of them, such as "200-299".
// It checks them as well, since only the document has their places.
func (r *reader) statuses(path string, n node, to *[]int) {
	if n.kind != listKind {
		r.wrong(path, n, "is %s, must be a list", n.kind)
		return
	}
	seen := map[int]bool{}
	for i, item := range n.items {
		child := element(path, i)
		r.positions[child] = item.at
		from, until, ok := r.statusRange(child, item)
		if !ok {
			r.broken[path] = true
			continue
		}
		for s := from; s <= until; s++ {
			if seen[s] {
				r.broken[path] = true
				r.fault(child, item.at, "%d is in the list already", s)
				break
			}
			seen[s] = true
			*to = append(*to, s)
		}
	}
}

func (r *reader) statusRange(path string, n node) (from, until int, ok bool) {
	if n.kind == nullKind {
		r.wrong(path, n, "is empty: give it a value or take it out")
		return 0, 0, false
	}
	const low, high = 200, 599
	if a, b, ok := strings.Cut(n.text, "-"); ok && n.kind == textKind && len(a) == 3 && len(b) == 3 {
		from, err := strconv.Atoi(a)
		until, err2 := strconv.Atoi(b)
		if err != nil || err2 != nil || from < low || until > high || from > until {
			r.wrong(path, n, "is %s, must be a range within %d-%d", quote(n.text), low, high)
			return 0, 0, false
		}
		return from, until, true
	}
	if n.kind == textKind && strings.Trim(n.text, "0123456789") != "" {
		r.wrong(path, n, `is %s, must be a status or a range such as "200-299"`, quote(n.text))
		return 0, 0, false
	}
	f := field{bounds: boundsOf("200..599", "")}
	v, ok := r.digits(path, n, span{low, high}, &f)
	return int(v), int(v), ok
}
