package registry

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The tags of the model's fields are its schema:
//
//	json      the key, in documents and in JSON
//	alias     a second key in documents, for a list of one
//	required  a document must have it
//	default   the value if it is left out, where that depends on no other field
//	filled    Parse and WithDefaults fill the default in: so did the first
//	          version, and what it stored stays the same. Later defaults are
//	          not stored; Effective fills them in.
//	for       the listener protocols that it is of use with; absent: all
//	range     the lowest and highest value; "(0..1" leaves the 0 out
//	off       one more value, which turns the thing off
//	truth     the number that true stands for; false is 0
//	whole     a duration is in whole seconds
//	words     the values that there are
//	format    the shape of text, by name (see checkFormat); of a list or a
//	          mapping: of its elements
//	keys      the same of a mapping's keys
//	single    "ok" if one value may stand in place of a mapping; its key is then ""
//	max       the most elements of a list or mapping, or bytes of text
//	ref       the list that has the thing that is named
//	least     what a list must have, if it must not be empty
//	empty     "ok" if an empty list or mapping means as much as none
//	null      what to write for a key without a value
//	always    written even if zero
//	statuses  of a list of HTTP statuses: ranges are allowed

// single is the key of a value that stands in place of a mapping.
const single = ""

// field is the schema of one field.
type field struct {
	key, alias             string
	index                  int // in the struct
	typ                    reflect.Type
	fallback               reflect.Value // the default, of the field's type; invalid: none
	required, filled       bool
	always, emptyOK, whole bool
	statuses, single       bool
	bounds                 *bounds
	protocols, words       []string
	format, keys           string
	max                    int // 0: unbounded
	truth                  string
	ref, least, null       string
}

// bounds are of a number, or of a duration in nanoseconds.
type bounds struct {
	low, high         float64
	open              bool // low itself is left out
	lowText, highText string
	off               string // one more value, or ""
}

// record is the schema of a struct.
type record struct {
	fields []field
	byKey  map[string]*field // aliases as well
}

// records has the schema of each type of the model that was asked for.
var records sync.Map // reflect.Type -> *record

// recordOf gives the schema of a struct type.
func recordOf(t reflect.Type) *record {
	if r, ok := records.Load(t); ok {
		return r.(*record)
	}
	r := &record{fields: make([]field, 0, t.NumField()), byKey: map[string]*field{}}
	for i := range t.NumField() {
		r.fields = append(r.fields, fieldOf(i, t.Field(i)))
	}
	for i := range r.fields {
		f := &r.fields[i]
		r.byKey[f.key] = f
		if f.alias != "" {
			r.byKey[f.alias] = f
		}
	}
	records.Store(t, r)
	return r
}

// fieldOf reads the tags of a field. It panics on a tag that means nothing:
// the tests read all.
func fieldOf(index int, s reflect.StructField) field {
	f := field{
		index: index, typ: s.Type,
		key: s.Tag.Get("json"), alias: s.Tag.Get("alias"),
		required: s.Tag.Get("required") == "true", filled: s.Tag.Get("filled") == "true",
		always: s.Tag.Get("always") == "true", emptyOK: s.Tag.Get("empty") == "ok",
		whole: s.Tag.Get("whole") == "true", statuses: s.Tag.Get("statuses") == "true", single: s.Tag.Get("single") == "ok",
		protocols: strings.Fields(s.Tag.Get("for")), words: strings.Fields(s.Tag.Get("words")),
		format: s.Tag.Get("format"), keys: s.Tag.Get("keys"),
		truth: s.Tag.Get("truth"), ref: s.Tag.Get("ref"), least: s.Tag.Get("least"), null: s.Tag.Get("null"),
	}
	if text, ok := s.Tag.Lookup("range"); ok {
		f.bounds = boundsOf(text, s.Tag.Get("off"))
	}
	if text, ok := s.Tag.Lookup("max"); ok {
		f.max = int(must(strconv.ParseInt(text, 10, 32)))
	}
	if text, ok := s.Tag.Lookup("default"); ok {
		f.fallback = scalarOf(s.Type, text)
	}
	return f
}

func boundsOf(text, off string) *bounds {
	b := &bounds{off: off}
	text, b.open = strings.CutPrefix(text, "(")
	b.lowText, b.highText, _ = strings.Cut(text, "..")
	b.low, b.high = magnitude(b.lowText), magnitude(b.highText)
	return b
}

// magnitude reads a number, or a duration in nanoseconds.
func magnitude(s string) float64 {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return v
	}
	return float64(must(time.ParseDuration(s)))
}

// scalarOf makes a value of a field's type, or of a pointer to it, of a tag.
func scalarOf(t reflect.Type, text string) reflect.Value {
	if t.Kind() == reflect.Pointer {
		p := reflect.New(t.Elem())
		p.Elem().Set(scalarOf(t.Elem(), text))
		return p
	}
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[time.Duration](), v.CanInt(), v.CanUint():
		n := int64(magnitude(text))
		if v.CanUint() {
			v.SetUint(uint64(n))
		} else {
			v.SetInt(n)
		}
	case v.CanFloat():
		v.SetFloat(magnitude(text))
	case t.Kind() == reflect.Bool:
		v.SetBool(must(strconv.ParseBool(text)))
	case t.Kind() == reflect.String:
		v.SetString(text)
	default:
		panic(fmt.Sprintf("a default for a %s", t))
	}
	return v
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// holds reports whether a value is within the bounds.
func (b *bounds) holds(v float64) bool {
	if b.off != "" && v == magnitude(b.off) {
		return true
	}
	return v >= b.low && v <= b.high && !(b.open && v == b.low) && !math.IsNaN(v)
}

// String says what a value must be.
func (b *bounds) String() string {
	s := b.lowText + " to " + b.highText
	if b.open {
		s = "above " + b.lowText + " and at most " + b.highText
	}
	if b.off != "" {
		s += ", or " + b.off + " to turn it off"
	}
	return s
}

// anyOf says which words there are, for a reader.
func anyOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// set gives a field its default.
func (f *field) set(v reflect.Value) {
	if f.fallback.Kind() == reflect.Pointer {
		p := reflect.New(f.typ.Elem())
		p.Elem().Set(f.fallback.Elem())
		v.Set(p)
		return
	}
	v.Set(f.fallback)
}

// isScalar reports whether a type is a struct in Go only.
func isScalar(t reflect.Type) bool {
	return t.Kind() != reflect.Struct || t.PkgPath() == "net/netip"
}
