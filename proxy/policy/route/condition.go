package route

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// condition is what a rule asks for beyond host and path.
type condition struct {
	methods                 []string
	headers, cookies, query []field
	sources                 *sources // nil: any
	count                   int      // see the package's comment, "Order"
}

// field is a Field, compiled.
type field struct {
	name   string
	value  string // compared when not empty
	regex  *regexp.Regexp
	absent bool
}

// holds reports whether a request meets the condition. Cheap things come
// first.
func (c *condition) holds(r policy.Request) bool {
	if len(c.methods) > 0 && !oneOf(c.methods, r.Method()) {
		return false
	}
	if c.sources != nil && !c.sources.contain(r.Client()) {
		return false
	}
	for i := range c.headers {
		f := &c.headers[i]
		if value, ok := r.Header(f.name); !f.holds(value, ok) {
			return false
		}
	}
	for i := range c.cookies {
		f := &c.cookies[i]
		if value, ok := r.Cookie(f.name); !f.holds(value, ok) {
			return false
		}
	}
	for i := range c.query {
		if f := &c.query[i]; !f.holdsQuery(r.Query()) {
			return false
		}
	}
	return true
}

func oneOf(list []string, b []byte) bool {
	for _, s := range list {
		if string(b) == s {
			return true
		}
	}
	return false
}

func (f *field) holds(value []byte, ok bool) bool {
	switch {
	case !ok || f.absent:
		return ok != f.absent
	case f.value != "":
		return string(value) == f.value
	case f.regex != nil:
		return f.regex.Match(value)
	}
	return true
}

// holdsQuery is holds for a parameter, decoded no further than needed.
func (f *field) holdsQuery(query []byte) bool {
	raw, ok := parameter(query, f.name)
	switch {
	case !ok || f.absent:
		return ok != f.absent
	case f.value != "":
		return equalDecoded(raw, f.value)
	case f.regex == nil:
		return true
	case bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0:
		return f.regex.Match(raw)
	case len(raw) > maxNormal:
		return false
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	return f.regex.Match(appendDecoded(s.a[:0], raw))
}

// sources are prefixes of one length, so that one search finds the client's.
// Both families may be among them; addresses compare by family first.
type sources struct {
	bits      int
	addresses []netip.Addr // the prefixes' first, sorted
}

func (s *sources) contain(client netip.Addr) bool {
	// Prefixes have no zones, and rules no mapped addresses.
	prefix, err := client.Unmap().WithZone("").Prefix(s.bits)
	if err != nil {
		return false // no address, or IPv4 and a longer prefix
	}
	_, found := slices.BinarySearchFunc(s.addresses, prefix.Addr(), netip.Addr.Compare)
	return found
}

// sortEntries puts the most specific first; entries come in order of writing.
func sortEntries(entries []entry) {
	slices.SortStableFunc(entries, func(a, b entry) int {
		x, y := a.condition, b.condition
		return cmp.Or(cmp.Compare(y.number(), x.number()), cmp.Compare(y.bits(), x.bits()))
	})
}

// number is how many things are asked for.
func (c *condition) number() int {
	if c == nil {
		return 0
	}
	return c.count
}

// bits is the length of the source prefixes, -1 without any.
func (c *condition) bits() int {
	if c == nil || c.sources == nil {
		return -1
	}
	return c.sources.bits
}

// compileConditions returns the conditions of a rule: one nil if it has none,
// and one for each length of its source prefixes.
func (d *draft) compileConditions(r Rule) []*condition {
	key := r.conditionKey()
	if all, known := d.conditions[key]; known {
		return all
	}
	c := condition{
		methods: r.Methods,
		headers: compileFields(r.Headers, strings.ToLower),
		cookies: compileFields(r.Cookies, asIs),
		query:   compileFields(r.Query, asIs),
		count:   len(r.Headers) + len(r.Cookies) + len(r.Query),
	}
	if len(r.Methods) > 0 {
		c.count++
	}
	var all []*condition
	switch {
	case len(r.Sources) > 0:
		c.count++
		byBits := map[int][]netip.Addr{}
		for _, s := range r.Sources {
			byBits[s.Bits()] = append(byBits[s.Bits()], s.Addr())
		}
		for bits, addresses := range byBits {
			slices.SortFunc(addresses, netip.Addr.Compare)
			each := c
			each.sources = &sources{bits: bits, addresses: addresses}
			all = append(all, &each)
		}
	case c.count > 0:
		all = append(all, &c)
	default:
		all = append(all, nil)
	}
	d.conditions[key] = all
	return all
}

func compileFields(fields []Field, canonical func(string) string) []field {
	all := make([]field, 0, len(fields))
	for _, f := range fields {
		c := field{name: canonical(f.Name), value: f.Value, absent: f.Absent}
		if f.Regex != "" {
			c.regex = regexp.MustCompile(Whole(f.Regex))
		}
		all = append(all, c)
	}
	return all
}

// conditionKey says what a rule asks for beyond host and path, in a canonical
// form.
func (r Rule) conditionKey() string {
	fields := func(list []Field, canonical func(string) string) []string {
		var all []string
		for _, f := range list {
			all = append(all, fmt.Sprintf("%q=%q~%q%t", canonical(f.Name), f.Value, f.Regex, f.Absent))
		}
		slices.Sort(all)
		return all
	}
	methods := slices.Clone(r.Methods)
	slices.Sort(methods)
	prefixes := slices.Clone(r.Sources)
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return fmt.Sprintf("%q %q %q %q %v", methods, fields(r.Headers, strings.ToLower),
		fields(r.Cookies, asIs), fields(r.Query, asIs), prefixes)
}
