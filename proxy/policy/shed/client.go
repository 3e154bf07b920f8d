package shed

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// ClientLimiter bounds what each client of a listener may do: requests by a
// token bucket, and connections open at one time. Both are kept in tables whose
// size is fixed when they are made: two entries, of 16 and 8 bytes, for each
// client of Table. Every method may be called by any goroutine; none locks, and
// only NewClientLimiter and Retune allocate.
//
// A full table never counts against a client: one that finds no entry is let
// in uncounted (see [ClientStats]). Entries in use are never evicted, since that
// would give a fresh bucket to whoever can make others' entries.
//
// Who sends a field or cookie decides what is in it. By [ByHeader] and
// [ByCookie], a client that invents a value for each request has a full bucket
// each time, and by Burst/Rate seconds of other people's values fills the table,
// so that limits no longer hold; it cannot be refused on behalf of others, except
// by those who know their value. Use them for values that somebody has checked:
// behind a gateway that sets the field, or with keys that the servers refuse when
// unknown. An address cannot be invented over TCP, as far as no forwarding field
// of an untrusted peer is believed.
type ClientLimiter struct {
	config ClientConfig // with defaults; Rate, Burst and Connections are as at the start
	name   string       // of the field, in lower case, or of the cookie
	seed   maphash.Seed

	// Nil until there first is a limit; kept when it goes, for what is counted
	// in them is still to be released.
	rates       atomic.Pointer[rates]
	connections atomic.Pointer[connections]

	limited, uncounted            atomic.Uint64
	refused, uncountedConnections atomic.Uint64
}

// ClientStats counts since the start.
type ClientStats struct {
	Limited              uint64 // requests over the rate
	Uncounted            uint64 // requests let in because the table was full
	RefusedConnections   uint64
	UncountedConnections uint64 // connections let in because the table was full
}

// NewClientLimiter returns a limiter that has seen nobody yet. seed makes it
// unpredictable which clients share a set of the table; take maphash.MakeSeed.
func NewClientLimiter(c ClientConfig, seed maphash.Seed) *ClientLimiter {
	c = c.WithDefaults()
	l := &ClientLimiter{config: c, name: c.Name, seed: seed}
	if c.Key == ByHeader {
		l.name = strings.ToLower(c.Name)
	}
	l.Retune(c)
	return l
}

// Retune changes Rate, Burst and Connections, and keeps what was counted. It
// reports false, and does nothing, if c differs in more than these: a new
// limiter is needed then, while connections are released at the old one.
// Connections that were open when their limit was off stay uncounted. It must
// not be called twice at a time.
func (l *ClientLimiter) Retune(c ClientConfig) bool {
	c = c.WithDefaults()
	if c.Key != l.config.Key || c.Name != l.config.Name || c.PrefixV6 != l.config.PrefixV6 || c.Table != l.config.Table {
		return false
	}
	r, t := l.rates.Load(), l.connections.Load()
	if r == nil && c.Rate > 0 {
		r = newRates(c.Table)
	}
	if t == nil && c.Connections > 0 {
		t = newConnections(c.Table)
	}
	if r != nil {
		r.tune(c.Rate, c.Burst)
		l.rates.Store(r)
	}
	if t != nil {
		t.limit.Store(int64(c.Connections))
		l.connections.Store(t)
	}
	return true
}

// Allow takes one token from the bucket of a client, whose key is of Key or
// AddressKey. If there is none, wait is how long it takes until there is, for
// [RetryAfter].
func (l *ClientLimiter) Allow(key uint64, now time.Duration) (ok bool, wait time.Duration) {
	r := l.rates.Load()
	if r == nil {
		return true, 0
	}
	o, wait := r.take(key, now)
	switch o {
	case exceeds:
		l.limited.Add(1)
		return false, wait
	case noEntry:
		l.uncounted.Add(1)
	}
	return true, 0
}

// ClientSlot is one counted connection of a client. Its zero value is one that
// is not counted.
type ClientSlot struct{ position int } // in the table, plus 1

// Acquire counts a new connection from address, and reports whether it is
// within the limit. If so, the slot is to be given back by Release once.
func (l *ClientLimiter) Acquire(address netip.Addr) (ClientSlot, bool) {
	t := l.connections.Load()
	if t == nil {
		return ClientSlot{}, true
	}
	at, o := t.acquire(l.AddressKey(address))
	switch o {
	case exceeds:
		l.refused.Add(1)
		return ClientSlot{}, false
	case noEntry:
		l.uncountedConnections.Add(1)
		return ClientSlot{}, true
	}
	return ClientSlot{at + 1}, true
}

// Release takes back an Acquire that was within the limit.
func (l *ClientLimiter) Release(s ClientSlot) {
	if s.position > 0 {
		l.connections.Load().release(s.position - 1)
	}
}

// Stats returns what was counted.
func (l *ClientLimiter) Stats() ClientStats {
	return ClientStats{
		Limited:              l.limited.Load(),
		Uncounted:            l.uncounted.Load(),
		RefusedConnections:   l.refused.Load(),
		UncountedConnections: l.uncountedConnections.Load(),
	}
}
