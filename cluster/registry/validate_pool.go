package registry

import (
	"net/netip"
	"strings"
)

// pool checks what its fields must be together.
func (c *checker) pool(p string, o Pool) {
	c.servers(p+".servers", o.Servers)
	if o.HealthCheck != nil {
		c.healthCheck(p+".health_check", *o.HealthCheck)
	}
	c.hash(p, o)
	if o.MaxFails == 0 && c.sure(p+".max_fails") {
		c.useless(p, o, "max_fails only", "fail_timeout")
	}
	if o.Outlier != nil {
		e := *o.Outlier
		fill(valueOf(&e), true, "")
		if e.BaseEjection > e.MaxEjection {
			c.add(p+".outlier.base_ejection", "is %s, above max_ejection, which is %s", formatDuration(e.BaseEjection), formatDuration(e.MaxEjection))
		}
		if e.Consecutive5xx == -1 && e.ConsecutiveErrors == -1 {
			c.add(p+".outlier", "ejects nothing: both counts are off")
		}
	}
	c.limits(p, o)
	if o.Retry.Budget == -1 {
		c.useless(p+".retry", o.Retry, "a budget only, and this one is off", "min_per_second")
	}
	if o.Persistence != nil {
		c.persistence(p+".persistence", *o.Persistence)
	}
	if o.TLS != nil && o.TLS.InsecureSkipVerify {
		c.useless(p+".tls", *o.TLS, "verification only, which insecure_skip_verify leaves out", "ca")
	}
	if o.HTTP2 {
		c.useless(p, o, "connections of one client only, and HTTP/2 shares them", "send_proxy")
	}
}

func (c *checker) servers(path string, servers []Server) {
	owners := map[netip.AddrPort]string{}
	for i, s := range servers {
		p := element(path, i)
		if c.doc != nil && !c.has(p, "address", s) {
			continue
		}
		if reason := notUnicast(s.Address.Addr()); reason != "" {
			c.add(p+".address", "is %s, %s", s.Address, reason)
			continue
		}
		if s.Address.Port() == 0 {
			c.add(p+".address", "is %s: the port must be 1 to 65535", s.Address)
			continue
		}
		if other, ok := owners[s.Address]; ok {
			c.add(p+".address", "%s is the address of server %s already", s.Address, quote(other))
			continue
		}
		owners[s.Address] = s.Name
	}
}

func (c *checker) hash(p string, o Pool) {
	if !c.sure(p + ".balance") {
		return
	}
	named := o.Balance == BalanceHeaderHash || o.Balance == BalanceCookieHash
	switch {
	case named && !c.has(p+".hash", "name", o.Hash):
		c.add(p+".hash.name", "is required with balance %s", o.Balance)
	case !named && o.Balance.hashes():
		c.useless(p+".hash", o.Hash, "balance header_hash and cookie_hash only", "name")
	case !named:
		c.useless(p, o, "a balance that hashes only", "hash")
	}
}

func (c *checker) limits(p string, o Pool) {
	if a := o.Adaptive; a != nil {
		if a.Max > 0 && a.Min > a.Max {
			c.add(p+".adaptive.min", "is %d, above max, which is %d", a.Min, a.Max)
		}
		if o.MaxRequests > 0 && a.Min > o.MaxRequests {
			c.add(p+".adaptive.min", "is %d, above max_requests, which is %d", a.Min, o.MaxRequests)
		}
	}
	if o.Queue == 0 {
		if c.sure(p + ".queue") {
			c.useless(p, o, "queue only", "queue_timeout")
		}
		return
	}
	limited := o.MaxRequests > 0 || o.MaxRequestsPerServer > 0 || o.Adaptive != nil
	for _, s := range o.Servers {
		limited = limited || s.MaxRequests > 0
	}
	if !limited && c.sure(p+".max_requests") && c.sure(p+".max_requests_per_server") && c.sure(p+".adaptive") && c.sure(p+".servers") {
		c.add(p+".queue", "is of use with a limit only: max_requests, max_requests_per_server, adaptive or a server's max_requests")
	}
}

func (c *checker) persistence(p string, s Persistence) {
	if s.Format == CookiePlain {
		const why = "needs a date in the cookie, which format plain does not have: write signed or hidden"
		if s.MaxIdle > 0 {
			c.add(p+".max_idle", why)
		}
		if s.MaxLife > 0 {
			c.add(p+".max_life", why)
		}
	}
	if s.MaxLife > 0 && s.MaxIdle > s.MaxLife {
		c.add(p+".max_idle", "is %s, above max_life, which is %s", formatDuration(s.MaxIdle), formatDuration(s.MaxLife))
	}
	if s.SameSite == SameSiteNone && !s.Secure && c.sure(p+".secure") {
		c.add(p+".same_site", "is none, which needs secure: true: browsers drop the cookie else")
	}
	// The prefixes promise attributes, or browsers drop the cookie (RFC 6265bis 4.1.3).
	host := strings.HasPrefix(strings.ToLower(s.Cookie), "__host-")
	if (host || strings.HasPrefix(strings.ToLower(s.Cookie), "__secure-")) && !s.Secure && c.sure(p+".secure") {
		c.add(p+".cookie", "is %s, whose prefix needs secure: true", quote(s.Cookie))
	}
	if host && (s.Domain != "" || s.Path != "" && s.Path != "/") {
		c.add(p+".cookie", "is %s, whose prefix allows neither a domain nor a path but /", quote(s.Cookie))
	}
}
