package proxy

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// The values of Pool.SendProxy.
const (
	ProxyV1 = "v1"
	ProxyV2 = "v2"
)

// PoolTimeouts bound how long a server is waited for. Fields left at zero take
// the default; none may be negative.
type PoolTimeouts struct {
	Connect  time.Duration // to one server, with the TLS handshake; default Options.ConnectTimeout, which is 2 s
	Response time.Duration // nothing moves, and the response's head is awaited; default 60 s. HTTP only
	Idle     time.Duration // an unused connection is kept, below the servers' own limit; default 4 s. HTTP only
}

// validateUpstream checks how the servers of a pool are spoken to.
func validateUpstream(p Pool, at string, fault func(field, format string, args ...any)) {
	if p.TLS != nil {
		if err := p.TLS.Validate(); err != nil {
			for _, e := range joined(err) {
				var f *policy.Fault
				if errors.As(e, &f) {
					fault(at+".tls."+f.Field, "%s", f.Reason)
				}
			}
		}
		if len(p.TLS.ALPN) > 0 {
			fault(at+".tls.alpn", "is the proxy's to set: use http2")
		}
	}
	switch p.SendProxy {
	case "":
	case ProxyV1, ProxyV2:
		if p.HTTP2 {
			fault(at+".send_proxy", "is for connections of one client only, and HTTP/2 shares them")
		}
	default:
		fault(at+".send_proxy", "%q is not known: use %q, %q, or none", p.SendProxy, ProxyV1, ProxyV2)
	}
	for _, t := range []struct {
		field string
		value time.Duration
	}{{"connect", p.Timeouts.Connect}, {"response", p.Timeouts.Response}, {"idle", p.Timeouts.Idle}} {
		if t.value < 0 {
			fault(at+".timeouts."+t.field, "%v is negative", t.value)
		}
	}
}

// joined are the errors that err joins.
func joined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// sameTerms reports whether servers of both pools are spoken to alike, so that
// connections and TLS sessions may be kept.
func sameTerms(a, b Pool) bool {
	return a.HTTP2 == b.HTTP2 && a.SendProxy == b.SendProxy && a.Timeouts == b.Timeouts && reflect.DeepEqual(a.TLS, b.TLS)
}

// terms makes the terms of all pools of config, on the certificates that are
// held: those of the present configuration where nothing changes.
func (p *Proxy) terms(config Config) (map[string]*pool.Terms, error) {
	before := make(map[string]Pool, len(p.state.config.Pools))
	for _, c := range p.state.config.Pools {
		before[c.Name] = c
	}
	made := make(map[string]*pool.Terms, len(config.Pools))
	for _, c := range config.Pools {
		old, known := before[c.Name]
		t, err := p.newTerms(c)
		if err != nil {
			return nil, fmt.Errorf("pool %s: tls: %w", c.Name, err)
		}
		if s := p.state.pools[c.Name]; known && s != nil && sameTerms(old, c) {
			t = s.pool.Terms()
		} else if c.TLS != nil && c.TLS.InsecureSkipVerify {
			p.log.Warn("the certificates of a pool's servers are not verified", "pool", c.Name)
		}
		made[c.Name] = t
	}
	return made, nil
}

func (p *Proxy) newTerms(c Pool) (*pool.Terms, error) {
	t := pool.DefaultTerms()
	t.HTTP2, t.Connect = c.HTTP2, p.opts.ConnectTimeout
	switch c.SendProxy {
	case ProxyV1:
		t.SendProxy = 1
	case ProxyV2:
		t.SendProxy = 2
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{{&t.Connect, c.Timeouts.Connect}, {&t.Response, c.Timeouts.Response}, {&t.Idle, c.Timeouts.Idle}} {
		if f.value > 0 {
			*f.field = f.value
		}
	}
	if c.TLS == nil {
		return &t, nil
	}
	client, err := p.certificates.Client(*c.TLS)
	if err != nil {
		return nil, err
	}
	t.TLS = client
	return &t, nil
}
