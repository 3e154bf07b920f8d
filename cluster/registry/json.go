package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// The JSON of a Config goes into the Raft log and its snapshots: field names
// and forms stay as they are. It has the shape of the YAML. Reading is strict,
// whatever the decoder was told: a field that this version does not know came
// from a newer one, and to drop it would make replicas differ.

// MarshalJSON writes a configuration.
func (c Config) MarshalJSON() ([]byte, error) {
	return appendJSON(nil, describe(reflect.ValueOf(c)))
}

// UnmarshalJSON reads what MarshalJSON of this or an older version wrote, and
// fills nothing in. Unknown fields are an error. It checks types, not values.
func (c *Config) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, err := readJSON(d)
	if err != nil {
		return fmt.Errorf("read a configuration: %w", err)
	}
	var read Config
	r := newReader(n)
	r.record("", n, reflect.ValueOf(&read).Elem())
	if len(r.faults) > 0 {
		return fmt.Errorf("read a configuration: %w", r.faults)
	}
	*c = read
	return nil
}

// readJSON reads the next value.
func readJSON(d *json.Decoder) (node, error) {
	t, err := d.Token()
	if err != nil {
		return node{}, err
	}
	switch t := t.(type) {
	case string:
		return node{kind: textKind, text: t, quoted: true}, nil
	case json.Number:
		if strings.ContainsAny(t.String(), ".eE") {
			return node{kind: fractionKind, text: t.String()}, nil
		}
		return node{kind: wholeKind, text: t.String()}, nil
	case bool:
		return node{kind: truthKind, text: strconv.FormatBool(t)}, nil
	case json.Delim:
		n := node{kind: listKind}
		if t == '{' {
			n.kind = mappingKind
		}
		for d.More() {
			var p pair
			if n.kind == mappingKind {
				key, err := d.Token()
				if err != nil {
					return node{}, err
				}
				p.key, _ = key.(string) // nothing else stands there
			}
			if p.value, err = readJSON(d); err != nil {
				return node{}, err
			}
			if n.kind == mappingKind {
				n.pairs = append(n.pairs, p)
			} else {
				n.items = append(n.items, p.value)
			}
		}
		_, err := d.Token() // the end
		return n, err
	}
	return node{}, nil
}

// appendJSON writes a node.
func appendJSON(b []byte, n node) ([]byte, error) {
	switch n.kind {
	case textKind:
		text, err := json.Marshal(n.text)
		return append(b, text...), err
	case listKind:
		if n.items == nil {
			return append(b, "null"...), nil
		}
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = appendJSON(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case mappingKind:
		// Durations come last: so the first version had them, and the text is
		// better off without a change that means nothing.
		var pairs, spans []pair
		for _, p := range n.pairs {
			if p.value.span {
				spans = append(spans, p)
			} else {
				pairs = append(pairs, p)
			}
		}
		pairs = append(pairs, spans...)
		b = append(b, '{')
		for i, p := range pairs {
			if i > 0 {
				b = append(b, ',')
			}
			key, err := json.Marshal(p.key)
			if err != nil {
				return nil, err
			}
			b = append(append(b, key...), ':')
			if b, err = appendJSON(b, p.value); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	default:
		return append(b, n.text...), nil
	}
}
