package registry

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// lineWidth is how long a mapping or list in flow style may make a line.
const lineWidth = 120

// lines writes the inside of a mapping in block style. What is in it is in flow
// style where that fits.
func (n node) lines(indent int) []string {
	var all []string
	for _, p := range n.pairs {
		key := scalar(p.key)
		v := p.value
		switch {
		case v.kind == textKind && isBlockText(v.text):
			style := "|"
			if !strings.HasSuffix(v.text, "\n") {
				style = "|-"
			}
			all = append(all, key+": "+style)
			all = append(all, indented(strings.Split(strings.TrimSuffix(v.text, "\n"), "\n"))...)
		case v.kind == mappingKind && !v.fits(indent+len(key)):
			all = append(all, key+":")
			all = append(all, indented(v.lines(indent+2))...)
		case v.kind == listKind && len(v.items) > 0 && (v.items[0].kind == mappingKind || !v.fits(indent+len(key))):
			all = append(all, key+":")
			for _, item := range v.items {
				all = append(all, indented(item.itemLines(indent+2))...)
			}
		default:
			all = append(all, key+": "+v.flow())
		}
	}
	return all
}

// itemLines writes an item of a list in block style.
func (n node) itemLines(indent int) []string {
	if n.kind != mappingKind || n.fits(indent+2) {
		return []string{"- " + n.flow()}
	}
	return dashed(n.lines(indent + 2))
}

// dashed makes lines an item of a list.
func dashed(lines []string) []string {
	lines = indented(lines)
	if len(lines) > 0 {
		lines[0] = "- " + lines[0][2:]
	}
	return lines
}

func indented(lines []string) []string {
	all := make([]string, len(lines))
	for i, line := range lines {
		all[i] = "  " + line
	}
	return all
}

// fits reports whether a mapping or list is good to read on one line, behind
// so many characters.
func (n node) fits(behind int) bool { return !n.hasBlockText() && behind+len(n.flow()) <= lineWidth }

func (n node) hasBlockText() bool {
	return n.kind == textKind && isBlockText(n.text) ||
		slices.ContainsFunc(n.items, node.hasBlockText) ||
		slices.ContainsFunc(n.pairs, func(p pair) bool { return p.value.hasBlockText() })
}

// isBlockText reports whether text is written as a literal block (YAML 1.2.2
// 8.1.2): two or more lines in which nothing needs an escape.
func isBlockText(s string) bool {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return len(lines) > 1 && !slices.ContainsFunc(lines, func(line string) bool {
		return line == "" || strings.Trim(line, " ") != line || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' })
	})
}

// flow writes a node in flow style.
func (n node) flow() string {
	switch n.kind {
	case mappingKind:
		all := make([]string, len(n.pairs))
		for i, p := range n.pairs {
			all[i] = scalar(p.key) + ": " + p.value.flow()
		}
		return "{" + strings.Join(all, ", ") + "}"
	case listKind:
		all := make([]string, len(n.items))
		for i, item := range n.items {
			all[i] = item.flow()
		}
		return "[" + strings.Join(all, ", ") + "]"
	case textKind:
		if n.span {
			return n.text // which is nothing else in any version of YAML
		}
		return scalar(n.text)
	default:
		return n.text
	}
}

// scalar writes text as YAML that reads as the same text everywhere: plain if
// it cannot be taken for anything else, else in double quotes.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	return doubleQuoted(s)
}

// plain reports whether text may go without quotes. That is less than YAML
// allows: the words and shapes that some version of it reads as a number, a
// truth value, a date or base 60 are left out.
func plain(s string) bool {
	if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/") != "" {
		return false
	}
	if slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}, strings.ToLower(s)) {
		return false
	}
	if s[0] == '/' || s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z' {
		return true
	}
	return isIPv4(s)
}

// isIPv4 reports whether text has the shape of an IPv4 address: three dots
// make it no number.
func isIPv4(s string) bool {
	return strings.Count(s, ".") == 3 && strings.Trim(s, "0123456789.") == "" && s[0] != '.' && s[len(s)-1] != '.'
}

// doubleQuoted writes text as a double-quoted YAML scalar (YAML 1.2.2 7.3.1).
func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ' || r >= 0x7f && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
