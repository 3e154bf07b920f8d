package registry

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// describe makes a node of a struct of the model. What is zero is left out:
// reading gives the same again.
func describe(v reflect.Value) node {
	n := node{kind: mappingKind}
	schema := recordOf(v.Type())
	for i := range schema.fields {
		f := &schema.fields[i]
		if value := v.Field(f.index); !value.IsZero() || f.always {
			n.pairs = append(n.pairs, pair{key: f.key, value: describeValue(value, f)})
		}
	}
	return n
}

func describeValue(v reflect.Value, f *field) node {
	switch s := v.Interface().(type) {
	case time.Duration:
		return node{kind: textKind, text: formatDuration(s), span: true}
	case netip.Addr:
		return textNode(s.String())
	case netip.AddrPort:
		return textNode(s.String())
	case netip.Prefix:
		return textNode(s.String())
	case []byte:
		return textNode(base64.StdEncoding.EncodeToString(s))
	case []int:
		if f.statuses {
			return describeStatuses(s)
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return describeValue(v.Elem(), f)
	case reflect.Slice:
		n := node{kind: listKind}
		if !v.IsNil() {
			n.items = make([]node, v.Len())
		}
		for i := range n.items {
			n.items[i] = describeValue(v.Index(i), f)
		}
		return n
	case reflect.Map:
		if alone := v.MapIndex(reflect.ValueOf(single)); f.single && v.Len() == 1 && alone.IsValid() {
			return describeValue(alone, f)
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		n := node{kind: mappingKind}
		for _, key := range keys {
			n.pairs = append(n.pairs, pair{key: key.String(), value: describeValue(v.MapIndex(key), f)})
		}
		return n
	case reflect.Struct:
		return describe(v)
	case reflect.String:
		return node{kind: textKind, text: v.String(), secret: v.Type() == reflect.TypeFor[Secret]()}
	case reflect.Bool:
		return node{kind: truthKind, text: strconv.FormatBool(v.Bool())}
	case reflect.Float64:
		return node{kind: fractionKind, text: strconv.FormatFloat(v.Float(), 'f', -1, 64)}
	default:
		return node{kind: wholeKind, text: fmt.Sprint(v)}
	}
}

func textNode(s string) node { return node{kind: textKind, text: s} }

// describeStatuses writes three or more in a row as a range.
func describeStatuses(statuses []int) node {
	n := node{kind: listKind}
	for _, r := range statusRanges(statuses) {
		if r.To-r.From >= 2 {
			n.items = append(n.items, textNode(fmt.Sprintf("%d-%d", r.From, r.To)))
			continue
		}
		for s := r.From; s <= r.To; s++ {
			n.items = append(n.items, node{kind: wholeKind, text: strconv.Itoa(s)})
		}
	}
	return n
}

// formatDuration writes a duration without the zero units that
// [time.Duration.String] ends with: 1m, not 1m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
