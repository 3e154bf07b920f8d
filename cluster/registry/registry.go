// Package registry is the model of what the nodes of a cluster agree on: VIPs,
// neighbors, listeners, pools and servers. It is pure: it parses, validates,
// compares and prints configurations, and knows nothing of how they are
// replicated or carried out.
package registry

import (
	"net/netip"
	"time"
)

// Config is one whole cluster configuration, as an operator writes it. A
// Config that Parse returned without error is valid, has its defaults filled
// in and is never changed afterwards: share it freely, copy to alter.
type Config struct {
	VIPs      []VIP      `yaml:"vips,omitempty" json:"vips,omitempty"`
	Neighbors []Neighbor `yaml:"neighbors,omitempty" json:"neighbors,omitempty"`
	Listeners []Listener `yaml:"listeners,omitempty" json:"listeners,omitempty"`
	Pools     []Pool     `yaml:"pools,omitempty" json:"pools,omitempty"`
}

// Snapshot is a Config with the version that the cluster gave it. Version 0 is
// the empty configuration of a new cluster; each accepted change adds one.
type Snapshot struct {
	Version uint64 `json:"version"`
	Config  Config `json:"config"`
}

// Mode is how a VIP draws its traffic to a node.
type Mode string

// ModeBGP announces the VIP to the neighbors. It is the only mode so far.
const ModeBGP Mode = "bgp"

// VIP is a virtual IP: one service address, of one or both families, that the
// nodes share.
type VIP struct {
	Name      string       `yaml:"name" json:"name"`
	Addresses []netip.Addr `yaml:"addresses" json:"addresses"` // at least one, each in one VIP only
	Mode      Mode         `yaml:"mode,omitempty" json:"mode"` // default bgp
	// Communities are added to those of the neighbor, "ASN:value" (RFC 1997).
	Communities []string `yaml:"communities,omitempty" json:"communities,omitempty"`
	// MinHealthy closes the gate of a node that sees fewer healthy servers in
	// any pool of the VIP's listeners. 0 (default): never.
	MinHealthy int `yaml:"min_healthy,omitempty" json:"min_healthy,omitempty"`
}

// Neighbor is a router that nodes speak BGP with.
type Neighbor struct {
	Name     string        `yaml:"name" json:"name"`
	Address  netip.Addr    `yaml:"address" json:"address"`
	Port     uint16        `yaml:"port,omitempty" json:"port,omitempty"`           // default 179
	ASN      uint32        `yaml:"asn" json:"asn"`                                 // the router's
	LocalASN uint32        `yaml:"local_asn" json:"local_asn"`                     // ours towards it
	Nodes    []string      `yaml:"nodes" json:"nodes"`                             // who speaks with it; at least one
	HoldTime time.Duration `yaml:"hold_time,omitempty" json:"hold_time,omitempty"` // default 3s, the lowest BGP allows; whole seconds (RFC 4271 4.2)
	// ConnectRetry is the longest wait before a lost session is tried again.
	// Default 1s, whole seconds.
	ConnectRetry time.Duration `yaml:"connect_retry,omitempty" json:"connect_retry,omitempty"`
	Communities  []string      `yaml:"communities,omitempty" json:"communities,omitempty"` // "ASN:value" (RFC 1997)
	MED          *uint32       `yaml:"med,omitempty" json:"med,omitempty"`                 // absent: none is sent
	// ASPathPrepend is how many times LocalASN is added to the path beyond the
	// one that eBGP adds, 0 to 16.
	ASPathPrepend int `yaml:"as_path_prepend,omitempty" json:"as_path_prepend,omitempty"`
	// NextHops overrides, by node name, the addresses that the node announces
	// as next hops: at most one of each family. Absent: the node's own
	// addresses, from its node file.
	NextHops map[string][]netip.Addr `yaml:"next_hops,omitempty" json:"next_hops,omitempty"`
}

// Protocol is what a listener speaks with its clients.
type Protocol string

// The protocols so far.
const (
	ProtocolTCP  Protocol = "tcp"
	ProtocolHTTP Protocol = "http"
)

// Listener accepts connections on one port of a VIP, on each of its addresses.
type Listener struct {
	Name     string   `yaml:"name" json:"name"`
	VIP      string   `yaml:"vip" json:"vip"`
	Port     uint16   `yaml:"port" json:"port"`
	Protocol Protocol `yaml:"protocol" json:"protocol"`
	Pool     string   `yaml:"pool" json:"pool"`
}

// Balance names a balancing algorithm.
type Balance string

// BalanceRoundRobin is smooth weighted round robin, the default.
const BalanceRoundRobin Balance = "round_robin"

// Pool is a set of servers that are equal but for their weights.
type Pool struct {
	Name        string       `yaml:"name" json:"name"`
	Balance     Balance      `yaml:"balance,omitempty" json:"balance"`                     // default round_robin
	HealthCheck *HealthCheck `yaml:"health_check,omitempty" json:"health_check,omitempty"` // absent: servers count as healthy
	Servers     []Server     `yaml:"servers" json:"servers"`
}

// HealthCheck is an active check of each server of a pool.
type HealthCheck struct {
	// HTTP is the path that a GET asks for; empty means a TCP connect suffices.
	HTTP         string        `yaml:"http,omitempty" json:"http,omitempty"`
	ExpectStatus []int         `yaml:"expect_status,omitempty" json:"expect_status,omitempty"` // default 200; with http only
	Interval     time.Duration `yaml:"interval,omitempty" json:"interval"`                     // default 2s, at least 50ms
	Timeout      time.Duration `yaml:"timeout,omitempty" json:"timeout"`                       // default: the interval, at most 10s
	Fall         int           `yaml:"fall,omitempty" json:"fall"`                             // consecutive failures, default 3
	Rise         int           `yaml:"rise,omitempty" json:"rise"`                             // consecutive successes, default 5
}

// Server is one backend. Its name is unique in its pool.
type Server struct {
	Name    string         `yaml:"name" json:"name"`
	Address netip.AddrPort `yaml:"address" json:"address"`
	Weight  *int           `yaml:"weight,omitempty" json:"weight,omitempty"` // 0 to 256, default 1; 0 takes no new work
	Backup  bool           `yaml:"backup,omitempty" json:"backup,omitempty"` // used only when no primary is usable
}
