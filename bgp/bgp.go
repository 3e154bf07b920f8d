// Package bgp announces routes to BGP neighbors, and nothing else: it never
// learns a route. The desired State goes in, sessions and announcements follow
// it, and what the routers made of it comes out as SessionStatus values.
package bgp

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/bgp/bfd"
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
	Port         uint16        // 0: 179
	ASN          uint32        // the router's
	LocalASN     uint32        // ours towards it
	HoldTime     time.Duration // whole seconds, at least 3s (RFC 4271 4.2); keepalives are a third of it
	ConnectRetry time.Duration // whole seconds, at least 1s
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
	MED         *uint32    // nil: none is sent
	Prepend     int        // further copies of the local ASN in front of the path
}

// SessionStatus is what the speaker knows of one neighbor.
type SessionStatus struct {
	Neighbor    string
	Established bool
	State       string    // RFC 4271 8.2.2, in lower case: idle, connect, active, opensent, openconfirm, established
	Since       time.Time // of the last change to or from established; zero if never
	Announced   []netip.Prefix
	LastError   string      // why the session last ended or could not start; empty if never
	Flaps       int         // times that an established session was lost
	BFD         *bfd.Status // nil: the neighbor has none
}
