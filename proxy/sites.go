package proxy

import (
	cryptotls "crypto/tls"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// draft is a listener's site before its pools are there: what can fail of it
// has been done.
type draft struct {
	listener Listener
	table    *route.Table
	splits   []*route.Split // by route, nil for one target
	tls      *cryptotls.Config
	idle     time.Duration // of TCP, where the listener says nothing
}

// newDraft compiles the routes of l, and the terms of its TLS on the
// certificates that are held.
func newDraft(l Listener, held *tls.Store) (*draft, error) {
	d := &draft{listener: l, splits: make([]*route.Split, len(l.Routes))}
	if l.TLS != nil {
		terms := *l.TLS
		terms.ALPN = []string{"h2", "http/1.1"}
		if l.HTTP.NoHTTP2 {
			terms.ALPN = terms.ALPN[1:]
		}
		config, err := held.Server(terms)
		if err != nil {
			return nil, fmt.Errorf("listener %s: tls: %w", l.Name, err)
		}
		d.tls = config
	}
	if len(l.Routes) == 0 {
		return d, nil
	}
	rules := make([]route.Rule, len(l.Routes))
	for i, r := range l.Routes {
		rules[i] = r.Match
		if len(r.Targets) > 1 {
			weights := make([]int, len(r.Targets))
			for j, t := range r.Targets {
				weights[j] = t.Weight
			}
			split, err := route.NewSplit(weights)
			if err != nil {
				return nil, fmt.Errorf("listener %s, route %s: %w", l.Name, r.Name, err)
			}
			d.splits[i] = split
		}
	}
	var err error
	if d.table, err = route.Compile(rules); err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	return d, nil
}

// site joins the draft with the pools that it names, which are there. What
// clients have used of their limits outlives a change of before, if it can.
func (d *draft) site(pools map[string]*servedPool, before *site.Site) *site.Site {
	s := &site.Site{Table: d.table, TLS: d.tls, HTTP: httpTerms(d.listener.HTTP), AcceptProxy: d.listener.AcceptProxy}
	s.HTTP.Secure = d.tls != nil
	if c := d.listener.Clients; c != nil {
		if s.Clients = before.Clients; s.Clients == nil || !s.Clients.Retune(*c) {
			s.Clients = shed.NewClientLimiter(*c, maphash.MakeSeed())
		}
	}
	if !d.listener.Protocol.web() {
		s.Stream = stream(&d.listener, pools, d.idle)
	}
	if d.listener.Pool != "" {
		s.Pool = pools[d.listener.Pool].pool
	}
	for i, r := range d.listener.Routes {
		rule := site.Rule{
			Name: r.Name, Match: r.Match, Split: d.splits[i],
			Redirect: r.Redirect, Respond: r.Respond, Rewrite: r.Rewrite,
		}
		if m := r.Mirror; m != nil {
			rule.Mirror = &site.Mirror{Pool: pools[m.Pool].pool, Percent: m.Percent}
		}
		for _, t := range r.Targets {
			rule.Targets = append(rule.Targets, pools[t.Pool].pool)
		}
		s.Rules = append(s.Rules, rule)
	}
	return s
}

// httpTerms fills in what was left at zero.
func httpTerms(h site.HTTP) site.HTTP {
	d := site.DefaultHTTP()
	for _, f := range []struct{ field, value *int }{
		{&h.Limits.Fields, &d.Limits.Fields},
		{&h.Limits.Line, &d.Limits.Line},
		{&h.Limits.Head, &d.Limits.Head},
	} {
		if *f.field == 0 {
			*f.field = *f.value
		}
	}
	if h.Header == 0 {
		h.Header = d.Header
	}
	if h.Idle == 0 {
		h.Idle = d.Idle
	}
	if h.Exchange == 0 {
		h.Exchange = d.Exchange
	}
	if h.Tunnel == 0 {
		h.Tunnel = d.Tunnel
	}
	return h
}

// loadCertificates makes the certificates and ticket keys of config those that
// are served, and returns what there is to warn of.
func (p *Proxy) loadCertificates(config Config) ([]string, error) {
	warned, err := p.certificates.Load(config.Certificates)
	if err != nil {
		return nil, err
	}
	if err := p.certificates.SetTicketKeys(config.TicketKeys); err != nil {
		return nil, err
	}
	var warnings []string
	for _, w := range warned {
		warnings = append(warnings, w.String())
	}
	return warnings, nil
}

// drafts drafts the sites of all listeners.
func (p *Proxy) drafts(config Config) (map[string]*draft, error) {
	drafts := make(map[string]*draft, len(config.Listeners))
	for _, l := range config.Listeners {
		d, err := newDraft(l, p.certificates)
		if err != nil {
			return nil, err
		}
		d.idle = p.opts.TCPIdleTimeout
		drafts[l.Name] = d
	}
	return drafts, nil
}
