// Package registry is the model of what the nodes of a cluster agree on: VIPs,
// neighbors, certificates, listeners with their routes, pools and servers. It
// is pure: it parses, validates, compares and prints configurations, and knows
// nothing of how they are replicated or carried out.
//
// Each field is described once, by the tags beside it (see schema.go); reading,
// writing, defaults, copies and the checks of single values follow them.
package registry

import (
	"net/netip"
	"slices"
	"time"
)

// Config is one whole cluster configuration, as an operator writes it. A
// Config that Parse returned without error is valid and is never changed
// afterwards: share it freely, copy to alter. What the operator left out is
// left out here as well, but for the fields that have been there from the first
// version: Parse fills those in. Effective fills in all.
type Config struct {
	VIPs         []VIP         `json:"vips" empty:"ok"`
	Neighbors    []Neighbor    `json:"neighbors" empty:"ok"`
	Certificates []Certificate `json:"certificates" empty:"ok" max:"1000"`
	Listeners    []Listener    `json:"listeners" empty:"ok"`
	Pools        []Pool        `json:"pools" empty:"ok"`
}

// Snapshot is a Config with the version that the cluster gave it. Version 0 is
// the empty configuration of a new cluster; each accepted change adds one.
type Snapshot struct {
	Version uint64 `json:"version"`
	Config  Config `json:"config"`
}

// Mode is how a VIP draws its traffic to a node.
type Mode string

const (
	ModeBGP Mode = "bgp" // the nodes announce the VIP to the neighbors
	ModeARP Mode = "arp" // one node at a time answers for it on its link, by ARP or, for IPv6, by NDP
)

// VIP is a virtual IP: one service address, of one or both families, that the
// nodes share.
type VIP struct {
	Name      string       `json:"name" required:"true" format:"name"`
	Addresses []netip.Addr `json:"addresses" required:"true" least:"have at least one address"` // each in one VIP only
	Mode      Mode         `json:"mode" default:"bgp" filled:"true" words:"bgp arp"`
	// Nodes are those that announce the VIP, or answer for it. Absent: all, in
	// mode bgp all that speak with one of its neighbors.
	Nodes []string `json:"nodes" format:"name" max:"1000"`
	// Neighbors are those that the VIP is announced to. Absent: all.
	Neighbors []string `json:"neighbors" ref:"neighbors" max:"1000"`
	// Communities are added to those of the neighbor: "ASN:value" (RFC 1997), or
	// one of the words graceful-shutdown (RFC 8326), no-export, no-advertise
	// (RFC 1997) and blackhole (RFC 7999).
	Communities []string `json:"communities" format:"community" max:"64" empty:"ok"`
	// LargeCommunities are added to those of the neighbor: "ASN:function:value"
	// (RFC 8092).
	LargeCommunities []string `json:"large_communities" format:"large_community" max:"64" empty:"ok"`
	MED              *uint32  `json:"med" range:"0..4294967295"` // in place of the neighbor's
	// ASPathPrepend is in place of the neighbor's, towards other ASes.
	ASPathPrepend *int `json:"as_path_prepend" range:"0..16"`
	// LocalPreference is in place of the neighbor's, towards our own AS.
	LocalPreference *uint32 `json:"local_preference" range:"0..4294967295"`
	// ARP is how it is answered for, in mode arp. Absent: with the defaults.
	ARP *ARP `json:"arp" null:"write {} for the defaults, or take it out, which means the same"`
	// MinHealthy closes the gate of a node that sees fewer healthy servers in
	// any pool that the VIP's listeners send to. 0 (default): never.
	MinHealthy int `json:"min_healthy" range:"0..10000"`
	// FailOpen keeps the VIP announced in spite of too few healthy servers, a
	// full disk or want of descriptors, as long as no other node could announce
	// it without such a fault: the last one may serve badly, but serves.
	FailOpen *bool `json:"fail_open" default:"true"`
	// Probe is how a node probes itself: by a connection, with a request where
	// the listener speaks HTTP, to each address of each listener of the VIP. The
	// gate opens only once all have passed. Absent: with the defaults.
	Probe *Probe `json:"probe" null:"write {} for the defaults, or take it out, which means the same"`
}

// Probe is how often a node probes its own listeners, and when it believes what
// it finds.
type Probe struct {
	// Interval is halved while probes fail, until it is believed. 0s: the node does
	// not probe.
	Interval *time.Duration `json:"interval" default:"100ms" range:"20ms..1m" off:"0s"`
	Timeout  time.Duration  `json:"timeout" default:"100ms" range:"10ms..1m"`
	Fall     int            `json:"fall" default:"3" range:"1..100"` // failures in a row that close the gate
}

