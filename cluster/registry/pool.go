package registry

import (
	"net/netip"
	"time"
)

// Balance names a balancing algorithm.
type Balance string

// The algorithms.
const (
	BalanceRoundRobin Balance = "round_robin" // smooth weighted round robin, the default
	BalanceLeastConn  Balance = "least_conn"  // fewest in flight by weight
	// By the client's address. All who come through one NAT, or one proxy that does
	// not tell their addresses, count as one client and make one server hot: keep
	// clients on their servers by persistence then, or hash a cookie or a header.
	BalanceSourceHash Balance = "source_hash"
	BalanceURIHash    Balance = "uri_hash"    // by path and query
	BalanceHeaderHash Balance = "header_hash" // by a header field
	BalanceCookieHash Balance = "cookie_hash" // by a cookie
	BalanceRandom     Balance = "random"      // the less loaded of two at random
	BalanceLatency    Balance = "latency"     // the faster of two at random
)

// Pool is a set of servers that are equal but for their weights.
type Pool struct {
	Name        string       `json:"name" required:"true" format:"name"`
	Balance     Balance      `json:"balance" default:"round_robin" filled:"true" words:"round_robin least_conn source_hash uri_hash header_hash cookie_hash random latency"`
	Hash        Hash         `json:"hash"`
	HealthCheck *HealthCheck `json:"health_check" null:"write {} for a TCP check with the defaults, or take it out for no check"` // absent: servers count as healthy

	// MaxFails failed requests within FailTimeout keep a server from work for
	// FailTimeout, as nginx defines both. 0: off.
	MaxFails    int            `json:"max_fails" range:"0..10000"`
	FailTimeout time.Duration  `json:"fail_timeout" range:"10ms..24h"`                   // default 10s; with max_fails
	Outlier     *Outlier       `json:"outlier"`                                          // absent: off
	SlowStart   *time.Duration `json:"slow_start" default:"5m" range:"1s..24h" off:"0s"` // of a recovered server, to its whole weight; 0s: off
	FailOpen    *bool          `json:"fail_open" default:"true"`                         // with no usable server, all are used

	// MaxRequests bounds the requests (on tcp, tls and udp: connections) in flight
	// from one node. 0: no limit.
	MaxRequests          int           `json:"max_requests" range:"0..10000000"`
	MaxRequestsPerServer int           `json:"max_requests_per_server" range:"0..10000000"` // the same of each server
	Queue                int           `json:"queue" range:"0..1000000"`                    // how many may wait at a limit
	QueueTimeout         time.Duration `json:"queue_timeout" range:"1ms..10m"`              // default 1s; with queue
	Adaptive             *Adaptive     `json:"adaptive"`                                    // absent: off

	Retry       Retry        `json:"retry"`
	Persistence *Persistence `json:"persistence"` // absent: none
	TLS         *PoolTLS     `json:"tls"`         // absent: in clear
	HTTP2       bool         `json:"http2"`       // by ALPN with TLS, by prior knowledge without (RFC 9113 3.3)
	SendProxy   ProxyHeader  `json:"send_proxy" words:"v1 v2"`
	Timeouts    PoolTimeouts `json:"timeouts"`
	Servers     []Server     `json:"servers" always:"true" empty:"ok"`
}

// Hash says what the hash algorithms hash, and how even they are.
type Hash struct {
	Name string `json:"name" format:"token"` // of the header field or cookie; header_hash and cookie_hash
	// Bound is how much of its fair share of what is in flight a server may
	// have before the next one of the hash takes the rest. Default 1.25.
	Bound float64 `json:"bound" range:"1.01..10"`
}

// Outlier ejects a server whose answers fail in a row.
type Outlier struct {
	Consecutive5xx    int           `json:"consecutive_5xx" default:"5" range:"1..10000" off:"-1"`
	ConsecutiveErrors int           `json:"consecutive_errors" default:"5" range:"1..10000" off:"-1"` // failed connects, resets, time-outs
	BaseEjection      time.Duration `json:"base_ejection" default:"30s" range:"10ms..24h"`            // of the first ejection; each one more adds it again
	MaxEjection       time.Duration `json:"max_ejection" default:"5m" range:"10ms..24h"`
	MaxShare          float64       `json:"max_share" default:"0.5" range:"(0..1"` // of the pool's servers that may be ejected at one time
}

