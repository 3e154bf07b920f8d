package registry

import (
	"math"
	"net/netip"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Parse reads a configuration as an operator writes it: one YAML document,
// strict. The file name is for the messages only. An empty document is the
// empty configuration. The error, if any, is Faults, and has everything that
// is wrong, by position; only a document that is no YAML at all stops at its
// first fault.
func Parse(file string, doc []byte) (Config, error) {
	root, faults := readDocument(doc)
	var cfg Config
	if root != nil {
		d := &decoder{positions: map[string]position{"": positionOf(root)}, null: map[string]bool{}, broken: map[string]bool{}}
		d.config(root, &cfg)
		faults = append(d.faults, d.locate(validate(cfg, d.missing, d.unsure()))...)
	}
	if len(faults) > 0 {
		faults.sort()
		faults = faults[:min(len(faults), maxFaults)]
		for i := range faults {
			faults[i].File = file
		}
		return Config{}, faults
	}
	return cfg, nil
}

// missing reports whether the document has no value at path.
func (d *decoder) missing(path string) bool {
	_, there := d.positions[path]
	return !there || d.null[path]
}

// unsure gives the lists that could not be decoded, or of which some element
// or its name could not: a reference into them that leads nowhere may be right.
func (d *decoder) unsure() map[string]bool {
	lists := map[string]bool{}
	for path := range d.broken {
		element := strings.TrimSuffix(path, ".name")
		if list, _, _ := strings.Cut(element, "["); !strings.Contains(element, ".") {
			lists[list] = true
		}
	}
	return lists
}

// locate gives the faults of the model their positions: that of the field, or
// of the nearest thing around it. Faults of what could not be decoded are
// dropped: the reason was given already.
func (d *decoder) locate(faults Faults) Faults {
	var kept Faults
	for _, f := range faults {
		if d.unreadable(f.Path) {
			continue
		}
		path := f.Path
		at, ok := d.positions[path]
		for !ok && path != "" {
			path = parent(path)
			at, ok = d.positions[path]
		}
		f.Line, f.Column = at.line, at.column
		kept = append(kept, f)
	}
	return kept
}

// unreadable reports whether the field at path, or what holds it, could not be
// decoded.
func (d *decoder) unreadable(path string) bool {
	for ; path != ""; path = parent(path) {
		if d.broken[path] {
			return true
		}
	}
	return d.broken[""]
}

func (d *decoder) config(n ast.Node, c *Config) {
	d.mapping("", n, []field{
		{"vips", func(p string, n ast.Node) { c.VIPs = elements(d, p, n, d.vip) }},
		{"neighbors", func(p string, n ast.Node) { c.Neighbors = elements(d, p, n, d.neighbor) }},
		{"listeners", func(p string, n ast.Node) { c.Listeners = elements(d, p, n, d.listener) }},
		{"pools", func(p string, n ast.Node) { c.Pools = elements(d, p, n, d.pool) }},
	})
}

func (d *decoder) vip(p string, n ast.Node, v *VIP) {
	v.Mode = ModeBGP
	d.mapping(p, n, []field{
		{"name", into(&v.Name, d.text)},
		{"addresses", func(p string, n ast.Node) { v.Addresses = elements(d, p, n, value(d.address)) }},
		{"mode", word(d, &v.Mode)},
		{"communities", func(p string, n ast.Node) { v.Communities = elements(d, p, n, value(d.token)) }},
		{"min_healthy", number(d, &v.MinHealthy, 0, maxMinHealthy)},
	})
}

func (d *decoder) neighbor(p string, n ast.Node, b *Neighbor) {
	b.Port, b.HoldTime, b.ConnectRetry = defaultBGPPort, defaultHoldTime, defaultConnectRetry
	d.mapping(p, n, []field{
		{"name", into(&b.Name, d.text)},
		{"address", into(&b.Address, d.address)},
		{"port", number(d, &b.Port, 1, math.MaxUint16)},
		{"asn", number(d, &b.ASN, 1, math.MaxUint32-1)},
		{"local_asn", number(d, &b.LocalASN, 1, math.MaxUint32-1)},
		{"nodes", func(p string, n ast.Node) { b.Nodes = elements(d, p, n, value(d.text)) }},
		{"hold_time", into(&b.HoldTime, d.duration)},
		{"connect_retry", into(&b.ConnectRetry, d.duration)},
		{"communities", func(p string, n ast.Node) { b.Communities = elements(d, p, n, value(d.token)) }},
		{"med", optional(d, &b.MED, 0, math.MaxUint32)},
		{"as_path_prepend", number(d, &b.ASPathPrepend, 0, maxPrepend)},
		{"next_hops", func(p string, n ast.Node) { b.NextHops = d.nextHops(p, n) }},
	})
}

func (d *decoder) nextHops(p string, n ast.Node) map[string][]netip.Addr {
	if n == nil {
		return nil
	}
	hops := map[string][]netip.Addr{}
	d.pairs(p, n, func(node string, _ position, p string, n ast.Node) {
		hops[node] = elements(d, p, n, value(d.address))
	})
	if len(hops) == 0 {
		return nil
	}
	return hops
}

func (d *decoder) listener(p string, n ast.Node, l *Listener) {
	d.mapping(p, n, []field{
		{"name", into(&l.Name, d.text)},
		{"vip", into(&l.VIP, d.text)},
		{"port", number(d, &l.Port, 1, math.MaxUint16)},
		{"protocol", word(d, &l.Protocol)},
		{"pool", into(&l.Pool, d.text)},
	})
}

func (d *decoder) pool(p string, n ast.Node, o *Pool) {
	o.Balance = BalanceRoundRobin
	d.mapping(p, n, []field{
		{"name", into(&o.Name, d.text)},
		{"balance", word(d, &o.Balance)},
		{"health_check", func(p string, n ast.Node) { o.HealthCheck = d.healthCheck(p, n) }},
		{"servers", func(p string, n ast.Node) { o.Servers = elements(d, p, n, d.server) }},
	})
}

func (d *decoder) healthCheck(p string, n ast.Node) *HealthCheck {
	if n == nil {
		// Whether this means a check with all defaults or none is anyone's guess.
		d.broken[p] = true
		d.fault(p, d.positions[p], "is empty: write {} for a TCP check with the defaults, or take it out for no check")
		return nil
	}
	h := &HealthCheck{Interval: defaultInterval}
	d.mapping(p, n, []field{
		{"http", into(&h.HTTP, d.text)},
		{"expect_status", func(p string, n ast.Node) {
			h.ExpectStatus = elements(d, p, n, func(p string, n ast.Node, v *int) { number(d, v, 200, 599)(p, n) })
		}},
		{"interval", into(&h.Interval, d.duration)},
		{"timeout", into(&h.Timeout, d.duration)},
		{"fall", number(d, &h.Fall, 1, maxInARow)},
		{"rise", number(d, &h.Rise, 1, maxInARow)},
	})
	if d.broken[join(p, "http")] {
		h.ExpectStatus = nil // whether there may be one is not known
	}
	h.setDefaults(func(key string) bool { return d.missing(join(p, key)) })
	return h
}

func (d *decoder) server(p string, n ast.Node, s *Server) {
	weight := defaultWeight
	s.Weight = &weight
	d.mapping(p, n, []field{
		{"name", into(&s.Name, d.text)},
		{"address", into(&s.Address, d.addressPort)},
		{"weight", number(d, s.Weight, 0, maxWeight)},
		{"backup", into(&s.Backup, d.truth)},
	})
}

// elements decodes a list of any element.
func elements[T any](d *decoder, path string, n ast.Node, read func(string, ast.Node, *T)) []T {
	var all []T
	d.list(path, n, func(length int) { all = make([]T, length) }, func(i int, path string, n ast.Node) { read(path, n, &all[i]) })
	return all
}

// value makes a list element's decoder of a scalar's.
func value[T any](read func(string, ast.Node) (T, bool)) func(string, ast.Node, *T) {
	return func(path string, n ast.Node, to *T) {
		if v, ok := read(path, n); ok {
			*to = v
		}
	}
}

// into makes a field's decoder of a scalar's. Without a value, the default
// that stands there stays.
func into[T any](to *T, read func(string, ast.Node) (T, bool)) func(string, ast.Node) {
	return func(path string, n ast.Node) { value(read)(path, n, to) }
}

// word decodes a string type.
func word[T ~string](d *decoder, to *T) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		if s, ok := d.text(path, n); ok {
			*to = T(s)
		}
	}
}

// number decodes a whole number of any type that holds lowest and highest.
func number[T ~int | ~uint16 | ~uint32](d *decoder, to *T, lowest, highest int64) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		if v, ok := d.integer(path, n, lowest, highest); ok {
			*to = T(v)
		}
	}
}

// optional decodes a whole number whose absence means something.
func optional[T ~int | ~uint16 | ~uint32](d *decoder, to **T, lowest, highest int64) func(string, ast.Node) {
	return func(path string, n ast.Node) {
		if v, ok := d.integer(path, n, lowest, highest); ok {
			t := T(v)
			*to = &t
		}
	}
}
