package registry

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// everyRecord calls visit for each struct type of the model, once.
func everyRecord(visit func(reflect.Type)) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if isScalar(t) || seen[t] {
			return
		}
		seen[t] = true
		visit(t)
		for i := range t.NumField() {
			walk(t.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Config]())
}

func TestEveryTagMeansSomething(t *testing.T) {
	known := strings.Fields("json alias required default filled for range off truth whole words format keys max ref least empty null always statuses single")
	protocols := recordOf(reflect.TypeFor[Listener]()).byKey["protocol"].words
	count := 0
	everyRecord(func(typ reflect.Type) {
		for i := range typ.NumField() {
			s := typ.Field(i)
			at := typ.Name() + "." + s.Name
			for _, tag := range strings.Fields(string(s.Tag)) {
				// Values may have blanks: only what has a colon and a quote begins a tag.
				if name, _, ok := strings.Cut(tag, `:"`); ok && !slices.Contains(known, name) {
					t.Errorf("%s: the tag %s is not known", at, name)
				}
			}
			f := fieldOf(i, s) // panics on a tag that it cannot read
			count++
			if f.key == "" || CheckName(f.key) != nil {
				t.Errorf("%s: the key is %q", at, f.key)
			}
			for _, format := range []string{f.format, f.keys} {
				if format != "regexp" {
					checkFormat(format, "x") // panics on one that it does not know
				}
			}
			for _, p := range f.protocols {
				if !slices.Contains(protocols, p) {
					t.Errorf("%s: %s is no protocol", at, p)
				}
			}
			if f.fallback.IsValid() {
				v := reflect.Indirect(f.fallback)
				c := &checker{}
				if c.value("default", v, &f); len(c.faults) > 0 {
					t.Errorf("%s: %v", at, c.faults)
				}
				if !f.filled && v.IsZero() {
					t.Errorf("%s: the default is the zero value, and needs no tag", at)
				}
			}
			if f.bounds != nil && f.bounds.low >= f.bounds.high {
				t.Errorf("%s: the range is %s", at, f.bounds)
			}
			// A number whose zero is no value of it is absent if zero; one whose zero
			// is a value, and not the default, must be a pointer.
			if f.fallback.IsValid() && s.Type.Kind() != reflect.Pointer && f.bounds != nil && f.bounds.holds(0) {
				t.Errorf("%s: 0 cannot be told from the default", at)
			}
			if f.fallback.IsValid() && s.Type.Kind() == reflect.Bool {
				t.Errorf("%s: false cannot be told from the default", at)
			}
		}
	})
	if count < 150 {
		t.Errorf("only %d fields were seen", count)
	}
}

func TestTheGeneratorSetsEveryField(t *testing.T) {
	unset := map[string]bool{}
	everyRecord(func(typ reflect.Type) {
		for _, f := range recordOf(typ).fields {
			unset[typ.Name()+"."+f.key] = true
			for _, word := range f.words {
				unset[fmt.Sprintf("%s.%s=%s", typ.Name(), f.key, word)] = true
			}
		}
	})
	gen := genConfig()
	for seed := 0; seed < 2000 && len(unset) > 0; seed++ {
		everyValue(reflect.ValueOf(gen.Example(seed)), func(v reflect.Value, f field) {
			delete(unset, v.Type().Name()+"."+f.key)
			delete(unset, fmt.Sprintf("%s.%s=%v", v.Type().Name(), f.key, v.Field(f.index)))
		})
	}
	if len(unset) > 0 {
		t.Errorf("no configuration has a value for %v", slices.Sorted(maps.Keys(unset)))
	}
}