// Neighbor is a router that nodes speak BGP with.
type Neighbor struct {
	Name     string        `json:"name" required:"true" format:"name"`
	Address  netip.Addr    `json:"address" required:"true"`
	Port     uint16        `json:"port" default:"179" filled:"true" range:"1..65535"`                    // the router's; with passive, the one that the nodes wait at
	ASN      uint32        `json:"asn" required:"true" range:"1..4294967294"`                            // the router's
	LocalASN uint32        `json:"local_asn" required:"true" range:"1..4294967294"`                      // ours towards it
	Nodes    []string      `json:"nodes" required:"true" format:"name" least:"name at least one node"`   // who speaks with it
	HoldTime time.Duration `json:"hold_time" default:"3s" filled:"true" range:"3s..65535s" whole:"true"` // RFC 4271 4.2
	// ConnectRetry is the longest wait before a lost session is tried again.
	ConnectRetry time.Duration `json:"connect_retry" default:"1s" filled:"true" range:"1s..3600s" whole:"true"`
	// Communities are as those of a VIP. An UPDATE has 4096 octets for all its
	// attributes (RFC 4271 4), which bounds their number.
	Communities      []string `json:"communities" format:"community" max:"64" empty:"ok"`
	LargeCommunities []string `json:"large_communities" format:"large_community" max:"64" empty:"ok"` // as those of a VIP
	MED              *uint32  `json:"med" range:"0..4294967295"`                                      // absent: none is sent
	// ASPathPrepend is how many times LocalASN is added to the path beyond the
	// one that eBGP adds. It is of use towards another AS only.
	ASPathPrepend int `json:"as_path_prepend" range:"0..16"`
	// LocalPreference is what routers of our own AS choose the path by, the
	// highest first (RFC 4271 5.1.5). It is of use where asn is local_asn only.
	// Absent: 100.
	LocalPreference *uint32 `json:"local_preference" range:"0..4294967295"`
	// NextHops overrides, by node name, the addresses that the node announces
	// as next hops: at most one of each family. Absent: the node's own
	// addresses, from its node file.
	NextHops map[string][]netip.Addr `json:"next_hops" empty:"ok"`
	// Password signs the session's segments (TCP-MD5, RFC 2385): 1 to 80 bytes in
	// clear, or sealed (SealedPrefix). The router must have the same.
	Password Secret `json:"password" max:"256"`
	// TTLSecurity is how many hops away the router may be; what comes from
	// farther is dropped (GTSM, RFC 5082). True is 1, a router on the same link.
	// Not with multihop.
	TTLSecurity int `json:"ttl_security" range:"1..254" off:"0" truth:"1"`
	// Multihop is the TTL of what is sent. Absent: 255, which a router with TTL
	// security wants and any other takes.
	Multihop int `json:"multihop" range:"1..255"`
	// Passive has the nodes wait for the router to connect, to port, instead of
	// dialling it.
	Passive bool `json:"passive"`
	// Source is the address of the session's own end: one address, if one node
	// speaks with the neighbor, or one for each node, by its name, such as
	// {n1: 10.0.1.2, n2: 10.0.2.2}. A node without one has the address that its
	// kernel picks or, if passive, any.
	Source map[string]netip.Addr `json:"source" single:"ok"`
	// BFD finds a router that cannot be reached within a fraction of a second
	// (RFC 5880, 5881), and has the router find a dead node so. It must be on at
	// the router, too.
	BFD *BFD `json:"bfd" null:"write {} for the defaults, or take it out for no BFD"` // absent: off
}

// BFD is how a neighbor is watched. The router's own timers count as well: what
// is used is the slower of the two.
type BFD struct {
	Interval   time.Duration `json:"interval" default:"50ms" filled:"true" range:"10ms..10s"` // between packets, before jitter; under 50ms a busy node may be taken for a dead one
	Multiplier int           `json:"multiplier" default:"3" filled:"true" range:"2..255"`     // how many intervals of silence are a failure
}

// SourceOf gives the address of a node's end of its session with the neighbor;
// invalid: any will do.
func (n Neighbor) SourceOf(node string) netip.Addr {
	if a, ok := n.Source[node]; ok {
		return a
	}
	return n.Source[single]
}

// SelectsNode reports whether a node is to announce the VIP.
func (v VIP) SelectsNode(node string) bool {
	return len(v.Nodes) == 0 || slices.Contains(v.Nodes, node)
}

// SelectsNeighbor reports whether the VIP is to be announced to a neighbor.
func (v VIP) SelectsNeighbor(neighbor string) bool {
	return len(v.Neighbors) == 0 || slices.Contains(v.Neighbors, neighbor)
}
