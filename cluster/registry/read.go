package registry

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// reader makes values of nodes, and collects what does not fit. It keeps the
// position of every field, by path, so that the checks of the model, which
// know paths only, can be given positions.
type reader struct {
	fillIn    bool // the defaults that are stored
	faults    Faults
	positions map[string]position
	null      map[string]bool // there, but without a value
	broken    map[string]bool // could not be read: the model's value means nothing
}

func newReader(root node) *reader {
	return &reader{positions: map[string]position{"": root.at}, null: map[string]bool{}, broken: map[string]bool{}}
}

// fault adds a fault about the field at path.
func (r *reader) fault(path string, at position, format string, args ...any) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, Fault{Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// wrong says that the value at path could not be read.
func (r *reader) wrong(path string, n node, format string, args ...any) {
	r.broken[path] = true
	r.fault(path, n.at, format, args...)
}

// record reads a mapping of known keys into a struct.
func (r *reader) record(path string, n node, to reflect.Value) {
	schema := recordOf(to.Type())
	for i := range schema.fields {
		if f := &schema.fields[i]; r.fillIn && f.filled && f.fallback.IsValid() {
			f.set(to.Field(f.index))
		}
	}
	aliased := map[string]position{}
	r.pairs(path, n, func(key string, at position, path string, value node) {
		f := schema.byKey[key]
		if f == nil {
			r.unknown(path, at, key, schema)
			return
		}
		if f.alias != "" {
			if _, twice := aliased[f.key]; twice {
				r.fault(path, at, "%s and %s mean the same: write one of them", f.key, f.alias)
				return
			}
			aliased[f.key] = at
			if key == f.alias {
				// From here on it is a list of one.
				path = strings.TrimSuffix(path, key) + f.key
				r.positions[path] = value.at
				if value.kind != nullKind {
					value = node{kind: listKind, at: value.at, items: []node{value}}
				}
			}
		}
		r.value(path, value, to.Field(f.index), f)
	})
	if v, ok := to.Addr().Interface().(dependent); ok && r.fillIn {
		v.fillIn(func(key string) bool { return r.missing(join(path, key)) })
	}
}

func (r *reader) unknown(path string, at position, key string, schema *record) {
	names := make([]string, len(schema.fields))
	for i, f := range schema.fields {
		names[i] = f.key
	}
	if near := nearest(key, names); near != "" {
		r.fault(path, at, "unknown key; did you mean %s?", near)
		return
	}
	r.fault(path, at, "unknown key; known here are %s", strings.Join(names, ", "))
}

// pairs calls read for each key of a mapping.
func (r *reader) pairs(path string, n node, read func(key string, at position, path string, value node)) {
	if n.kind != mappingKind {
		r.wrong(path, n, "is %s, must be a mapping", n.kind)
		return
	}
	seen := make(map[string]position, len(n.pairs))
	for _, p := range n.pairs {
		child := join(path, p.key)
		if first, ok := seen[p.key]; ok {
			r.fault(child, p.at, "duplicate key; it is set in line %d already", first.line)
			continue
		}
		seen[p.key] = p.at
		r.positions[child] = p.value.at
		if p.value.kind == nullKind {
			r.null[child] = true
		}
		read(p.key, p.at, child, p.value)
	}
}

// value reads what is not a mapping of known keys, or goes on with one. Without
// a value, the default that stands there stays.
func (r *reader) value(path string, n node, to reflect.Value, f *field) {
	t := to.Type()
	if n.kind == nullKind {
		if t.Kind() == reflect.Pointer && !isScalar(t.Elem()) {
			// Whether this means all defaults or none is anyone's guess.
			r.wrong(path, n, "is empty: %s", f.instead(t.Elem()))
		}
		return
	}
	switch {
	case f.statuses:
		r.statuses(path, n, to.Addr().Interface().(*[]int))
	case t == reflect.TypeFor[[]byte]():
		r.bytes(path, n, to)
	case t.Kind() == reflect.Pointer:
		v := reflect.New(t.Elem())
		r.value(path, n, v.Elem(), f)
		if !r.broken[path] {
			to.Set(v)
		}
	case t.Kind() == reflect.Slice:
		r.list(path, n, to, f)
	case t.Kind() == reflect.Map:
		r.mapping(path, n, to, f)
	case !isScalar(t):
		r.record(path, n, to)
	default:
		r.scalar(path, n, to, f)
	}
}

// instead says what to write for a key that has no value.
func (f *field) instead(t reflect.Type) string {
	required := func(f field) bool { return f.required }
	switch {
	case f.null != "":
		return f.null
	case slices.ContainsFunc(recordOf(t).fields, required):
		return "give it its fields, or take it out"
	default:
		return "write {} for all defaults, or take it out"
	}
}

func (r *reader) list(path string, n node, to reflect.Value, f *field) {
	if n.kind != listKind {
		r.wrong(path, n, "is %s, must be a list", n.kind)
		return
	}
	if len(n.items) == 0 {
		return
	}
	all := reflect.MakeSlice(to.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		child := element(path, i)
		r.positions[child] = item.at
		if item.kind == nullKind {
			r.wrong(child, item, "is empty: give it a value or take it out")
			continue
		}
		r.value(child, item, all.Index(i), f)
	}
	to.Set(all)
}

// mapping reads a mapping whose keys are the operator's.
func (r *reader) mapping(path string, n node, to reflect.Value, f *field) {
	all := reflect.MakeMap(to.Type())
	if f.single && n.kind != mappingKind {
		v := reflect.New(to.Type().Elem()).Elem()
		if r.value(path, n, v, f); !r.broken[path] {
			all.SetMapIndex(reflect.ValueOf(single), v)
			to.Set(all)
		}
		return
	}
	r.pairs(path, n, func(key string, at position, path string, value node) {
		switch {
		case value.kind == nullKind && (f.single || to.Type().Elem().Kind() == reflect.String):
			r.wrong(path, value, "is empty: give it a value or take it out")
			return
		case f.single && key == single:
			r.wrong(path, value, "has an empty key: write the value alone, or by the name that it is for")
			return
		}
		v := reflect.New(to.Type().Elem()).Elem()
		r.value(path, value, v, f)
		all.SetMapIndex(reflect.ValueOf(key), v)
	})
	if all.Len() > 0 {
		to.Set(all)
	}
}

func (r *reader) scalar(path string, n node, to reflect.Value, f *field) {
	switch to := to.Addr().Interface().(type) {
	case *time.Duration:
		r.duration(path, n, to)
		return
	case *netip.Addr:
		r.address(path, n, to)
		return
	case *netip.AddrPort:
		r.addressPort(path, n, to)
		return
	case *netip.Prefix:
		r.prefix(path, n, to)
		return
	}
	switch {
	case to.Kind() == reflect.Bool:
		if n.kind != truthKind {
			r.wrong(path, n, "is %s, must be true or false", n.kind)
			return
		}
		to.SetBool(n.text == "true")
	case to.Kind() == reflect.String:
		read := r.text
		if f.shaped() {
			read = r.token
		}
		if s, ok := read(path, n); ok {
			to.SetString(s)
		}
	case to.CanFloat():
		r.fraction(path, n, to, f)
	default:
		r.integer(path, n, to, f)
	}
}

// missing reports whether the document has no value at path.
func (r *reader) missing(path string) bool {
	_, there := r.positions[path]
	return !there || r.null[path]
}

// unreadable reports whether the field at path, or what holds it, could not be
// read.
func (r *reader) unreadable(path string) bool {
	for ; path != ""; path = parent(path) {
		if r.broken[path] {
			return true
		}
	}
	return r.broken[""]
}