// Adaptive finds the limit of requests in flight from the servers' latency.
type Adaptive struct {
	Min       int     `json:"min" range:"1..10000000"`                // default 10, at most max and the pool's max_requests
	Max       int     `json:"max" range:"1..10000000"`                // default 1000, at least min
	Tolerance float64 `json:"tolerance" default:"1.5" range:"(1..10"` // by which factor latency may rise before the limit falls
}

// Retry bounds requests that are sent again.
type Retry struct {
	Budget       float64 `json:"budget" default:"0.2" range:"(0..1" off:"-1"` // share of the requests of the last 10 s
	MinPerSecond int     `json:"min_per_second" range:"1..1000000"`           // always allowed; default 10
}

// Persistence keeps a client on its server by a cookie.
type Persistence struct {
	Cookie   string       `json:"cookie" required:"true" format:"token"`
	Format   CookieFormat `json:"format" default:"signed" words:"signed plain hidden"`
	Preserve bool         `json:"preserve"` // a cookie that the server itself sets under this name is left alone
	// MaxIdle and MaxLife end a session that was not used for that long, or is
	// that old. 0s: never. The date is in the cookie, so not with plain.
	MaxIdle  time.Duration `json:"max_idle" range:"0s..87600h"`
	MaxLife  time.Duration `json:"max_life" range:"0s..87600h"`
	Secure   bool          `json:"secure"`
	HTTPOnly *bool         `json:"http_only" default:"true"`
	SameSite SameSite      `json:"same_site" words:"lax strict none"` // absent: the attribute is left out
	Domain   string        `json:"domain" format:"host"`              // absent: the attribute is left out
	Path     string        `json:"path" default:"/" format:"cookie_path"`
}

// CookieFormat is what a cookie's value shows.
type CookieFormat string

// The formats.
const (
	CookieSigned CookieFormat = "signed" // the server's name and dates, with a MAC
	CookiePlain  CookieFormat = "plain"  // the server's name
	CookieHidden CookieFormat = "hidden" // encrypted
)

// SameSite is the cookie attribute of that name.
type SameSite string

// The values of SameSite.
const (
	SameSiteLax    SameSite = "lax"
	SameSiteStrict SameSite = "strict"
	SameSiteNone   SameSite = "none" // needs secure
)

// PoolTLS is how TLS is spoken with the servers.
type PoolTLS struct {
	ServerName         string `json:"server_name" format:"host"`              // sent and verified; absent: none is sent, the address is verified
	CA                 string `json:"ca" format:"certificates" max:"1048576"` // PEM; absent: the system's
	InsecureSkipVerify bool   `json:"insecure_skip_verify"`
	Certificate        string `json:"certificate" ref:"certificates"` // shown to servers that ask for one; absent: none
}

// ProxyHeader is a version of the PROXY protocol.
type ProxyHeader string

// The versions.
const (
	ProxyV1 ProxyHeader = "v1"
	ProxyV2 ProxyHeader = "v2"
)

// PoolTimeouts bound how long a server is waited for.
type PoolTimeouts struct {
	Connect  time.Duration `json:"connect" default:"2s" range:"1ms..10m"`
	Response time.Duration `json:"response" default:"60s" range:"1ms..24h"` // until the head of the response; http and https
	Idle     time.Duration `json:"idle" default:"4s" range:"1ms..24h"`      // how long an unused connection is kept; http and https
}

// Server is one backend. Its name is unique in its pool.
type Server struct {
	Name        string         `json:"name" required:"true" format:"name"`
	Address     netip.AddrPort `json:"address" required:"true"`
	Weight      *int           `json:"weight" default:"1" filled:"true" range:"0..256"` // 0 takes no new work
	Backup      bool           `json:"backup"`                                          // used only when no primary is usable
	MaxRequests int            `json:"max_requests" range:"0..10000000"`                // in flight, in place of the pool's max_requests_per_server; 0: that one
}
