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
	half   bool          // at half of the rate that HAProxy is saturated by
	p99    time.Duration // Pharos' at most, which may not be above HAProxy's either; 0: no matter
	p50    float64       // Pharos' at most, as a ratio to HAProxy's; 0: no matter
	splice bool          // HAProxy's better mode for bulk on TCP
	only   []string      // the proxies that take part; nil: all
	idle   int           // connections to hold, whose memory is measured; 0: none
}

func (c benchCase) fits(proxy string) bool { return c.only == nil || slices.Contains(c.only, proxy) }

// maxIdleMemory is what an idle connection of a client may take of Pharos'
// memory, bytes.
const maxIdleMemory = 8 << 10

// cases are what Pharos is held to: the figures are the project's own goals,
// from prototypes measured beside HAProxy 2.6.
func cases() []benchCase {
	small := wrk{port: httpPort, path: "/small", connections: 64}
	large := wrk{port: httpPort, path: "/16k", connections: 64}
	overTLS := func(w wrk) wrk { w.port, w.secure = httpsPort, true; return w }
	return []benchCase{
		{name: "http-small", unit: "requests", cores: 2, load: small, limit: 0.9},
		{name: "http-16k", unit: "requests", cores: 2, load: large, limit: 0.9},
		{name: "http-small-1core", unit: "requests", cores: 1, load: small, limit: 0.7},
		{name: "http-16k-1core", unit: "requests", cores: 1, load: large, limit: 0.7},
		{name: "http-cookie", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/route2/small", connections: 64, cookie: "SERVERID=s0"}, limit: 0.9, only: []string{"pharos", "haproxy"}},
		{name: "http-1m", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/1m", connections: 16}, limit: 1.1, splice: true},
		{name: "http-single", unit: "requests", cores: 2, load: wrk{port: httpPort, path: "/small", connections: 1}, p50: 1.25},
		{name: "http-half", unit: "requests", cores: 2, load: h2load{port: httpPort, path: "/small", connections: 32, http1: true}, half: true, p99: time.Millisecond},
		{name: "http-connect", unit: "connections", cores: 2, load: wrk{port: httpPort, path: "/small", connections: 64, close: true}, limit: 1.0},
		{name: "https-small", unit: "requests", cores: 2, load: overTLS(small), limit: 0.8},
		{name: "https-16k", unit: "requests", cores: 2, load: overTLS(large), limit: 0.8},
		{name: "https-connect", unit: "handshakes", cores: 2, load: handshakes{}, limit: 1.0},
		{name: "https-resumed", unit: "handshakes", cores: 2, load: handshakes{resume: true}, limit: 1.0},
		{name: "https-resumed-1.2", unit: "handshakes", cores: 2, load: handshakes{resume: true, old: true}, limit: 1.0},
		{name: "http2-small", unit: "requests", cores: 2, load: h2load{port: httpsPort, path: "/small", connections: 16, streams: 8, secure: true}, limit: 1.1},
		{name: "http2-16k", unit: "requests", cores: 2, load: h2load{port: httpsPort, path: "/16k", connections: 16, streams: 8, secure: true}, limit: 1.1},
		{name: "grpc-unary", unit: "calls", cores: 2, load: calls{}, limit: 1.1},
		{name: "tcp-small", unit: "exchanges", cores: 2, load: wrk{port: tcpPort, path: "/small", connections: 64}, limit: 1.0},
		{name: "tcp-1m", unit: "MiB", cores: 2, load: wrk{port: tcpPort, path: "/1m", connections: 16}, limit: 1.0, splice: true},
		{name: "http-idle", unit: "connections", cores: 2, idle: 20_000},
	}
}
