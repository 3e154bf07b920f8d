package pool

import (
	cryptotls "crypto/tls"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// This file is what connections that are relayed need beside requests.

// Stood notes that a connection to s stands, and how long that took; End tells
// how it went. A server that is tried after failures is back from here on:
// connections may last for hours. It locks only if that changes something.
func (p *Pool) Stood(s *Server, latency, now time.Duration) {
	if latency > 0 {
		s.load.Observe(now, latency)
		p.Answered(latency, now)
	}
	if heeds := s.heeds.Load(); heeds == never || int64(now) < heeds {
		return
	}
	c := &p.view.Load().health
	s.mu.Lock()
	defer s.mu.Unlock()
	// Rows of failures are not ended by it: a server may take connections and
	// break each.
	if c.MaxFails > 0 && s.passive.Fails() > 0 {
		p.learnPassive(s, c, health.Good, now)
	}
	s.settle(c)
}

// relayTLS is what is made of terms for one server.
type relayTLS struct {
	terms  *Terms
	config *cryptotls.Config
}

// RelayTLSConfig is what a TLS connection to s by t is made with that carries
// somebody else's stream: no protocol is offered by ALPN, since nobody knows
// which one it is. It is the same for all connections, since it remembers the
// server's session. t.TLS must not be nil.
func (s *Server) RelayTLSConfig(t *Terms) *cryptotls.Config {
	made := s.relayTLS.Load()
	if made == nil || made.terms != t {
		made = &relayTLS{terms: t, config: t.TLS.Config(s.Address)}
		s.relayTLS.Store(made) // of two loops, the later one's is kept
	}
	return made.config
}
