package registry

import (
	"reflect"
	"slices"
)

// Clone returns a copy that shares nothing with c: change it freely.
func (c Config) Clone() Config {
	separate(reflect.ValueOf(&c).Elem())
	return c
}

// separate makes a value's own copy of everything that it refers to.
func separate(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(v.Elem())
			separate(p.Elem())
			v.Set(p)
		}
	case reflect.Slice:
		if b, ok := v.Interface().([]byte); ok {
			v.SetBytes(slices.Clone(b))
		} else if !v.IsNil() {
			s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(s, v)
			for i := range s.Len() {
				separate(s.Index(i))
			}
			v.Set(s)
		}
	case reflect.Map:
		if !v.IsNil() {
			m := reflect.MakeMapWithSize(v.Type(), v.Len())
			for _, key := range v.MapKeys() {
				e := reflect.New(v.Type().Elem()).Elem()
				e.Set(v.MapIndex(key))
				separate(e)
				m.SetMapIndex(key, e)
			}
			v.Set(m)
		}
	case reflect.Struct:
		if isScalar(v.Type()) {
			return
		}
		for i := range v.NumField() {
			separate(v.Field(i))
		}
	}
}
