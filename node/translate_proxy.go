package node

import (
	"cmp"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/site"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// proxyConfig gives the proxy's part of a configuration, whose keys are open.
func proxyConfig(c registry.Config) proxy.Config {
	c = c.Effective()
	addresses := make(map[string][]netip.Addr, len(c.VIPs))
	for _, v := range c.VIPs {
		addresses[v.Name] = v.Addresses
	}
	var out proxy.Config
	for _, cert := range c.Certificates {
		out.Certificates = append(out.Certificates, tls.Certificate{
			Name: cert.Name, Chain: []byte(cert.Chain), Key: []byte(string(cert.Key)), OCSP: cert.OCSP,
		})
	}
	for _, l := range c.Listeners {
		out.Listeners = append(out.Listeners, proxyListener(l, addresses[l.VIP]))
	}
	for _, p := range c.Pools {
		out.Pools = append(out.Pools, proxyPool(p))
	}
	return out
}

func proxyListener(l registry.Listener, addresses []netip.Addr) proxy.Listener {
	out := proxy.Listener{
		Name: l.Name, Protocol: proxy.Protocol(l.Protocol), Pool: l.Pool,
		Clients: clientLimits(l.ClientLimit), AcceptProxy: l.AcceptProxy,
	}
	for _, a := range addresses {
		out.Addresses = append(out.Addresses, netip.AddrPortFrom(a, l.Port))
	}
	if l.Protocol.HTTP() {
		out.HTTP = httpTerms(l)
		for _, r := range l.Routes {
			out.Routes = append(out.Routes, proxyRoute(r))
		}
	} else {
		out.Idle, out.Log = l.Timeouts.Idle, *l.AccessLog
		for _, n := range l.ServerNames {
			out.ServerNames = append(out.ServerNames, proxy.ServerName(n))
		}
	}
	if t := l.TLS; t != nil {
		out.TLS = &tls.ServerConfig{
			Certificates: t.Certificates, MinVersion: tls.Version(t.MinVersion), Ciphers: t.Ciphers,
			NoPostQuantum: !*t.PostQuantum, ClientAuth: tls.ClientAuth(t.ClientAuth), ClientCA: []byte(t.ClientCA),
		}
	}
	return out
}

func clientLimits(c *registry.ClientLimit) *shed.ClientConfig {
	if c == nil {
		return nil
	}
	return &shed.ClientConfig{
		Key: shed.ClientKey(c.Key), Name: c.Name, Rate: c.Rate, Burst: c.Burst, Connections: c.Connections, PrefixV6: c.IPv6Prefix,
	}
}

func httpTerms(l registry.Listener) site.HTTP {
	h := site.HTTP{
		NoHTTP2: !*l.HTTP2, Trusted: l.TrustedSources, Forwarded: l.Forwarded, Via: l.Via,
		Underscores: site.Underscores(l.Underscores),
		Limits:      http1.Limits{Fields: l.Limits.HeaderFields, Line: l.Limits.HeaderLine, Head: l.Limits.HeaderSize},
		MaxBody:     l.Limits.Body, Log: *l.AccessLog,
		Header: l.Timeouts.Header, Idle: l.Timeouts.Idle, Exchange: l.Timeouts.Exchange, Tunnel: l.Timeouts.Tunnel,
	}
	if r := l.RedirectHTTPS; r != nil {
		h.RedirectHTTPS = &site.Redirect{Status: r.Status, Scheme: "https"}
		if r.Port != 443 {
			h.RedirectHTTPS.Port = r.Port
		}
	}
	if s := l.HSTS; s != nil {
		h.HSTS = hsts(*s)
	}
	for _, page := range l.ErrorPages {
		for _, status := range page.Status {
			if h.Pages == nil {
				h.Pages = make(map[int]site.Page)
			}
			h.Pages[status] = site.Page{Type: page.ContentType, Body: []byte(page.Body)}
		}
	}
	return h
}

// hsts is the value of Strict-Transport-Security (RFC 6797 6.1).
func hsts(s registry.HSTS) []byte {
	b := strconv.AppendInt([]byte("max-age="), int64(*s.MaxAge/time.Second), 10)
	if s.IncludeSubdomains {
		b = append(b, "; includeSubDomains"...)
	}
	if s.Preload {
		b = append(b, "; preload"...)
	}
	return b
}

func proxyRoute(r registry.Route) proxy.Route {
	out := proxy.Route{Name: r.Name, Match: route.Rule{
		Hosts: r.Hosts, Methods: r.Methods, Sources: r.Sources,
		Headers: conditions(r.Headers), Cookies: conditions(r.Cookies), Query: conditions(r.Query),
	}}
	switch m := &out.Match; {
	case r.PathExact != "":
		m.Path, m.PathKind = r.PathExact, route.Exact
	case r.PathRegex != "":
		m.Path, m.PathKind = r.PathRegex, route.Regex
	case r.Path != "":
		m.Path, m.PathKind = r.Path, route.Prefix
	}
	if r.Pool != "" {
		out.Targets = []proxy.Target{{Pool: r.Pool, Weight: 1}}
	}
	for _, s := range r.Split {
		out.Targets = append(out.Targets, proxy.Target{Pool: s.Pool, Weight: s.Weight})
	}
	if d := r.Redirect; d != nil {
		out.Redirect = &site.Redirect{Status: d.Status, Scheme: d.Scheme, Host: d.Host, Port: d.Port, Path: d.Path}
		if d.Prefix {
			out.Redirect.Prefix = prefix(r)
		}
	}
	if a := r.Respond; a != nil {
		out.Respond = &site.Respond{Status: a.Status, Type: a.ContentType, Body: []byte(a.Body), Headers: fields(a.Headers)}
	}
	if m := r.Mirror; m != nil {
		out.Mirror = &proxy.Mirror{Pool: m.Pool, Percent: m.Percent}
	}
	if w := r.Rewrite; w != nil {
		out.Rewrite = rewrite(r, *w)
	}
	return out
}

func conditions(all []registry.Condition) []route.Field {
	var out []route.Field
	for _, c := range all {
		out = append(out, route.Field(c))
	}
	return out
}

func rewrite(r registry.Route, w registry.Rewrite) *site.Rewrite {
	out := &site.Rewrite{
		Path: w.Path, Host: w.Host,
		Request: edits(w.RequestHeaders), Response: edits(w.ResponseHeaders),
	}
	switch {
	case w.Path == "" || r.PathExact != "":
	case r.PathRegex != "":
		// The configuration was validated with this expression.
		out.Regex = regexp.MustCompile(route.Whole(r.PathRegex))
		out.Path = groupName.ReplaceAllString(w.Path, "$${$1}")
	default:
		out.Prefix = prefix(r)
	}
	return out
}

// prefix is what a route's path matches of a request's, which is neither exact
// nor a regular expression: without one it is what every path begins with.
func prefix(r registry.Route) string { return cmp.Or(r.Path, "/") }

// groupName is a group in a rewritten path: one digit, whatever follows.
var groupName = regexp.MustCompile(`\$([1-9])`)

func edits(e registry.HeaderEdit) site.Edits {
	return site.Edits{Set: fields(e.Set), Add: fields(e.Add), Remove: e.Remove}
}

// fields gives header fields in the order of their names.
func fields(m map[string]string) []http1.Field {
	var out []http1.Field
	for _, name := range slices.SortedFunc(maps.Keys(m), strings.Compare) {
		out = append(out, site.Field(name, m[name]))
	}
	return out
}
