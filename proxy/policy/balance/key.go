package balance

import (
	"net/netip"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// seed makes Pharos's hashes its own. It is no secret: who crafts keys that
// all fall on one server is held by the bound on its load (see HashBound).
const seed = 0x706861726f732d31

// Keyer computes the keys by which a pool's requests are hashed. Its zero
// value computes none.
type Keyer struct {
	by   Algorithm
	name string // of the field in lower case, or of the cookie
}

// NewKeyer returns the Keyer for a pool's configuration.
func NewKeyer(c Config) Keyer {
	k := Keyer{by: c.Algorithm, name: c.HashName}
	if k.by == HeaderHash {
		k.name = strings.ToLower(k.name)
	}
	return k
}

// Key is what [Picker.Pick] hashes a request by: 0 if the algorithm is no
// hash. A request without the field or the cookie is hashed by its client's
// address: all of them on one server would be the hottest spot of all. An
// empty value is a value. Key does not allocate.
func (k Keyer) Key(r policy.Request) uint64 {
	switch k.by {
	case URIHash:
		h := hash64(seed, r.Path())
		if q := r.Query(); len(q) > 0 {
			h = hash64(h, q)
		}
		return h
	case HeaderHash:
		if v, ok := r.Header(k.name); ok {
			return hash64(seed, v)
		}
	case CookieHash:
		if v, ok := r.Cookie(k.name); ok {
			return hash64(seed, v)
		}
	case SourceHash:
	default:
		return 0
	}
	return AddrKey(r.Client())
}

// AddrKey is the key of a client's address alone: what connections without
// requests (tcp, tls, udp) are hashed by under any hash. An IPv4-mapped IPv6
// address (RFC 4291 section 2.5.5.2) is the IPv4 address; zones do not count.
func AddrKey(a netip.Addr) uint64 {
	b := a.As16() // maps IPv4, so that both forms are one
	return hash64(seed, b[:])
}

// Identity is the [Member.ID] of a server. It depends on nothing but the name
// and the address, so that all nodes of a cluster build the same tables.
func Identity(name string, address netip.AddrPort) uint64 {
	ip := address.Addr().As16()
	b := make([]byte, 0, len(name)+len(ip)+2)
	b = append(b, ip[:]...)
	b = append(b, byte(address.Port()>>8), byte(address.Port()))
	b = append(b, name...)
	return hash64(seed, b)
}
