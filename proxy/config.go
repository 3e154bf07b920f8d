// Package proxy carries connections from a VIP's listeners to the servers of
// their pools.
package proxy

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// Config is all that the proxy should serve. It is applied whole or not at
// all, by one atomic swap.
type Config struct {
	Listeners []Listener // names are unique
	Pools     []Pool     // names are unique

	Certificates []tls.Certificate // for listeners and pools that name them
	// TicketKeys are those of the cluster; none: no TLS session is resumed.
	TicketKeys []tls.TicketKey
	// CookieKeys are those of the cluster for the cookies of pools with
	// Persistence, at most 8: the first, which is the newest, makes them, and all
	// are read. A new key goes to the end on every node before it goes to the
	// front on any. Signed and hidden cookies need at least one.
	CookieKeys []sticky.Key
}

// Protocol is what a listener speaks with its clients.
type Protocol string

// The protocols.
const (
	TCP   Protocol = "tcp"
	UDP   Protocol = "udp"
	TLS   Protocol = "tls" // passed through, to a pool by the server name that the client asks for
	HTTP  Protocol = "http"
	HTTPS Protocol = "https"
)

// web reports whether it is HTTP, by TLS or not.
func (p Protocol) web() bool { return p == HTTP || p == HTTPS }

// Listener accepts connections on one or more addresses.
type Listener struct {
	Name      string
	Addresses []netip.AddrPort // bound with IP_FREEBIND: they need not be on an interface yet
	Protocol  Protocol
	// Pool names the pool of the same Config that takes what no route does. It
	// may be empty where there are routes: then that is answered with 404. So it
	// may where there are ServerNames: then TLS's alert unrecognized_name answers.
	Pool string
	// ServerNames say which pool takes a server name that the client asks for.
	// TLS only.
	ServerNames []ServerName
	// Idle is how long nothing may move in either direction before a connection
	// or flow is closed; 0: 1 h, with UDP 30 s. TCP, TLS and UDP only.
	Idle time.Duration
	// Log has each connection or flow logged at its end. TCP, TLS and UDP only;
	// HTTP has its own.
	Log bool

	Routes []Route   // HTTP and HTTPS only
	HTTP   site.HTTP // HTTP and HTTPS only; fields left at zero take the default. Secure is the proxy's to set
	// Clients bounds what one client may do; nil: nothing does. For TCP, TLS and
	// UDP, a connection or flow counts as a request, and clients are told apart
	// by address alone.
	Clients *shed.ClientConfig
	// AcceptProxy are the sources whose connections must begin with a header of
	// the PROXY protocol, version 1 or 2, within HTTP.Header; others are closed,
	// and counted as Unintroduced. The source that it tells is the client from
	// there on, in all respects. From sources that are not listed, a header is
	// what any other bytes would be.
	AcceptProxy []netip.Prefix
	// TLS is for HTTPS only, and required there. ALPN is the proxy's to set.
	TLS *tls.ServerConfig
}

// ServerName is a pool for server names of TLS: host names, or wildcards such as
// *.example.com, which stand for one label or more. The exact name comes before
// wildcards, of which the longest comes first.
type ServerName struct {
	Names []string
	Pool  string
}

// Route is what becomes of the requests that its Match is like: exactly one of
// Targets, Redirect and Respond. Which of several routes a request falls under
// is package route's to say.
type Route struct {
	Name  string // unique in its listener
	Match route.Rule

	Targets  []Target
	Redirect *site.Redirect
	Respond  *site.Respond

	Rewrite *site.Rewrite // with Targets only
	Mirror  *Mirror       // with Targets only
}

// Mirror sends a copy of requests to another pool, whose answers are dropped.
type Mirror struct {
	Pool    string
	Percent float64 // of the requests, above 0 to 100
}

// Target is a pool that a route sends to.
type Target struct {
	Pool   string
	Weight int // 0 to 256, among several targets; at least one is above 0
}

