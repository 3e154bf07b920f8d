package registry

import (
	"math"
	"reflect"
	"slices"
	"time"
)

// WithDefaults returns a copy in which each field that Parse fills in has its
// default if it has its zero value. It is for a Config that a program made.
func (c Config) WithDefaults() Config {
	c = c.Clone()
	fill(reflect.ValueOf(&c).Elem(), false, "")
	return c
}

// Effective returns a copy in which each field that was left out and has a
// default has it, where the field is of use at all: what a node acts on, not
// what is stored. In it, pointers to a bool or a duration whose doc comment
// names a default are set, of listeners whose protocol they are for. Of a
// Config that is not valid it makes what it can.
func (c Config) Effective() Config {
	c = c.Clone()
	fill(reflect.ValueOf(&c).Elem(), true, "")
	return c
}

// dependent fills in defaults that depend on other fields, and are stored.
type dependent interface {
	fillIn(missing func(key string) bool)
}

// resolver fills in defaults that depend on other fields, and are not stored.
type resolver interface{ resolve() }

// fill sets defaults in v and in what it holds: all, or those that are stored.
// The protocol is that of the listener around it.
func fill(v reflect.Value, all bool, protocol Protocol) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), all, protocol)
		}
	case reflect.Slice:
		if isScalar(v.Type().Elem()) {
			return
		}
		for i := range v.Len() {
			fill(v.Index(i), all, protocol)
		}
	case reflect.Struct:
		if !isScalar(v.Type()) {
			fillRecord(v, all, protocol)
		}
	}
}

func fillRecord(v reflect.Value, all bool, protocol Protocol) {
	if l, ok := v.Addr().Interface().(*Listener); ok {
		protocol = l.Protocol
	}
	schema := recordOf(v.Type())
	for i := range schema.fields {
		f := &schema.fields[i]
		if len(f.protocols) > 0 && !slices.Contains(f.protocols, string(protocol)) {
			continue
		}
		to := v.Field(f.index)
		if f.fallback.IsValid() && (all || f.filled) && to.IsZero() {
			f.set(to)
			continue
		}
		fill(to, all, protocol)
	}
	if d, ok := v.Addr().Interface().(dependent); ok {
		d.fillIn(func(key string) bool { return v.Field(schema.byKey[key].index).IsZero() })
	}
	if r, ok := v.Addr().Interface().(resolver); ok && all {
		r.resolve()
	}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (h *HealthCheck) fillIn(missing func(key string) bool) {
	if missing("timeout") {
		h.Timeout = max(min(h.Interval, 10*time.Second), time.Millisecond)
	}
	if missing("expect_status") && h.HTTP != "" {
		h.ExpectStatus = []int{200}
	}
}

func (h *HealthCheck) resolve() {
	if h.HTTP != "" {
		orDefault(&h.Method, "GET")
	}
	orDefault(&h.FastInterval, h.Interval)
	orDefault(&h.DownInterval, h.Interval)
}

func (l *Listener) resolve() {
	idle := time.Minute
	switch l.Protocol {
	case ProtocolTCP, ProtocolTLS:
		idle = time.Hour
	case ProtocolUDP:
		idle = 30 * time.Second
	}
	orDefault(&l.Timeouts.Idle, idle)
	if l.AccessLog == nil {
		log := l.Protocol.HTTP()
		l.AccessLog = &log
	}
}

func (c *ClientLimit) resolve() {
	if c.Rate > 0 {
		orDefault(&c.Burst, max(int(math.Ceil(c.Rate)), 1))
	}
}

func (r *Respond) resolve() {
	if r.Body != "" {
		orDefault(&r.ContentType, "text/plain")
	}
}

func (p *Pool) resolve() {
	if p.Balance.hashes() {
		orDefault(&p.Hash.Bound, 1.25)
	}
	if p.MaxFails > 0 {
		orDefault(&p.FailTimeout, 10*time.Second)
	}
	if a := p.Adaptive; a != nil {
		orDefault(&a.Max, max(a.Min, 1000))
		least := min(a.Max, 10)
		if p.MaxRequests > 0 {
			least = min(least, p.MaxRequests)
		}
		orDefault(&a.Min, least)
	}
	if p.Queue > 0 {
		orDefault(&p.QueueTimeout, time.Second)
	}
}

func (r *Retry) resolve() {
	if r.Budget > 0 {
		orDefault(&r.MinPerSecond, 10)
	}
}

func (b Balance) hashes() bool {
	switch b {
	case BalanceSourceHash, BalanceURIHash, BalanceHeaderHash, BalanceCookieHash:
		return true
	}
	return false
}
