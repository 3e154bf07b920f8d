// Package bgp announces routes to BGP neighbors, and nothing else: it never
// learns a route. The desired State goes in, sessions and announcements follow
// it, and what the routers made of it comes out as SessionStatus values.
package bgp

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/bgp/guard"
)

// State is all that the speaker should do: with whom to hold sessions, and
// what to announce on each.
type State struct {
	RouterID  netip.Addr // an IPv4 address, unique among the cluster's nodes (RFC 4271 4.2)
	Neighbors []Neighbor // names are unique
}

// Neighbor is one session and the routes to announce on it.
type Neighbor struct {
	Name         string
	Address      netip.Addr
	Port         uint16        // the router's, or with Passive ours; 0: 179
	ASN          uint32        // the router's
	LocalASN     uint32        // ours towards it
	HoldTime     time.Duration // whole seconds, at least 3s (RFC 4271 4.2); keepalives are a third of it
	ConnectRetry time.Duration // whole seconds, at least 1s
	// Password signs the segments of the session (TCP-MD5, RFC 2385). Empty:
	// they are not signed.
	Password guard.Password
	// TTLSecurity is how many hops away the router may be, 1 to 254 (RFC 5082).
	// 0: any number. Not with Multihop.
	TTLSecurity int
	// Multihop is the TTL of what is sent. 0: 255.
	Multihop int
	// Passive neighbors are not dialled: they connect to Port here, on Source
	// or, without one, on any address.
	Passive bool
	// Source is the local address of the session, of Address's family. Invalid:
	// the one that the kernel picks.
	Source netip.Addr
	// BFD has the router watched, and lets it watch this node: the session ends
	// as soon as BFD finds that the router cannot be reached. nil: off. A change
	// of it leaves the BGP session as it is.
	BFD *bfd.Config
	// Routes is the whole set to announce: what is not in it is withdrawn.
	Routes []Route
}

// Route is one prefix with its path attributes.
type Route struct {
	Prefix      netip.Prefix
	NextHop     netip.Addr // of the prefix's family, always explicit
	Communities []uint32   // RFC 1997
	// LargeCommunities are for those whose ASN does not fit into two octets.
	LargeCommunities []LargeCommunity // RFC 8092
	MED              *uint32          // nil: none is sent
	// LocalPref is for sessions within one AS only (RFC 4271 5.1.5), where
	// routers prefer the highest. nil: 100.
	LocalPref *uint32
	Prepend   int // further copies of the local ASN in front of the path; on sessions between ASes only
}

// LargeCommunity is a community of three numbers (RFC 8092 3): the ASN that
// gives it its meaning, and two that it is free to use.
type LargeCommunity struct {
	ASN, Function, Value uint32
}

// SessionStatus is what the speaker knows of one neighbor.
type SessionStatus struct {
	Neighbor    string
	Established bool
	State       string    // RFC 4271 8.2.2, in lower case: idle, connect, active, opensent, openconfirm, established
	Since       time.Time // of the last change to or from established; zero if never
	Announced   []netip.Prefix
	// Unspoken are the prefixes that the router cannot be told, since it did not
	// negotiate their address family (RFC 4760 8). None while the session is down.
	Unspoken  []netip.Prefix
	LastError string      // why the session last ended or could not start; empty if never
	Flaps     int         // times that an established session was lost
	BFD       *bfd.Status // nil: the neighbor has none
}