// Pool is a set of servers to balance over.
type Pool struct {
	Name    string
	Balance balance.Config
	Limits  shed.Config // of what is in flight, on this node
	// Check is asked of each server; nil: none is checked, and all count as
	// healthy until requests fail. Its TLS is the proxy's to set, and a PROXY
	// header goes before it as before requests.
	Check *check.Spec
	// CheckTLS has checks made over TLS by terms of their own; nil: as the pool.
	CheckTLS *tls.ClientConfig
	Health   health.Config
	// FailClosed refuses requests while no server is healthy; else all servers
	// are tried then, those that are draining or under maintenance excepted.
	FailClosed bool
	// Persistence keeps HTTP clients on their servers by a cookie, as long as
	// those are healthy and not under maintenance; nil: nothing does.
	Persistence *sticky.Config
	Servers     []Server

	// TLS is how TLS is spoken with the servers; nil: in clear. ALPN is the
	// proxy's to set. Not with UDP.
	TLS *tls.ClientConfig
	// HTTP2 is spoken with the servers, by ALPN with TLS (a server that picks
	// HTTP/1.1 is spoken to so), by prior knowledge without. Requests to switch
	// protocols (WebSocket) go by HTTP/1.1 all the same. For HTTP listeners only.
	HTTP2 bool
	// SendProxy has each connection to a server begin with a PROXY header: "v1",
	// "v2", or empty for none. A connection then carries the requests of one
	// client connection only. Not with HTTP2.
	SendProxy string
	Timeouts  PoolTimeouts
}

// Server is one backend; the name is unique in its pool.
type Server struct {
	ID          string // of the configuration, a UUID; may be empty
	Name        string
	Address     netip.AddrPort
	Weight      int // 0 to 256; 0 takes no new work
	Backup      bool
	State       health.Admin
	Created     time.Time // zero: not known
	MaxInFlight int       // requests or connections at one time, this node; 0: no limit
}

// Status is what the proxy says of itself, at one moment.
type Status struct {
	// Engine moves the bytes: epoll or io_uring, with the reason if io_uring was
	// wanted and refused. Empty before Run.
	Engine      string
	Listeners   []ListenerStatus
	Pools       []PoolStatus
	Connections int      // client connections open now, all listeners
	InFlight    int      // HTTP requests, TCP connections and UDP flows being served now
	Warnings    []string // certificates that end soon, and the like
	Datagrams   DatagramStatus
}

// DatagramStatus counts what became of the datagrams of all UDP listeners,
// since start.
type DatagramStatus struct {
	Forwarded uint64 // both ways
	Dropped   uint64 // a limit is reached, no server takes them, a socket is full, or the node drains
	Evicted   uint64 // flows that made room for others
}

// ListenerStatus is one listener.
type ListenerStatus struct {
	Name        string
	Protocol    Protocol
	Addresses   []netip.AddrPort
	Accepting   bool   // bound, and accepting
	Connections int    // open now
	Accepted    uint64 // since start
	Requests    uint64 // HTTP requests answered, or TCP connections and UDP flows ended, since start
	Failed      uint64 // of those, how many the proxy itself had to refuse or cut
	Handshakes  uint64 // TLS handshakes that did not succeed, since start
	// Unintroduced are connections from sources in AcceptProxy that were closed
	// since they did not begin with a PROXY protocol header, since start.
	Unintroduced uint64
}

// PoolStatus is one pool.
type PoolStatus struct {
	Name    string
	Healthy int          // servers that are healthy, in service, and have a weight above 0
	Checked bool         // every server has at least one check result, or there is no check
	Tier    balance.Tier // which servers take new work
	Warning string       // what operators should know of that; empty while primary servers do
	// Sessions are those of Persistence, since start.
	Sessions SessionsStatus
	Servers  []ServerStatus
}

// SessionsStatus is what became of the sessions of a pool, since it was made.
type SessionsStatus struct {
	Begun    uint64 // clients were given a server
	Moved    uint64 // clients were given another one, since theirs was gone
	Unusable uint64 // of Begun: clients that had a cookie, forged, too old or malformed
}

// ServerStatus is one server as this node sees it.
type ServerStatus struct {
	ID              string
	Pool            string
	Name            string
	Address         netip.AddrPort
	Weight          int
	EffectiveWeight float64 // Weight times the factor of a slow start; 0 while it takes no new work
	Backup          bool
	State           string    // HEALTHY, UNHEALTHY, DRAINING or MAINTENANCE
	Healthy         bool      // neither checks nor requests speak against it, whatever the operator says
	Failures        int       // consecutive failed checks
	LastCheck       time.Time // zero: none yet
	LastReason      string    // of the last check ("ok", "connect: connection refused", "status 503", ...), or why requests took it out
	EjectedUntil    time.Time // zero: it is not ejected
	Created         time.Time // zero: not known
	InFlight        int
	Connections     uint64 // requests or connections sent to it since start
}

// DrainReport says how a drain ended.
type DrainReport struct {
	Finished int // in flight when the drain began, and ended by themselves
	Cut      int // still open at the deadline, and closed
}
