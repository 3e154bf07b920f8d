package registry

import (
	"net/netip"
	"slices"
	"time"
)

// The defaults and the bounds, where a field's doc comment does not say it all.
const (
	defaultBGPPort      = 179
	defaultHoldTime     = 3 * time.Second
	defaultConnectRetry = time.Second
	defaultInterval     = 2 * time.Second
	defaultStatus       = 200
	defaultFall         = 3
	defaultRise         = 5
	defaultWeight       = 1

	minHoldTime     = 3 * time.Second // RFC 4271 4.2
	maxHoldTime     = 65535 * time.Second
	minConnectRetry = time.Second
	maxConnectRetry = time.Hour
	minInterval     = 50 * time.Millisecond
	maxInterval     = time.Hour
	minTimeout      = time.Millisecond
	maxTimeout      = 10 * time.Second
	maxInARow       = 100 // checks, for fall and rise
	maxWeight       = 256
	maxPrepend      = 16
	maxMinHealthy   = 10000
	maxCommunities  = 64 // of one VIP or neighbor: an UPDATE has 4096 octets for all its attributes (RFC 4271 4)
	maxHTTPPath     = 1024
)

// WithDefaults returns a copy in which each field that has its zero value and
// a default has that default. Parse does so itself; this is for a Config that
// a program made.
func (c Config) WithDefaults() Config {
	c = c.Clone()
	for i := range c.VIPs {
		orDefault(&c.VIPs[i].Mode, ModeBGP)
	}
	for i := range c.Neighbors {
		b := &c.Neighbors[i]
		orDefault(&b.Port, defaultBGPPort)
		orDefault(&b.HoldTime, defaultHoldTime)
		orDefault(&b.ConnectRetry, defaultConnectRetry)
	}
	for i := range c.Pools {
		p := &c.Pools[i]
		orDefault(&p.Balance, BalanceRoundRobin)
		if h := p.HealthCheck; h != nil {
			h.setDefaults(func(key string) bool {
				return map[string]bool{
					"expect_status": len(h.ExpectStatus) == 0, "interval": h.Interval == 0, "timeout": h.Timeout == 0,
					"fall": h.Fall == 0, "rise": h.Rise == 0,
				}[key]
			})
		}
		for j := range p.Servers {
			if s := &p.Servers[j]; s.Weight == nil {
				weight := defaultWeight
				s.Weight = &weight
			}
		}
	}
	return c
}

// setDefaults fills in what is missing, by key.
func (h *HealthCheck) setDefaults(missing func(key string) bool) {
	if missing("interval") {
		h.Interval = defaultInterval
	}
	if missing("timeout") {
		h.Timeout = max(min(h.Interval, maxTimeout), minTimeout)
	}
	if missing("fall") {
		h.Fall = defaultFall
	}
	if missing("rise") {
		h.Rise = defaultRise
	}
	if missing("expect_status") && h.HTTP != "" {
		h.ExpectStatus = []int{defaultStatus}
	}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Clone returns a copy that shares nothing with c: change it freely.
func (c Config) Clone() Config {
	c.VIPs = slices.Clone(c.VIPs)
	for i := range c.VIPs {
		v := &c.VIPs[i]
		v.Addresses, v.Communities = slices.Clone(v.Addresses), slices.Clone(v.Communities)
	}
	c.Neighbors = slices.Clone(c.Neighbors)
	for i := range c.Neighbors {
		b := &c.Neighbors[i]
		b.Nodes, b.Communities, b.MED = slices.Clone(b.Nodes), slices.Clone(b.Communities), clonePointer(b.MED)
		if b.NextHops != nil {
			hops := make(map[string][]netip.Addr, len(b.NextHops))
			for node, addresses := range b.NextHops {
				hops[node] = slices.Clone(addresses)
			}
			b.NextHops = hops
		}
	}
	c.Listeners = slices.Clone(c.Listeners)
	c.Pools = slices.Clone(c.Pools)
	for i := range c.Pools {
		p := &c.Pools[i]
		if p.HealthCheck = clonePointer(p.HealthCheck); p.HealthCheck != nil {
			p.HealthCheck.ExpectStatus = slices.Clone(p.HealthCheck.ExpectStatus)
		}
		p.Servers = slices.Clone(p.Servers)
		for j := range p.Servers {
			p.Servers[j].Weight = clonePointer(p.Servers[j].Weight)
		}
	}
	return c
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
