package shed

import "time"

// Config bounds a pool. Zero fields are off, or take the default where one is
// named.
type Config struct {
	MaxInFlight       int // requests or connections of the pool, this node
	ServerMaxInFlight int // of each server, this node; a server's own limit comes before it

	// Queue is how many may wait while the limits are reached. 0: none waits.
	Queue        int
	QueueTimeout time.Duration // default 1 s

	Adaptive *Adaptive // nil: off

	// RetryBudget bounds retries as a share of the requests of the last 10 s,
	// 0 to 1; default 0.2, negative: no retries. RetryMin a second are always
	// allowed; default 10.
	RetryBudget float64
	RetryMin    int
}

// Adaptive finds the limit of requests in flight from the servers' latency, by
// its gradient against the long-term minimum.
type Adaptive struct {
	Min, Max  int     // of the limit; defaults 10 and 1000
	Tolerance float64 // latency may rise by this factor before the limit falls; default 1.5
}

// ClientConfig bounds what one client may do on a listener.
type ClientConfig struct {
	Key  ClientKey // who counts as one client; default ByAddress
	Name string    // of the field or cookie; ByHeader and ByCookie

	Rate  float64 // requests (connections on tcp, tls and udp) a second; 0: off
	Burst int     // at one time; default: Rate, rounded up

	Connections int // open at one time, by address whatever Key says; 0: off

	// PrefixV6 is the length of the IPv6 prefix that counts as one client.
	// Default 64, since a client has that many addresses to choose from.
	PrefixV6 int
	// Table is how many clients at one time the tables are made for, which are of
	// fixed size; default 100,000 (4.8 MB).
	Table int
}

// ClientKey says who counts as one client.
type ClientKey string

// The keys.
const (
	ByAddress ClientKey = "address"
	ByHeader  ClientKey = "header" // without the field: by address
	ByCookie  ClientKey = "cookie" // without the cookie: by address
)
