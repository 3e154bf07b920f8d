package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder turns a syntax tree into values, and collects what does not fit. It
// keeps the position of every field, by path, so that the checks of the model,
// which know paths only, can be given positions.
type decoder struct {
	faults    Faults
	positions map[string]position
	null      map[string]bool // there, but without a value
	broken    map[string]bool // could not be decoded: the model's value means nothing
}

// field is one key of a mapping and what decodes its value.
type field struct {
	key  string
	read func(path string, n ast.Node)
}

// fault adds a fault about the field at path.
func (d *decoder) fault(path string, at position, format string, args ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, Fault{Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// wrong says that the value at path could not be decoded.
func (d *decoder) wrong(path string, n ast.Node, format string, args ...any) {
	d.broken[path] = true
	d.fault(path, positionOf(n), format, args...)
}

// mapping decodes a mapping of known keys.
func (d *decoder) mapping(path string, n ast.Node, fields []field) {
	d.pairs(path, n, func(key string, at position, path string, value ast.Node) {
		for _, f := range fields {
			if f.key == key {
				f.read(path, value)
				return
			}
		}
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = f.key
		}
		if near := nearest(key, names); near != "" {
			d.fault(path, at, "unknown key; did you mean %s?", near)
			return
		}
		d.fault(path, at, "unknown key; known here are %s", strings.Join(names, ", "))
	})
}

// pairs calls read for each key of a mapping that has a value.
func (d *decoder) pairs(path string, n ast.Node, read func(key string, at position, path string, value ast.Node)) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.wrong(path, n, "is %s, must be a mapping", kindOf(n))
		return
	}
	seen := make(map[string]position, len(values))
	for _, v := range values {
		at := positionOf(v.Key)
		var key string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		default:
			key = k.GetToken().Value
		}
		child := join(path, key)
		if first, ok := seen[key]; ok {
			d.fault(child, at, "duplicate key; it is set in line %d already", first.line)
			continue
		}
		seen[key] = at
		if _, ok := v.Value.(*ast.NullNode); ok || v.Value == nil {
			d.positions[child], d.null[child] = at, true
			read(key, at, child, nil)
			continue
		}
		d.positions[child] = positionOf(v.Value)
		read(key, at, child, v.Value)
	}
}

// list decodes a list: grow is told its length, then read gets each element. An
// absent value is an empty list.
func (d *decoder) list(path string, n ast.Node, grow func(int), read func(i int, path string, n ast.Node)) {
	if n == nil {
		return
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(path, n, "is %s, must be a list", kindOf(n))
		return
	}
	if len(seq.Values) == 0 {
		return
	}
	grow(len(seq.Values))
	for i, v := range seq.Values {
		child := fmt.Sprintf("%s[%d]", path, i)
		if v == nil {
			d.positions[child] = d.positions[path]
			d.broken[child] = true
			d.fault(child, d.positions[path], "is empty: give it a value or take it out")
			continue
		}
		d.positions[child] = positionOf(v)
		if _, ok := v.(*ast.NullNode); ok {
			d.wrong(child, v, "is empty: give it a value or take it out")
			continue
		}
		read(i, child, v)
	}
}

// text decodes a string. A number is not one: YAML would have changed some
// (010, 1e3), so it needs quotes.
func (d *decoder) text(path string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case nil:
		return "", false
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		d.wrong(path, n, "is %s, must be text: put it in quotes", kindOf(n))
	default:
		d.wrong(path, n, "is %s, must be text", kindOf(n))
	}
	return "", false
}

// token decodes text that has its own shape, such as an address: here a number
// is as wrong as any other text, and quotes would not help.
func (d *decoder) token(path string, n ast.Node) (string, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	default:
		return d.text(path, n)
	}
}

