// Package site is what an HTTP listener does with a request: its routes and
// what they do, and the terms of the protocol. A Site is made by the proxy from a
// configuration, never changed afterwards, and swapped as a whole; event loops
// read it without locks.
package site

import (
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// Site is one generation of a listener's terms.
type Site struct {
	// Pool takes what no route does; nil: nobody does, and the answer is 404.
	Pool  *pool.Pool
	Table *route.Table // nil: no routes
	Rules []Rule       // by the index that Table gives

	// Clients bounds what one client may do; nil: nothing does.
	Clients *shed.ClientLimiter

	// AcceptProxy are the sources whose connections begin with a PROXY protocol
	// header, before anything else.
	AcceptProxy []netip.Prefix

	TLS *tls.Config // how TLS is spoken with clients; nil: not at all

	HTTP HTTP

	Stream Stream
}

// HTTP is how HTTP is spoken with the clients of a listener.
type HTTP struct {
	// Secure: clients come by TLS. It is what X-Forwarded-Proto says.
	Secure bool
	// NoHTTP2: speak HTTP/1.1 alone, where clients could have HTTP/2 by prior
	// knowledge or by ALPN.
	NoHTTP2 bool
	// Trusted are the sources whose forwarding fields are believed.
	Trusted []netip.Prefix
	// Forwarded: send RFC 7239's field as well.
	Forwarded bool
	// Via is the pseudonym to send in Via (RFC 9110 section 7.6.3); empty: none.
	Via         string
	Underscores Underscores
	Limits      http1.Limits // of a request's head
	MaxBody     int64        // of a request, bytes; 0: unlimited

	// RedirectHTTPS sends to HTTPS whoever asks for what neither a route nor
	// the pool takes; nil: off.
	RedirectHTTPS *Redirect
	// HSTS is the value of Strict-Transport-Security (RFC 6797); empty: none.
	HSTS []byte
	// Pages replace the bodies of the proxy's own answers, by status.
	Pages map[int]Page

	Log bool // to the access log

	Header   time.Duration // from a request's first byte to the end of its head
	Idle     time.Duration // between two requests of a client
	Exchange time.Duration // nothing moves while a request is served
	Tunnel   time.Duration // nothing moves in an upgraded connection
}

// DefaultHTTP are the terms that suit most sites.
func DefaultHTTP() HTTP {
	return HTTP{
		Limits:   http1.RequestLimits(),
		Header:   10 * time.Second,
		Idle:     60 * time.Second,
		Exchange: 60 * time.Second,
		Tunnel:   time.Hour,
	}
}

// Underscores says what becomes of fields with an underscore in their name,
// which servers may confuse with others (CGI turns - into _).
type Underscores string

// The ways. An empty value is DropUnderscores.
const (
	DropUnderscores   Underscores = "drop"
	KeepUnderscores   Underscores = "keep"
	RefuseUnderscores Underscores = "refuse" // 400
)

// Page is a body for the proxy's own answers.
type Page struct {
	Type string // Content-Type
	Body []byte
}

// Rule is what a route does with the requests that fall under it: exactly one
// of Targets, Redirect and Respond.
type Rule struct {
	Name  string
	Match route.Rule

	Targets  []*pool.Pool // one, or as many as Split has weights
	Split    *route.Split // nil: one target
	Redirect *Redirect
	Respond  *Respond

	Mirror  *Mirror
	Rewrite *Rewrite
}

// Respond is an answer of the proxy's own.
type Respond struct {
	Status  int
	Type    string
	Body    []byte
	Headers []http1.Field
}

// Mirror sends a copy of requests to another pool, whose answers are dropped.
type Mirror struct {
	Pool    *pool.Pool
	Percent float64 // of the requests, above 0 to 100
}

// Find returns the rule that a request falls under, nil for none. It is not
// fine if no rule may be found for the request's path, which means different
// things to different servers: 400.
func (s *Site) Find(r policy.Request) (rule *Rule, fine bool) {
	if s.Table == nil {
		return nil, true
	}
	i, why := s.Table.Find(r)
	if i < 0 {
		return nil, why == route.NoRule
	}
	return &s.Rules[i], true
}

// Introduces reports whether connections from a source begin with a PROXY
// protocol header.
func (s *Site) Introduces(source netip.Addr) bool {
	if len(s.AcceptProxy) == 0 {
		return false
	}
	source = source.Unmap().WithZone("") // no prefix contains an address with a zone
	for _, p := range s.AcceptProxy {
		if p.Contains(source) {
			return true
		}
	}
	return false
}

// Trusts reports whether the forwarding fields of a source are believed.
func (h *HTTP) Trusts(source netip.Addr) bool {
	for _, p := range h.Trusted {
		if p.Contains(source) {
			return true
		}
	}
	return false
}
