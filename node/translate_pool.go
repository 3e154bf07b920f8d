package node

import (
	"maps"
	"slices"

	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/check"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/policy/sticky"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// proxyPool gives the proxy's form of a pool in which no default is left out.
func proxyPool(p registry.Pool) proxy.Pool {
	out := proxy.Pool{
		Name:       p.Name,
		Balance:    balance.Config{Algorithm: balance.Algorithm(p.Balance), HashName: p.Hash.Name, HashBound: p.Hash.Bound},
		Limits:     limits(p),
		Health:     health.Config{MaxFails: p.MaxFails, FailTimeout: p.FailTimeout, SlowStart: *p.SlowStart},
		FailClosed: !*p.FailOpen,
		TLS:        poolTLS(p.TLS), HTTP2: p.HTTP2, SendProxy: string(p.SendProxy), Timeouts: proxy.PoolTimeouts(p.Timeouts),
	}
	if o := p.Outlier; o != nil {
		out.Health.Outlier = &health.Outlier{
			Consecutive5xx: o.Consecutive5xx, ConsecutiveErrors: o.ConsecutiveErrors,
			BaseEjection: o.BaseEjection, MaxEjection: o.MaxEjection, MaxShare: o.MaxShare,
		}
	}
	if h := p.HealthCheck; h != nil {
		out.Check, out.CheckTLS = checkSpec(*h), checkTLS(p)
		out.Health.Fall, out.Health.Rise, out.Health.Timeout = h.Fall, h.Rise, h.Timeout
		out.Health.Interval, out.Health.FastInterval, out.Health.DownInterval = h.Interval, h.FastInterval, h.DownInterval
	}
	if s := p.Persistence; s != nil {
		out.Persistence = &sticky.Config{
			Name: s.Cookie, Format: sticky.Format(s.Format), Preserve: s.Preserve, MaxIdle: s.MaxIdle, MaxLife: s.MaxLife,
			Secure: s.Secure, HTTPOnly: *s.HTTPOnly, SameSite: sticky.SameSite(s.SameSite), Domain: s.Domain, Path: s.Path,
		}
	}
	for _, s := range p.Servers {
		out.Servers = append(out.Servers, proxy.Server{
			Name: s.Name, Address: s.Address, Weight: *s.Weight, Backup: s.Backup, MaxInFlight: s.MaxRequests,
		})
	}
	return out
}

func limits(p registry.Pool) shed.Config {
	out := shed.Config{
		MaxInFlight: p.MaxRequests, ServerMaxInFlight: p.MaxRequestsPerServer,
		Queue: p.Queue, QueueTimeout: p.QueueTimeout,
		RetryBudget: p.Retry.Budget, RetryMin: p.Retry.MinPerSecond,
	}
	if a := p.Adaptive; a != nil {
		out.Adaptive = &shed.Adaptive{Min: a.Min, Max: a.Max, Tolerance: a.Tolerance}
	}
	return out
}

// checkSpec gives what a health check asks.
func checkSpec(h registry.HealthCheck) *check.Spec {
	switch {
	case h.GRPC != nil:
		return &check.Spec{Kind: check.KindGRPC, Service: *h.GRPC}
	case h.HTTP == "":
		return &check.Spec{Kind: check.KindTCP}
	}
	spec := &check.Spec{Kind: check.KindHTTP, Method: h.Method, Path: h.HTTP, Host: h.Host, Body: h.Body}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		spec.Headers = append(spec.Headers, [2]string{name, h.Headers[name]})
	}
	for _, s := range h.Statuses() {
		spec.Expect = append(spec.Expect, check.StatusRange(s))
	}
	return spec
}

// checkTLS gives how checks speak TLS by themselves: with the authorities and the
// certificate of the pool. nil: as the pool.
func checkTLS(p registry.Pool) *tls.ClientConfig {
	own := p.HealthCheck.TLS
	if own == nil {
		return nil
	}
	as := poolTLS(p.TLS)
	if as == nil {
		as = &tls.ClientConfig{}
	}
	as.ServerName, as.InsecureSkipVerify = own.ServerName, own.InsecureSkipVerify
	if as.InsecureSkipVerify {
		as.CA = nil
	}
	return as
}

func poolTLS(t *registry.PoolTLS) *tls.ClientConfig {
	if t == nil {
		return nil
	}
	c := &tls.ClientConfig{ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify, Certificate: t.Certificate}
	if t.CA != "" {
		c.CA = []byte(t.CA)
	}
	return c
}