// integer decodes a whole number in plain decimal digits and within bounds.
func (d *decoder) integer(path string, n ast.Node, lowest, highest int64) (int64, bool) {
	if n == nil {
		return 0, false
	}
	t := n.GetToken()
	quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
	switch n.(type) {
	case *ast.IntegerNode, *ast.StringNode, *ast.FloatNode:
	default:
		d.wrong(path, n, "is %s, must be a whole number", kindOf(n))
		return 0, false
	}
	digits := strings.TrimPrefix(t.Value, "-")
	plain := digits != "" && strings.Trim(digits, "0123456789") == ""
	switch {
	case plain && quoted:
		d.wrong(path, n, "is text, must be a whole number: take the quotes off")
		return 0, false
	case !plain && (quoted || n.Type() == ast.StringType):
		d.wrong(path, n, "is text, must be a whole number")
		return 0, false
	case !plain || (len(digits) > 1 && digits[0] == '0'):
		d.wrong(path, n, "is %s, must be a whole number in plain decimal digits", shorten(t.Value))
		return 0, false
	}
	v, err := strconv.ParseInt(t.Value, 10, 64)
	if err != nil || v < lowest || v > highest {
		d.wrong(path, n, "is %s, must be %d to %d", shorten(t.Value), lowest, highest)
		return 0, false
	}
	return v, true
}

// truth decodes true or false.
func (d *decoder) truth(path string, n ast.Node) (bool, bool) {
	switch n := n.(type) {
	case nil:
		return false, false
	case *ast.BoolNode:
		return n.Value, true
	default:
		d.wrong(path, n, "is %s, must be true or false", kindOf(n))
		return false, false
	}
}

// duration decodes a duration such as 2s, 50ms or 1m30s.
func (d *decoder) duration(path string, n ast.Node) (time.Duration, bool) {
	if n == nil {
		return 0, false
	}
	if n.Type() == ast.IntegerType {
		v := n.GetToken().Value
		d.wrong(path, n, "has no unit: write %ss for seconds, %sms for milliseconds", shorten(v), shorten(v))
		return 0, false
	}
	s, ok := n.(*ast.StringNode)
	if !ok {
		d.wrong(path, n, "is %s, must be a duration such as 2s or 500ms", kindOf(n))
		return 0, false
	}
	v, err := time.ParseDuration(s.Value)
	if err != nil {
		d.wrong(path, n, "is %s, must be a duration such as 2s, 500ms or 1m30s", quote(s.Value))
		return 0, false
	}
	return v, true
}

// address decodes an IP address.
func (d *decoder) address(path string, n ast.Node) (netip.Addr, bool) {
	s, ok := d.token(path, n)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if _, err := netip.ParsePrefix(s); err == nil {
			d.wrong(path, n, "is %s, must be an address without a prefix length", quote(s))
		} else {
			d.wrong(path, n, "is %s, must be an IPv4 or IPv6 address", quote(s))
		}
		return netip.Addr{}, false
	}
	return a, true
}

// addressPort decodes address:port.
func (d *decoder) addressPort(path string, n ast.Node) (netip.AddrPort, bool) {
	s, ok := d.token(path, n)
	if !ok {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		if _, err := netip.ParseAddr(s); err == nil {
			d.wrong(path, n, "is %s: the port is missing", quote(s))
		} else {
			d.wrong(path, n, "is %s, must be address:port such as 10.0.1.10:8080 or [2001:db8::1]:8080", quote(s))
		}
		return netip.AddrPort{}, false
	}
	return a, true
}

// kindOf names the kind of a node for a reader.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "empty"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	default:
		return "text"
	}
}

// join adds a key to a path. A key that is no plain word is quoted.
func join(path, key string) string {
	if CheckName(strings.ToLower(key)) != nil {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// parent is the path of what holds the field at path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// shorten bounds what a message repeats of a document.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// quote is shorten, in quotes and with control characters escaped.
func quote(s string) string { return strconv.Quote(shorten(s)) }

// CheckName says what is wrong with a name, or nil. Names of all kinds, those
// of nodes included, have 1 to 63 of a-z, 0-9, "_", "." and "-", and begin with
// a letter or a digit: such a name is safe in a path, a label and a URL.
func CheckName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	if len(name) > 63 {
		return fmt.Errorf("has %d characters, at most 63 are allowed", len(name))
	}
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		case (r == '_' || r == '.' || r == '-') && i > 0:
		case r == '_' || r == '.' || r == '-':
			return fmt.Errorf("is %s: the first character must be a letter or a digit", quote(name))
		default:
			return fmt.Errorf("is %s: %q is not one of a-z, 0-9, _, . and -", quote(name), r)
		}
	}
	return nil
}
