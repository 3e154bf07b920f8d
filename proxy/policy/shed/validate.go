package shed

import (
	"math"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Bounds of what may be configured.
const (
	maxInFlight     = 1 << 30
	maxQueueTimeout = 10 * time.Minute
	maxRetryMin     = 1_000_000
	maxTolerance    = 10
	minRate         = 0.001
	maxRate         = 1_000_000
	maxRefill       = 24 * time.Hour // of an empty bucket
	maxTable        = 10_000_000
)

func addUnless(f *policy.Faults, field string, n, least, most int) {
	if n < least || n > most {
		f.Add(field, "%d is not within %d to %d", n, least, most)
	}
}

// Validate reports every fault at once, each as a *policy.Fault, joined.
func (c Config) Validate() error {
	var f policy.Faults
	addUnless(&f, "max_in_flight", c.MaxInFlight, 0, maxInFlight)
	addUnless(&f, "server_max_in_flight", c.ServerMaxInFlight, 0, maxInFlight)
	addUnless(&f, "queue", c.Queue, 0, maxInFlight)
	if c.QueueTimeout < 0 || c.QueueTimeout > maxQueueTimeout {
		f.Add("queue_timeout", "%v is not within 0 to %v", c.QueueTimeout, maxQueueTimeout)
	}
	if !(c.RetryBudget <= 1) { // NaN too
		f.Add("retry_budget", "%v is not a share of at most 1", c.RetryBudget)
	}
	addUnless(&f, "retry_min", c.RetryMin, 0, maxRetryMin)
	if c.Adaptive != nil {
		c.Adaptive.validate(&f, c.MaxInFlight)
	}
	return f.Err()
}

func (a Adaptive) validate(f *policy.Faults, maxOfPool int) {
	addUnless(f, "adaptive.min", a.Min, 0, maxInFlight)
	addUnless(f, "adaptive.max", a.Max, 0, maxInFlight)
	d := a.withDefaults()
	if d.Min > d.Max {
		f.Add("adaptive.min", "%d is above the maximum, %d", d.Min, d.Max)
	}
	if maxOfPool > 0 && a.Min > maxOfPool {
		f.Add("adaptive.min", "%d is above max_in_flight, %d", a.Min, maxOfPool)
	}
	if a.Tolerance != 0 && !(a.Tolerance >= 1 && a.Tolerance <= maxTolerance) {
		f.Add("adaptive.tolerance", "%v is not within 1 to %d", a.Tolerance, maxTolerance)
	}
}

// WithDefaults returns c with the defaults in place of what was left at zero.
func (c Config) WithDefaults() Config {
	c.QueueTimeout = or(c.QueueTimeout, time.Second)
	c.RetryBudget = or(c.RetryBudget, 0.2)
	c.RetryMin = or(c.RetryMin, 10)
	if c.Adaptive != nil {
		a := c.Adaptive.withDefaults()
		c.Adaptive = &a
	}
	return c
}

func (a Adaptive) withDefaults() Adaptive {
	a.Max = or(a.Max, max(1000, a.Min))
	a.Min = or(a.Min, min(10, a.Max))
	a.Tolerance = or(a.Tolerance, 1.5)
	return a
}

// Validate reports every fault at once, each as a *policy.Fault, joined.
func (c ClientConfig) Validate() error {
	var f policy.Faults
	switch c.Key {
	case "", ByAddress:
		if c.Name != "" {
			f.Add("name", "%q is of no use with key %q", c.Name, ByAddress)
		}
	case ByHeader, ByCookie:
		if !isToken(c.Name) {
			f.Add("name", "%q is not the name of a field or cookie, which key %q needs", c.Name, c.Key)
		}
	default:
		f.Add("key", "%q is not known: use %q, %q or %q", c.Key, ByAddress, ByHeader, ByCookie)
	}
	switch {
	case c.Rate == 0:
	case !(c.Rate >= minRate && c.Rate <= maxRate):
		f.Add("rate", "%v a second is not 0 or within %v to %d", c.Rate, minRate, maxRate)
	case c.Burst >= 0 && float64(c.WithDefaults().Burst)/c.Rate > maxRefill.Seconds():
		f.Add("burst", "%d takes more than %v to refill at %v a second", c.Burst, maxRefill, c.Rate)
	}
	addUnless(&f, "burst", c.Burst, 0, maxInFlight)
	addUnless(&f, "connections", c.Connections, 0, maxConnections)
	addUnless(&f, "prefix_v6", c.PrefixV6, 0, 128)
	addUnless(&f, "table", c.Table, 0, maxTable)
	return f.Err()
}

// WithDefaults returns c with the defaults in place of what was left at zero.
func (c ClientConfig) WithDefaults() ClientConfig {
	c.Key = or(c.Key, ByAddress)
	c.Burst = or(c.Burst, int(math.Ceil(c.Rate)))
	c.PrefixV6 = or(c.PrefixV6, 64)
	c.Table = or(c.Table, 100_000)
	return c
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2), as names of
// fields and cookies are.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '!', c == '#', c == '$', c == '%', c == '&', c == '\'', c == '*', c == '+',
			c == '-', c == '.', c == '^', c == '_', c == '`', c == '|', c == '~':
		default:
			return false
		}
	}
	return s != ""
}
