package registry

import (
	"fmt"
	"strings"
)

// Marshal writes a configuration as a YAML document from which Parse makes the
// same one, defaults written out: a later version with other defaults reads
// the same from it. The error is Faults, if the configuration is not valid: a
// document that Parse refuses is never made.
func (c Config) Marshal() ([]byte, error) {
	if faults := c.Validate(); len(faults) > 0 {
		return nil, faults
	}
	var b strings.Builder
	section(&b, "vips", c.VIPs, func(v VIP) []string { return lines(v.entries()) })
	section(&b, "neighbors", c.Neighbors, func(n Neighbor) []string { return lines(n.entries()) })
	section(&b, "listeners", c.Listeners, func(l Listener) []string { return lines(l.entries()) })
	section(&b, "pools", c.Pools, func(p Pool) []string {
		all := lines(p.entries())
		if len(p.Servers) == 0 {
			return append(all, "servers: []")
		}
		all = append(all, "servers:")
		for _, s := range p.Servers {
			all = append(all, "  - {"+flow(s.entries())+"}")
		}
		return all
	})
	return []byte(b.String()), nil
}

// section writes one list of the document, if it has elements.
func section[T any](b *strings.Builder, key string, elements []T, write func(T) []string) {
	if len(elements) == 0 {
		return
	}
	fmt.Fprintf(b, "%s:\n", key)
	for _, e := range elements {
		for i, line := range write(e) {
			indent := "    "
			if i == 0 {
				indent = "  - "
			}
			b.WriteString(indent + line + "\n")
		}
	}
}

// lines writes a mapping in block style, what is in it in flow style.
func lines(entries []entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = flow([]entry{e})
	}
	return all
}

// flow writes the inside of a mapping in flow style.
func flow(entries []entry) string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.key + ": " + e.flowValue()
	}
	return strings.Join(all, ", ")
}

func (e entry) flowValue() string {
	switch {
	case e.sub != nil:
		return "{" + flow(e.sub) + "}"
	case e.list != nil:
		return "[" + strings.Join(e.list, ", ") + "]"
	default:
		return e.value
	}
}
