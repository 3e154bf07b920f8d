package shed

import (
	"hash/maphash"
	"net/netip"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Key is who r counts as: its client's address, or the value of the field or
// cookie of the configuration. Without one, or with an empty one, it is the
// address.
func (l *ClientLimiter) Key(r policy.Request) uint64 {
	var value []byte
	switch l.config.Key {
	case ByHeader:
		value, _ = r.Header(l.name)
	case ByCookie:
		value, _ = r.Cookie(l.name)
	}
	if len(value) == 0 {
		return l.AddressKey(r.Client())
	}
	// Multiplied, so that no value is the same client as an address whose
	// bytes are equal.
	return maphash.Bytes(l.seed, value) * 0x9e3779b97f4a7c15
}

// AddressKey is who address counts as: IPv4 by itself, mapped into IPv6 or
// not; IPv6 by its prefix of PrefixV6 bits, whatever the zone.
func (l *ClientLimiter) AddressKey(address netip.Addr) uint64 {
	b := address.As16()
	if !address.Unmap().Is4() {
		maskBits(&b, l.config.PrefixV6)
	}
	return maphash.Bytes(l.seed, b[:])
}

// maskBits clears all bits of b but the first n.
func maskBits(b *[16]byte, n int) {
	for i := range b {
		switch keep := n - 8*i; {
		case keep <= 0:
			b[i] = 0
		case keep < 8:
			b[i] &= 0xff << (8 - keep)
		}
	}
}
