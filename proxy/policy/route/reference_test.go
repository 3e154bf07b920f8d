package route

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// The reference is the package's comment, written down as plainly as can be:
// per host, sort the rules by the documented order, and try one after another.

func referenceFind(rules []Rule, r policy.Request) (int, Reason) {
	path := string(r.Path())
	strict, okStrict := referenceReading(path, false)
	lax, okLax := referenceReading(path, true)
	if path == "*" {
		strict, lax, okStrict, okLax = path, path, true, true
	}
	if !okStrict || !okLax {
		return referenceMatch(rules, r, nil)
	}
	a, why := referenceMatch(rules, r, &strict)
	if b, _ := referenceMatch(rules, r, &lax); a != b {
		return None, AmbiguousPath
	}
	return a, why
}

// referenceMatch matches one reading; nil is a path without any.
func referenceMatch(rules []Rule, r policy.Request, path *string) (int, Reason) {
	host := strings.TrimSuffix(string(r.Host()), ".")
	levels := []string{}
	for _, rule := range rules {
		for _, h := range rule.Hosts {
			h = canonicalHost(h)
			domain, wild := strings.CutPrefix(h, "*")
			if h == host || wild && strings.HasSuffix(host, domain) && len(host) > len(domain) && !strings.HasPrefix(host, ".") {
				levels = append(levels, h)
			}
		}
	}
	slices.SortFunc(levels, func(a, b string) int {
		rank := func(h string) int {
			if h == host {
				return 1000
			}
			return strings.Count(h, ".")
		}
		return cmp.Compare(rank(b), rank(a))
	})
	levels = append(slices.Compact(levels), "")
	for _, level := range levels {
		type place struct{ path, length, regex, conditions, bits, index int }
		var places []place
		var patterns []string
		for i, rule := range rules {
			if !referenceStands(rule, level) {
				continue
			}
			if path == nil && rule.Path != "" {
				return None, BadPath
			}
			if rule.PathKind == Regex && !slices.Contains(patterns, rule.Path) {
				patterns = append(patterns, rule.Path)
			}
			p := place{index: i, conditions: referenceCount(rule), bits: -1}
			switch {
			case rule.Path == "":
				p.path = 3
			case rule.PathKind == Exact:
				p.path = 0
			case rule.PathKind == Regex:
				p.path, p.regex = 2, slices.Index(patterns, rule.Path)
			default:
				p.path, p.length = 1, len(rulePath(rule))
			}
			for _, s := range rule.Sources {
				if s.Contains(r.Client().Unmap()) {
					p.bits = max(p.bits, s.Bits())
				}
			}
			places = append(places, p)
		}
		slices.SortFunc(places, func(a, b place) int {
			return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(b.length, a.length), cmp.Compare(a.regex, b.regex),
				cmp.Compare(b.conditions, a.conditions), cmp.Compare(b.bits, a.bits), cmp.Compare(a.index, b.index))
		})
		for _, p := range places {
			if rule := rules[p.index]; (path == nil || referencePath(rule, *path)) && referenceHolds(rule, r) {
				return p.index, Found
			}
		}
	}
	return None, NoRule
}

func referenceStands(rule Rule, level string) bool {
	if level == "" {
		return len(rule.Hosts) == 0
	}
	return slices.ContainsFunc(rule.Hosts, func(h string) bool { return canonicalHost(h) == level })
}

func referenceCount(r Rule) int {
	n := len(r.Headers) + len(r.Cookies) + len(r.Query)
	if len(r.Methods) > 0 {
		n++
	}
	if len(r.Sources) > 0 {
		n++
	}
	return n
}

func referencePath(rule Rule, path string) bool {
	want, _ := referenceReading(rule.Path, false)
	switch {
	case rule.Path == "":
		return true
	case rule.PathKind == Exact:
		return path == want
	case rule.PathKind == Regex:
		return regexp.MustCompile("^(?:" + rule.Path + ")$").MatchString(path)
	}
	want = strings.TrimSuffix(want, "/")
	return path == want || strings.HasPrefix(path, want+"/")
}

func referenceHolds(rule Rule, r policy.Request) bool {
	if len(rule.Methods) > 0 && !slices.Contains(rule.Methods, string(r.Method())) {
		return false
	}
	if len(rule.Sources) > 0 && !slices.ContainsFunc(rule.Sources, func(s netip.Prefix) bool { return s.Contains(r.Client().Unmap()) }) {
		return false
	}
	all := func(fields []Field, get func(name string) (string, bool)) bool {
		for _, f := range fields {
			v, ok := get(f.Name)
			if ok == f.Absent || f.Value != "" && v != f.Value || f.Regex != "" && !regexp.MustCompile("^(?:"+f.Regex+")$").MatchString(v) {
				return false
			}
		}
		return true
	}
	view := func(get func(string) ([]byte, bool), fold func(string) string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			v, ok := get(fold(name))
			return string(v), ok
		}
	}
	return all(rule.Headers, view(r.Header, strings.ToLower)) && all(rule.Cookies, view(r.Cookie, asIs)) &&
		all(rule.Query, func(name string) (string, bool) { return referenceParameter(string(r.Query()), name) })
}

var encodedOctet = regexp.MustCompile("%[0-9A-Fa-f]{2}")

func referenceParameter(query, name string) (string, bool) {
	decode := func(s string) string {
		return encodedOctet.ReplaceAllStringFunc(strings.ReplaceAll(s, "+", " "), func(e string) string {
			c, _ := decoded([]byte(e))
			return string([]byte{c})
		})
	}
	for pair := range strings.SplitSeq(query, "&") {
		if k, v, _ := strings.Cut(pair, "="); pair != "" && decode(k) == name {
			return decode(v), true
		}
	}
	return "", false
}

var (
	badPercent  = regexp.MustCompile("%([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)|%00|\x00")
	encodedSeps = regexp.MustCompile(`(?i)%2f|%5c|\\`)
)

// referenceReading is one pass of replacements after another.
func referenceReading(path string, lax bool) (string, bool) {
	if !strings.HasPrefix(path, "/") || badPercent.MatchString(path) {
		return "", false
	}
	if lax {
		path = regexp.MustCompile("(?i)%3b").ReplaceAllString(path, ";")
		var segments []string
		for s := range strings.SplitSeq(path, "/") {
			s, parameter, _ := strings.Cut(s, ";")
			if encodedSeps.MatchString(parameter) {
				return "", false
			}
			segments = append(segments, encodedSeps.ReplaceAllString(s, "/"))
		}
		path = regexp.MustCompile("/+").ReplaceAllString(strings.Join(segments, "/"), "/")
	}
	path = encodedOctet.ReplaceAllStringFunc(path, func(e string) string {
		if c, _ := decoded([]byte(e)); c != '/' && c != '%' {
			return string([]byte{c})
		}
		return strings.ToUpper(e)
	})
	var out []string // without the empty string before the first slash
	segments := strings.Split(path, "/")[1:]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case "..":
			out = out[:max(0, len(out)-1)]
		case ".":
		default:
			out = append(out, s)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/"), true
}
