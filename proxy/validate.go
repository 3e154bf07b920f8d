package proxy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pharos-lb/pharos/proxy/policy"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// maxWeight is the largest weight of a server.
const maxWeight = 256

// Validate reports every fault of the configuration at once, each as a
// *policy.Fault, joined.
func (c Config) Validate() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, &policy.Fault{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	pools := make(map[string]bool, len(c.Pools))
	for i, p := range c.Pools {
		at := fmt.Sprintf("pools[%d]", i)
		switch {
		case p.Name == "":
			fault(at+".name", "is empty")
		case pools[p.Name]:
			fault(at+".name", "%q is used by another pool", p.Name)
		}
		pools[p.Name] = true
		if err := p.Balance.Validate(); err != nil {
			fault(at+".balance", "%v", err)
		}
		if err := p.Limits.Validate(); err != nil {
			fault(at+".limits", "%v", err)
		}
		if p.Check != nil {
			p.Check.Validate(func(field, reason string) { fault(at+".check."+field, "%s", reason) })
		}
		if p.CheckTLS != nil {
			if p.Check == nil {
				fault(at+".check_tls", "goes with a check only")
			}
			if err := p.CheckTLS.Validate(); err != nil {
				fault(at+".check_tls", "%v", err)
			}
		}
		validateUpstream(p, at, fault)
		p.Health.Validate(func(field, reason string) { fault(at+".health."+field, "%s", reason) })
		servers := make(map[string]bool, len(p.Servers))
		for j, s := range p.Servers {
			at := fmt.Sprintf("%s.servers[%d]", at, j)
			switch {
			case s.Name == "":
				fault(at+".name", "is empty")
			case servers[s.Name]:
				fault(at+".name", "%q is used by another server of the pool", s.Name)
			}
			servers[s.Name] = true
			if !s.Address.IsValid() || s.Address.Port() == 0 || s.Address.Addr().IsUnspecified() {
				fault(at+".address", "%v is not an address and port to connect to", s.Address)
			}
			if s.Weight < 0 || s.Weight > maxWeight {
				fault(at+".weight", "%d is not within 0 to %d", s.Weight, maxWeight)
			}
			if !s.State.Known() {
				fault(at+".state", "%q is not known: use %q, %q, or none", s.State, health.Draining, health.Maintenance)
			}
			if s.MaxInFlight < 0 {
				fault(at+".max_in_flight", "%d is negative", s.MaxInFlight)
			}
		}
	}
	c.validatePersistence(fault)
	listeners := make(map[string]bool, len(c.Listeners))
	bound := make(map[bindKey]string)
	for i, l := range c.Listeners {
		at := fmt.Sprintf("listeners[%d]", i)
		switch {
		case l.Name == "":
			fault(at+".name", "is empty")
		case listeners[l.Name]:
			fault(at+".name", "%q is used by another listener", l.Name)
		}
		listeners[l.Name] = true
		if !l.Protocol.known() {
			fault(at+".protocol", "%q is not known: use %q, %q, %q, %q or %q", l.Protocol, HTTP, HTTPS, TCP, TLS, UDP)
		}
		validateStream(&l, at, c.Pools, pools, fault)
		if (l.TLS != nil) != (l.Protocol == HTTPS) {
			fault(at+".tls", "goes with %q, and only with it", HTTPS)
		}
		switch {
		case l.Pool == "" && len(l.Routes) == 0 && len(l.ServerNames) == 0 && l.HTTP.RedirectHTTPS == nil:
			fault(at+".pool", "is empty, and there are neither routes, server names nor a redirect: nothing takes what comes")
		case l.Pool != "" && !pools[l.Pool]:
			fault(at+".pool", "there is no pool %q", l.Pool)
		}
		if i := slices.IndexFunc(c.Pools, func(p Pool) bool { return p.Name == l.Pool }); i >= 0 && !l.Protocol.web() {
			validateStreamPool(&l, at+".pool", &c.Pools[i], fault)
		}
		if !l.Protocol.web() && len(l.Routes) > 0 {
			fault(at+".routes", "are for HTTP only")
		}
		if l.Clients != nil {
			if err := l.Clients.Validate(); err != nil {
				fault(at+".clients", "%v", err)
			}
		}
		for j, prefix := range l.AcceptProxy {
			if !prefix.IsValid() || prefix.Addr().Is4In6() {
				fault(fmt.Sprintf("%s.accept_proxy[%d]", at, j), "%v is not a prefix of IPv4 or IPv6", prefix)
			}
		}
		validateRoutes(l.Routes, at, pools, fault)
		if len(l.Addresses) == 0 {
			fault(at+".addresses", "is empty: nothing to listen on")
		}
		for j, a := range l.Addresses {
			at := fmt.Sprintf("%s.addresses[%d]", at, j)
			if !a.IsValid() {
				fault(at, "is not an address and port")
				continue
			}
			key := bindKey{udp: l.Protocol == UDP, address: a}
			if other, taken := bound[key]; taken && a.Port() != 0 {
				fault(at, "%v is used by listener %q already", a, other)
			}
			bound[key] = l.Name
		}
	}
	return errors.Join(errs...)
}

func validateRoutes(routes []Route, at string, pools map[string]bool, fault func(field, format string, args ...any)) {
	names := make(map[string]bool, len(routes))
	for i, r := range routes {
		at := fmt.Sprintf("%s.routes[%d]", at, i)
		switch {
		case r.Name == "":
			fault(at+".name", "is empty")
		case names[r.Name]:
			fault(at+".name", "%q is used by another route", r.Name)
		}
		names[r.Name] = true
		if err := r.Match.Validate(); err != nil {
			fault(at+".match", "%v", err)
		}
		actions := 0
		for _, there := range []bool{len(r.Targets) > 0, r.Redirect != nil, r.Respond != nil} {
			if there {
				actions++
			}
		}
		if actions != 1 {
			fault(at, "must have exactly one of targets, redirect and respond, and has %d", actions)
		}
		if len(r.Targets) == 0 && (r.Rewrite != nil || r.Mirror != nil) {
			fault(at, "rewrite and mirror go with targets only")
		}
		sum := 0
		for j, t := range r.Targets {
			if !pools[t.Pool] {
				fault(fmt.Sprintf("%s.targets[%d].pool", at, j), "there is no pool %q", t.Pool)
			}
			if t.Weight < 0 || t.Weight > maxWeight {
				fault(fmt.Sprintf("%s.targets[%d].weight", at, j), "%d is not within 0 to %d", t.Weight, maxWeight)
			}
			sum += t.Weight
		}
		if len(r.Targets) > 1 && sum == 0 {
			fault(at+".targets", "no weight is above 0")
		}
		if m := r.Mirror; m != nil {
			if !pools[m.Pool] {
				fault(at+".mirror.pool", "there is no pool %q", m.Pool)
			}
			if m.Percent <= 0 || m.Percent > 100 {
				fault(at+".mirror.percent", "%v is not above 0 and at most 100", m.Percent)
			}
		}
	}
}
