package pool

import (
	cryptotls "crypto/tls"
	"time"

	"github.com/pharos-lb/pharos/proxy/tls"
)

// Terms are how the servers of a pool are spoken to: one generation, never
// changed. A connection belongs to the Terms that it was made by, and carries
// nothing new once the pool has others.
type Terms struct {
	TLS   *tls.Client // nil: in clear
	HTTP2 bool        // by ALPN with TLS, by prior knowledge without (RFC 9113 section 3.3)
	// SendProxy is the version of the PROXY header that each connection begins
	// with, 1 or 2; 0: none.
	SendProxy int

	Connect  time.Duration // to one server, with the TLS handshake; above 0
	Response time.Duration // nothing moves, and the response's head is awaited; above 0
	Idle     time.Duration // an unused connection is kept; below the servers' own limit; above 0
}

// DefaultTerms are those of a pool of which nothing is said.
func DefaultTerms() Terms {
	return Terms{
		Connect:  2 * time.Second,
		Response: 60 * time.Second,
		Idle:     4 * time.Second, // Node.js closes after 5 s
	}
}

var defaultTerms = DefaultTerms()

// Terms returns the present terms, which are to be kept with what is made by
// them: another pointer is other terms.
func (p *Pool) Terms() *Terms {
	if t := p.terms.Load(); t != nil {
		return t
	}
	return &defaultTerms
}

// SetTerms replaces the terms. t must not be changed afterwards.
func (p *Pool) SetTerms(t *Terms) { p.terms.Store(t) }

// serverTLS is what is made of terms for one server.
type serverTLS struct {
	terms         *Terms
	offered, only *cryptotls.Config
}

// TLSConfig is what a TLS connection to s by t is made with. It is the same for
// all connections, since it remembers the server's session. only: offer
// HTTP/1.1 alone, whatever the terms say. t.TLS must not be nil.
func (s *Server) TLSConfig(t *Terms, only bool) *cryptotls.Config {
	made := s.tls.Load()
	if made == nil || made.terms != t {
		made = &serverTLS{terms: t, offered: t.TLS.Config(s.Address)}
		made.offered.NextProtos = []string{"h2", "http/1.1"}
		// A session remembers its protocol (RFC 8446 section 4.6.1): each has
		// its own.
		made.only = t.TLS.Config(s.Address)
		made.only.NextProtos = made.offered.NextProtos[1:]
		// Two loops may make one at a time: the later one is kept, and the
		// other costs one full handshake.
		s.tls.Store(made)
	}
	if only || !t.HTTP2 {
		return made.only
	}
	return made.offered
}
