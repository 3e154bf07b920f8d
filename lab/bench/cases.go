package bench

import (
	"slices"
	"time"
)

// benchCase is one comparison.
type benchCase struct {
	name  string
	unit  string // in the plural
	cores int    // that the proxy may use; the load and the servers have the rest, or share both
	load  load
	// limit is what Pharos' CPU time for a unit may be at most, as a ratio to
	// HAProxy's; 0: it is shown only.
	limit  float64
	p99    time.Duration // at most; 0: no matter
	splice bool          // HAProxy's better mode for bulk on TCP
	only   []string      // the proxies that take part; nil: all
}

func (c benchCase) fits(proxy string) bool { return c.only == nil || slices.Contains(c.only, proxy) }

// cases are what Pharos is held to: the figures are the project's own goals,
// from prototypes measured beside HAProxy 2.6.
func cases() []benchCase {
	return []benchCase{
		{name: "http-small", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/small", connections: 64}, limit: 0.9},
		{name: "http-16k", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/16k", connections: 64}, limit: 0.9},
		{name: "http-small-1core", unit: "requests", cores: 1, load: wrk{port: httpPort, path: "/small", connections: 64}, limit: 0.7},
		{name: "http-16k-1core", unit: "requests", cores: 1, load: wrk{port: httpPort, path: "/16k", connections: 64}, limit: 0.7},
		{name: "http-1m", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/1m", connections: 16}, limit: 1.1, splice: true},
		{name: "http-single", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/small", connections: 1}, limit: 0},
		{name: "http-connect", unit: "connections", cores: 2, load: wrk{port: httpPort, path: "/small", connections: 64, close: true}, limit: 1.0},
		{name: "tcp-small", unit: "exchanges", cores: 2, load: wrk{port: tcpPort, path: "/small", connections: 64}, limit: 1.0},
		{name: "tcp-1m", unit: "MiB", cores: 2, load: wrk{port: tcpPort, path: "/1m", connections: 16}, limit: 1.0, splice: true},
	}
}
