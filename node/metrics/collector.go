package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
)

// node is a prometheus.Collector.
type node struct{ snapshot func() Snapshot }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pharos_"+name, help, labels, nil)
}

var (
	buildInfo     = describe("build_info", "1, with the version of the software.", "version")
	configuration = describe("configuration_version", "Version of the cluster's configuration that runs here; 0: none.")
	applyFailed   = describe("configuration_failed", "1 while a newer configuration could not be applied.")
	draining      = describe("draining", "1 while the node is drained.")
	leader        = describe("raft_has_leader", "1 while the node knows a leader: without one, only changes are refused.")

	vipAnnounced = describe("vip_announced", "1 while this node announces the VIP.", "vip")
	vipHeld      = describe("vip_held", "1 while this node answers for the VIP by ARP or NDP.", "vip")
	vipTaken     = describe("vip_transitions_total", "Times that this node came to hold the VIP.", "vip")
	vipConflicts = describe("vip_conflicts_total", "Times that another machine claimed the VIP while this node held it.", "vip")
	leaseLate    = describe("lease_lateness_seconds", "By how much later than planned leases were seen to: near their terms, they are lost.")
	leaseLatest  = describe("lease_lateness_max_seconds", "The most of it, since the process started.")
	sessionUp    = describe("bgp_session_established", "1 while the session is established.", "neighbor")
	sessionFlaps = describe("bgp_session_flaps_total", "Times that an established session was lost.", "neighbor")

	bfdUp       = describe("bfd_session_up", "1 while the BFD session with the neighbor is up.", "neighbor")
	bfdFlaps    = describe("bfd_session_flaps_total", "Times that a BFD session was up and was lost; that the router takes it down on purpose is none.", "neighbor")
	bfdLateness = describe("bfd_send_lateness_seconds", "By how much later than planned BFD packets were sent.")
	bfdLatest   = describe("bfd_send_lateness_max_seconds", "The most of it, since the process started.")
	bfdUnsent   = describe("bfd_unsent_total", "BFD packets that the kernel did not take.")
	bfdRefused  = describe("bfd_refused_total", "BFD packets that came to no session, or were malformed; the socket's filter drops most of them uncounted.")
	bfdPriority = describe("bfd_sender_priority", "1, with how the thread that sends is scheduled: real-time, nice or ordinary.", "priority")

	connections = describe("connections", "Connections of clients that are open.")
	inFlight    = describe("in_flight", "HTTP requests and TCP connections that are being served.")
	datagrams   = describe("udp_datagrams_total", "Datagrams, by what became of them: forwarded, or dropped: a limit is reached, no server takes them, a socket is full, or the node drains.", "fate")
	evicted     = describe("udp_flows_evicted_total", "UDP flows that made room for others before their time.")
	warnings    = describe("proxy_warnings", "What the proxy warns of, such as certificates that end soon: `pharos status` tells.")

	listenerOpen         = describe("listener_connections", "Connections of clients that are open.", "listener")
	listenerUp           = describe("listener_accepting", "1 while the listener accepts.", "listener")
	listenerAccepted     = describe("listener_accepted_total", "Connections that were accepted.", "listener")
	listenerRequests     = describe("listener_requests_total", "HTTP requests that were answered, or TCP connections that ended.", "listener")
	listenerFailed       = describe("listener_failed_total", "Of those, what the proxy itself refused or cut.", "listener")
	listenerHandshakes   = describe("listener_handshakes_failed_total", "TLS handshakes that did not succeed.", "listener")
	listenerUnintroduced = describe("listener_unintroduced_total", "Connections that were closed since they lacked a PROXY header.", "listener")

	poolSessions = describe("pool_sessions_total", "Cookie persistence: sessions that were begun, were moved to another server, or came with a cookie of no use.", "pool", "event")
	poolHealthy  = describe("pool_healthy_servers", "Servers that take new work: healthy, in service, with a weight.", "pool")
	poolTier     = describe("pool_tier", "1 for the servers that take new work now: primary, backup, fail-open or none.", "pool", "tier")

	serverState       = describe("server_state", "1 for the state that the server is in.", "pool", "server", "state")
	serverWeight      = describe("server_effective_weight", "Weight with slow start taken into account; 0 while it takes no new work.", "pool", "server")
	serverInFlight    = describe("server_in_flight", "Requests or connections at the server, of this node.", "pool", "server")
	serverConnections = describe("server_requests_total", "Requests or connections sent to the server.", "pool", "server")
	serverFailures    = describe("server_check_failures", "Consecutive failed checks.", "pool", "server")
	serverEjected     = describe("server_ejected", "1 while the answers to requests keep the server out.", "pool", "server")
)

// tiers and states are all values that the labels have.
var (
	tiers  = []balance.Tier{balance.Primary, balance.Backup, balance.FailOpen, balance.None}
	states = []string{"HEALTHY", "UNHEALTHY", "DRAINING", "MAINTENANCE"}
)

