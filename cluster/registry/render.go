package registry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// entry is one field of something in a Config, as a document has it. Marshal
// prints entries and Diff compares them, so that what can be written and what
// can differ are one list.
type entry struct {
	key   string
	value string // of a scalar, as YAML
	list  []string
	sub   []entry // of a mapping
}

func (v VIP) entries() []entry {
	return present(
		text("name", v.Name),
		list("addresses", v.Addresses),
		text("mode", string(v.Mode)),
		list("communities", v.Communities),
		number0("min_healthy", v.MinHealthy),
	)
}

func (b Neighbor) entries() []entry {
	all := present(
		text("name", b.Name),
		text("address", b.Address.String()),
		entry{key: "port", value: fmt.Sprint(b.Port)},
		entry{key: "asn", value: fmt.Sprint(b.ASN)},
		entry{key: "local_asn", value: fmt.Sprint(b.LocalASN)},
		list("nodes", b.Nodes),
		entry{key: "hold_time", value: formatDuration(b.HoldTime)},
		entry{key: "connect_retry", value: formatDuration(b.ConnectRetry)},
		list("communities", b.Communities),
	)
	if b.MED != nil {
		all = append(all, entry{key: "med", value: fmt.Sprint(*b.MED)})
	}
	if b.ASPathPrepend != 0 {
		all = append(all, entry{key: "as_path_prepend", value: fmt.Sprint(b.ASPathPrepend)})
	}
	if len(b.NextHops) > 0 {
		hops := entry{key: "next_hops"}
		for _, node := range slices.Sorted(maps.Keys(b.NextHops)) {
			e := list(scalar(node), b.NextHops[node])
			hops.sub = append(hops.sub, e)
		}
		all = append(all, hops)
	}
	return all
}

func (l Listener) entries() []entry {
	return []entry{
		text("name", l.Name),
		text("vip", l.VIP),
		{key: "port", value: fmt.Sprint(l.Port)},
		text("protocol", string(l.Protocol)),
		text("pool", l.Pool),
	}
}

// entries are all but the servers.
func (p Pool) entries() []entry {
	all := []entry{text("name", p.Name), text("balance", string(p.Balance))}
	if p.HealthCheck != nil {
		all = append(all, entry{key: "health_check", sub: p.HealthCheck.entries()})
	}
	return all
}

func (h HealthCheck) entries() []entry {
	var all []entry
	if h.HTTP != "" {
		all = append(all, text("http", h.HTTP))
	}
	return append(all, present(
		list("expect_status", h.ExpectStatus),
		entry{key: "interval", value: formatDuration(h.Interval)},
		entry{key: "timeout", value: formatDuration(h.Timeout)},
		entry{key: "fall", value: fmt.Sprint(h.Fall)},
		entry{key: "rise", value: fmt.Sprint(h.Rise)},
	)...)
}

func (s Server) entries() []entry {
	all := []entry{text("name", s.Name), text("address", s.Address.String())}
	if s.Weight != nil {
		all = append(all, entry{key: "weight", value: fmt.Sprint(*s.Weight)})
	}
	if s.Backup {
		all = append(all, entry{key: "backup", value: "true"})
	}
	return all
}

func text(key, value string) entry { return entry{key: key, value: scalar(value)} }

func number0(key string, value int) entry {
	if value == 0 {
		return entry{}
	}
	return entry{key: key, value: strconv.Itoa(value)}
}

func list[T any](key string, values []T) entry {
	if len(values) == 0 {
		return entry{}
	}
	e := entry{key: key}
	for _, v := range values {
		if n, ok := any(v).(int); ok {
			e.list = append(e.list, strconv.Itoa(n))
			continue
		}
		e.list = append(e.list, scalar(fmt.Sprint(v)))
	}
	return e
}

// present drops the entries without a key: what is absent.
func present(entries ...entry) []entry {
	return slices.DeleteFunc(entries, func(e entry) bool { return e.key == "" })
}

// scalar writes text as YAML that reads as the same text everywhere: plain if
// it cannot be taken for anything else, else in double quotes.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	return doubleQuoted(s)
}

// plain reports whether text may go without quotes. That is less than YAML
// allows: the words and shapes that some version of it reads as a number, a
// truth value, a date or base 60 are left out.
func plain(s string) bool {
	if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-/") != "" {
		return false
	}
	if slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}, s) {
		return false
	}
	if s[0] == '/' || s[0] >= 'a' && s[0] <= 'z' {
		return true
	}
	return isIPv4(s)
}

// isIPv4 reports whether text has the shape of an IPv4 address: three dots
// make it no number.
func isIPv4(s string) bool {
	return strings.Count(s, ".") == 3 && strings.Trim(s, "0123456789.") == "" && s[0] != '.' && s[len(s)-1] != '.'
}

// doubleQuoted writes text as a double-quoted YAML scalar (YAML 1.2.2 7.3.1).
func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r >= 0x7f && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
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
