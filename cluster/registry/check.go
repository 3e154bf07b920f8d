package registry

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// checker walks a Config and collects its faults. What the tags of a field say
// is checked here, what several fields must be together in the validate files.
type checker struct {
	doc      *reader                   // what the Config was read from, if it was
	open     Opener                    // of sealed keys; nil: they are not looked into
	unsure   map[string]bool           // the lists of which some names could not be read
	known    map[string]map[string]int // what can be referred to, by list and name
	protocol Protocol                  // of the listener that is being checked
	regexps  map[string]int            // of good patterns: how many groups
	states   int                       // of all good patterns
	faults   Faults
}

func (c *checker) add(path, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// given reports whether a field was written, or without a document whether it
// has a value.
func (c *checker) given(path string, v reflect.Value) bool {
	if c.doc != nil {
		return !c.doc.missing(path)
	}
	return !v.IsZero()
}

// sure reports whether a field could be read, so that its value means something.
func (c *checker) sure(path string) bool { return c.doc == nil || !c.doc.unreadable(path) }

// record checks the fields of a struct of the model, one by one.
func (c *checker) record(path string, v reflect.Value) {
	if l, ok := v.Interface().(Listener); ok {
		if l.Protocol.known() {
			c.protocol = l.Protocol
		}
		defer func() { c.protocol = "" }()
	}
	schema := recordOf(v.Type())
	for i := range schema.fields {
		f := &schema.fields[i]
		c.field(join(path, f.key), v.Field(f.index), f)
	}
}

func (c *checker) field(path string, v reflect.Value, f *field) {
	// Without a document, a field that must be there is as it is.
	given := c.given(path, v) || c.doc == nil && (f.required || f.filled)
	switch {
	case !given && f.required:
		c.add(path, "is required")
	case !given: // the default is good
	case !c.of(f):
		c.add(path, "is of use with %s only, the protocol is %s", anyOf(f.protocols), c.protocol)
	default:
		c.value(path, v, f)
	}
}

// of reports whether the field is of use with the listener's protocol. With one
// that is unknown, everything is.
func (c *checker) of(f *field) bool {
	return len(f.protocols) == 0 || c.protocol == "" || slices.Contains(f.protocols, string(c.protocol))
}

func (c *checker) value(path string, v reflect.Value, f *field) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			if c.doc == nil {
				c.add(path, "is required")
			}
			return
		}
		c.value(path, v.Elem(), f)
	case reflect.Slice:
		if !f.statuses && c.length(path, v.Len(), f) && v.Type().Elem().Kind() != reflect.Uint8 {
			c.list(path, v, f)
		}
	case reflect.Map:
		if c.length(path, v.Len(), f) && v.Type().Elem().Kind() == reflect.String {
			c.mapping(path, v, f)
		}
	case reflect.Struct:
		if !isScalar(v.Type()) {
			c.record(path, v)
		} else if p, ok := v.Interface().(netip.Prefix); ok {
			c.prefix(path, p)
		}
	case reflect.String:
		c.text(path, v.String(), f)
	case reflect.Bool:
	default:
		c.number(path, v, f)
	}
}

// length checks how many elements a list or mapping has, and reports whether
// they are worth a look.
func (c *checker) length(path string, n int, f *field) bool {
	switch {
	case n == 0 && f.least != "":
		c.add(path, "is empty, must %s", f.least)
	case n == 0 && !f.emptyOK:
		c.add(path, "is empty: give it a value or take it out")
	case f.max > 0 && n > f.max:
		c.add(path, "has %d elements, at most %d are allowed", n, f.max)
		return false
	}
	return true
}

func (c *checker) list(path string, v reflect.Value, f *field) {
	named := nameOf(v.Type().Elem())
	seen := map[any]int{}
	for i := range v.Len() {
		at, e := element(path, i), v.Index(i)
		before := len(c.faults)
		c.value(at, e, f)
		switch {
		case named != nil:
			c.unique(at+".name", e.Field(named.index).String(), i, seen)
		case f.format == "name":
			c.unique(at, e.String(), i, seen)
		case !isScalar(e.Type()) || f.typ == reflect.TypeFor[[]netip.Addr](), len(c.faults) > before:
		default:
			if _, twice := seen[e.Interface()]; twice {
				c.add(at, "%s is in the list already", shorten(fmt.Sprint(e)))
			}
			seen[e.Interface()] = i
		}
	}
}

