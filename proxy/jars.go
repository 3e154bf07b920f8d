package proxy

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"github.com/pharos-lb/pharos/proxy/policy/sticky"
)

// jars makes the jars of the pools that keep sessions, by name. One whose pool
// and keys have not changed is used on.
func (p *Proxy) jars(config Config) (map[string]*sticky.Jar, error) {
	before := make(map[string]sticky.Config)
	if slices.Equal(p.state.config.CookieKeys, config.CookieKeys) {
		for _, pool := range p.state.config.Pools {
			if pool.Persistence != nil {
				before[pool.Name] = *pool.Persistence
			}
		}
	}
	jars := make(map[string]*sticky.Jar)
	for _, pool := range config.Pools {
		if pool.Persistence == nil {
			continue
		}
		same, ok := before[pool.Name]
		if served := p.state.pools[pool.Name]; ok && served != nil && same == *pool.Persistence {
			jars[pool.Name] = served.pool.Jar()
			continue
		}
		jar, err := sticky.New(*pool.Persistence, pool.Name, config.CookieKeys, p.nonces.fill)
		if err != nil {
			return nil, fmt.Errorf("pool %s: persistence: %w", pool.Name, err)
		}
		jars[pool.Name] = jar
	}
	return jars, nil
}

// nonces are random bytes from the system. They are fetched many at a time,
// since a system call would cost more than the rest of a cookie; there is a
// stock for each processor, since event loops make cookies without locks.
type nonces struct{ stocks sync.Pool }

type stock struct {
	bytes [1020]byte // 85 nonces
	left  int        // at the end
}

// fill fills b, which has at most some tens of bytes, with bytes that nobody
// else gets.
func (n *nonces) fill(b []byte) {
	s, ok := n.stocks.Get().(*stock)
	if !ok {
		s = new(stock)
	}
	if s.left < len(b) {
		_, _ = rand.Read(s.bytes[:]) // never fails: the program ends instead
		s.left = len(s.bytes)
	}
	copy(b, s.bytes[len(s.bytes)-s.left:])
	s.left -= len(b)
	n.stocks.Put(s)
}

// validatePersistence reports what is wrong with how pools keep sessions.
func (c Config) validatePersistence(fault func(field, format string, args ...any)) {
	if len(c.CookieKeys) > sticky.MaxKeys {
		fault("cookie_keys", "%d are more than %d: each costs time on a forged cookie", len(c.CookieKeys), sticky.MaxKeys)
	}
	for i, k := range c.CookieKeys {
		at := fmt.Sprintf("cookie_keys[%d]", i)
		switch {
		case k == sticky.Key{}:
			fault(at, "is all zeros: it must be random")
		case slices.Index(c.CookieKeys, k) < i:
			fault(at, "is there twice")
		}
	}
	for i, pool := range c.Pools {
		s := pool.Persistence
		if s == nil {
			continue
		}
		at := fmt.Sprintf("pools[%d]", i)
		for _, f := range s.Faults() {
			fault(at+".persistence."+f.Field, "%s", f.Reason)
		}
		if s.Format != sticky.Plain && len(c.CookieKeys) == 0 {
			fault(at+".persistence.format", "a signed or hidden cookie needs cookie_keys, and there are none")
		}
		for j, server := range pool.Servers {
			if len(server.Name) > sticky.MaxServer {
				fault(fmt.Sprintf("%s.servers[%d].name", at, j), "is longer than the %d bytes that a cookie holds", sticky.MaxServer)
			}
		}
	}
}
