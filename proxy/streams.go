package proxy

import (
	"fmt"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/sni"
)

// This file is what the configuration says of listeners that are not looked
// into.

func (p Protocol) known() bool { return p == TCP || p == UDP || p == TLS || p.web() }

// The idle timeouts of listeners that say nothing.
const (
	tcpIdle = time.Hour
	udpIdle = 30 * time.Second
)

// stream is how the connections or flows of l are forwarded; idle is of TCP,
// where the listener says nothing.
func stream(l *Listener, pools map[string]*servedPool, idle time.Duration) site.Stream {
	s := site.Stream{Idle: l.Idle, Log: l.Log}
	switch {
	case s.Idle > 0:
	case l.Protocol == UDP:
		s.Idle = udpIdle
	default:
		s.Idle = idle
	}
	if l.Protocol != TLS {
		return s
	}
	by := make(map[string]*pool.Pool)
	for _, n := range l.ServerNames {
		for _, name := range n.Names {
			by[name] = pools[n.Pool].pool
		}
	}
	var otherwise *pool.Pool
	if l.Pool != "" {
		otherwise = pools[l.Pool].pool
	}
	s.Names = sni.NewNames(by, otherwise)
	return s
}

// validateStream reports the faults of what is for TCP, TLS and UDP, or not for
// them.
func validateStream(l *Listener, at string, all []Pool, pools map[string]bool, fault func(field, format string, args ...any)) {
	if l.Protocol.web() {
		if l.Idle != 0 {
			fault(at+".idle", "is not for HTTP, which has timeouts of its own")
		}
		if l.Log {
			fault(at+".log", "is not for HTTP, which logs requests")
		}
	}
	if l.Idle < 0 {
		fault(at+".idle", "%v is negative", l.Idle)
	}
	if l.Protocol == UDP {
		if len(l.AcceptProxy) > 0 {
			fault(at+".accept_proxy", "is not for %q", UDP)
		}
	}
	if c := l.Clients; c != nil && !l.Protocol.web() && (c.Key == shed.ByHeader || c.Key == shed.ByCookie) {
		fault(at+".clients.key", "%q is for HTTP: connections have addresses alone", c.Key)
	}
	if len(l.ServerNames) > 0 && l.Protocol != TLS {
		fault(at+".server_names", "are for %q only", TLS)
	}
	seen := make(map[string]bool)
	for i, n := range l.ServerNames {
		at := fmt.Sprintf("%s.server_names[%d]", at, i)
		if !pools[n.Pool] {
			fault(at+".pool", "there is no pool %q", n.Pool)
		}
		for j := range all {
			if all[j].Name == n.Pool {
				validateStreamPool(l, at+".pool", &all[j], fault)
			}
		}
		if len(n.Names) == 0 {
			fault(at+".names", "is empty")
		}
		for j, name := range n.Names {
			at := fmt.Sprintf("%s.names[%d]", at, j)
			name = strings.ToLower(name)
			if seen[name] {
				fault(at, "%q has a pool already", name)
			}
			seen[name] = true
			if !sni.Valid(name) {
				fault(at, "%q is neither a host name nor a wildcard such as *.example.com", name)
			}
		}
	}
}

// validateStreamPool reports what of p is not for what goes to it from l, which
// is not looked into.
func validateStreamPool(l *Listener, at string, p *Pool, fault func(field, format string, args ...any)) {
	switch {
	case p.HTTP2:
		fault(at, "http2 of pool %q is for HTTP and HTTPS only", p.Name)
	case p.TLS != nil && l.Protocol != TCP:
		fault(at, "tls of pool %q is not for %q: for HTTP, HTTPS and %q only", p.Name, l.Protocol, TCP)
	case p.SendProxy != "" && l.Protocol == UDP:
		fault(at, "pool %q sends PROXY headers, which datagrams cannot carry", p.Name)
	}
}