// Describe describes nothing: which series there are depends on the
// configuration.
func (n *node) Describe(chan<- *prometheus.Desc) {}

// Collect reads the node.
func (n *node) Collect(out chan<- prometheus.Metric) {
	s := n.snapshot()
	c := collection{out}
	c.gauge(buildInfo, 1, s.Version)
	c.gauge(configuration, float64(s.Applied))
	c.flag(applyFailed, s.Failing)
	c.flag(draining, s.Draining)
	c.flag(leader, s.HasLeader)
	for vip, announced := range s.VIPs {
		c.flag(vipAnnounced, announced, vip)
	}
	for _, v := range s.Held {
		c.flag(vipHeld, v.Held, v.VIP)
		c.counter(vipTaken, v.Transitions, v.VIP)
		c.counter(vipConflicts, v.Conflicts, v.VIP)
	}
	c.out <- prometheus.MustNewConstSummary(leaseLate, s.Leases.Count, s.Leases.Sum.Seconds(), nil)
	c.gauge(leaseLatest, s.Leases.Max.Seconds())
	for _, b := range s.Sessions {
		c.flag(sessionUp, b.Established, b.Neighbor)
		c.counter(sessionFlaps, uint64(b.Flaps), b.Neighbor)
		if b.BFD != nil {
			c.flag(bfdUp, b.BFD.State == bfd.Up, b.Neighbor)
			c.counter(bfdFlaps, uint64(b.BFD.Failures), b.Neighbor)
		}
	}
	c.sender(s.Sender)
	c.gauge(connections, float64(s.Proxy.Connections))
	c.gauge(inFlight, float64(s.Proxy.InFlight))
	c.counter(datagrams, s.Proxy.Datagrams.Forwarded, "forwarded")
	c.counter(datagrams, s.Proxy.Datagrams.Dropped, "dropped")
	c.counter(evicted, s.Proxy.Datagrams.Evicted)
	c.gauge(warnings, float64(len(s.Proxy.Warnings)))
	for _, l := range s.Proxy.Listeners {
		c.gauge(listenerOpen, float64(l.Connections), l.Name)
		c.flag(listenerUp, l.Accepting, l.Name)
		c.counter(listenerAccepted, l.Accepted, l.Name)
		c.counter(listenerRequests, l.Requests, l.Name)
		c.counter(listenerFailed, l.Failed, l.Name)
		c.counter(listenerHandshakes, l.Handshakes, l.Name)
		c.counter(listenerUnintroduced, l.Unintroduced, l.Name)
	}
	for _, p := range s.Proxy.Pools {
		c.pool(p)
	}
}

// collection sends metrics off.
type collection struct{ out chan<- prometheus.Metric }

func (c collection) sender(s bfd.Sender) {
	if s.Priority == "" {
		return // it does not run
	}
	buckets := make(map[float64]uint64, len(bfd.LatenessBounds))
	var count uint64
	for i, n := range s.Lateness {
		if count += n; i < len(bfd.LatenessBounds) {
			buckets[bfd.LatenessBounds[i].Seconds()] = count
		}
	}
	c.out <- prometheus.MustNewConstHistogram(bfdLateness, count, s.Sum.Seconds(), buckets)
	c.gauge(bfdLatest, s.Max.Seconds())
	c.counter(bfdUnsent, s.Unsent)
	c.counter(bfdRefused, s.Refused)
	c.gauge(bfdPriority, 1, string(s.Priority))
}

func (c collection) pool(p proxy.PoolStatus) {
	c.gauge(poolHealthy, float64(p.Healthy), p.Name)
	c.counter(poolSessions, p.Sessions.Begun, p.Name, "begun")
	c.counter(poolSessions, p.Sessions.Moved, p.Name, "moved")
	c.counter(poolSessions, p.Sessions.Unusable, p.Name, "unusable_cookie")
	for _, t := range tiers {
		c.flag(poolTier, p.Tier == t, p.Name, string(t))
	}
	for _, s := range p.Servers {
		for _, state := range states {
			c.flag(serverState, s.State == state, p.Name, s.Name, state)
		}
		c.gauge(serverWeight, s.EffectiveWeight, p.Name, s.Name)
		c.gauge(serverInFlight, float64(s.InFlight), p.Name, s.Name)
		c.counter(serverConnections, s.Connections, p.Name, s.Name)
		c.gauge(serverFailures, float64(s.Failures), p.Name, s.Name)
		c.flag(serverEjected, s.EjectedUntil.After(time.Now()), p.Name, s.Name)
	}
}

func (c collection) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c collection) counter(d *prometheus.Desc, v uint64, labels ...string) {
	c.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (c collection) flag(d *prometheus.Desc, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	c.gauge(d, v, labels...)
}