// nameOf gives the field that elements of a list are known by, or nil.
func nameOf(t reflect.Type) *field {
	if isScalar(t) {
		return nil
	}
	if f := recordOf(t).byKey["name"]; f != nil && f.format == "name" {
		return f
	}
	return nil
}

// unique checks that a name is the only one in its list. What is no name was
// told already.
func (c *checker) unique(path, name string, i int, seen map[any]int) {
	if CheckName(name) != nil {
		return
	}
	if first, twice := seen[name]; twice {
		c.add(path, "%s is the name of number %d of this list already", quote(name), first+1)
		return
	}
	seen[name] = i
}

func (c *checker) mapping(path string, v reflect.Value, f *field) {
	seen := map[string]string{}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys {
		key := k.String()
		at := join(path, key)
		if message := checkFormat(f.keys, key); message != "" {
			c.add(at, "%s", message)
			continue
		}
		if other, ok := seen[strings.ToLower(key)]; ok {
			c.add(at, "%s and %s are the same name: case makes no difference", key, other)
		}
		seen[strings.ToLower(key)] = key
		c.text(at, v.MapIndex(k).String(), f)
	}
}

func (c *checker) text(path, s string, f *field) {
	switch {
	case f.max > 0 && f.typ.Kind() == reflect.String && len(s) > f.max:
		c.add(path, "has %d bytes, at most %d are allowed", len(s), f.max)
	case len(f.words) > 0 && !slices.Contains(f.words, s):
		c.add(path, "is %s, must be %s", quote(s), anyOf(f.words))
	case f.ref != "":
		c.reference(path, s, f.ref)
	case f.format == "regexp":
		c.pattern(path, s)
	case f.format != "":
		if message := checkFormat(f.format, s); message != "" {
			c.add(path, "%s", message)
		}
	case s == "" && f.required:
		c.add(path, "is empty")
	}
}

func (c *checker) number(path string, v reflect.Value, f *field) {
	if d, ok := v.Interface().(time.Duration); ok {
		switch {
		case f.whole && (!f.bounds.holds(float64(d)) || d%time.Second != 0):
			c.add(path, "is %s, must be whole seconds, %s", formatDuration(d), f.bounds)
		case !f.bounds.holds(float64(d)):
			c.add(path, "is %s, must be %s", formatDuration(d), f.bounds)
		}
		return
	}
	var n float64
	switch {
	case v.CanInt():
		n = float64(v.Int())
	case v.CanUint():
		n = float64(v.Uint())
	default:
		n = v.Float()
	}
	switch {
	case f.bounds != nil && !f.bounds.holds(n):
		c.add(path, "is %s, must be %s", describeValue(v, f).text, f.bounds)
	case len(f.words) > 0 && !slices.Contains(f.words, fmt.Sprint(v)):
		c.add(path, "is %v, must be %s", v, anyOf(f.words))
	}
}

func (c *checker) prefix(path string, p netip.Prefix) {
	switch {
	case !p.IsValid():
		c.add(path, "must be a network such as 10.0.0.0/8 or 2001:db8::/32")
	case p != p.Masked():
		c.add(path, "is %s, which has bits set beyond its length: write %s", p, p.Masked())
	case p.Addr().Is4In6():
		c.add(path, "is %s, of IPv4-mapped IPv6 addresses: write it as IPv4", p)
	}
}

// reference checks that a field names an existing element of a list.
func (c *checker) reference(path, name, list string) {
	kind := strings.TrimSuffix(list, "s")
	if kind == "vip" {
		kind = "VIP"
	}
	known := c.known[list]
	if _, ok := known[name]; ok || c.unsure[list] {
		return
	}
	if near := c.suggest(name, known); near != "" {
		c.add(path, "there is no %s %s; did you mean %s?", kind, quote(name), near)
		return
	}
	c.add(path, "there is no %s %s", kind, quote(name))
}

// suggest gives a name near the one that was not found. With very many names
// or faults the search would take longer than its answer is worth.
func (c *checker) suggest(name string, known map[string]int) string {
	const most = 1000
	if len(known) > most || len(c.faults) > most/10 {
		return ""
	}
	return nearest(name, slices.Sorted(maps.Keys(known))) // sorted, for one answer among several near ones
}
