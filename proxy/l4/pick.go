package l4

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// pick walks the servers of a pool that one connection or flow may go to. It
// holds a slot of the present one. The zero value has no server.
type pick struct {
	pool      *pool.Pool
	selection pool.Selection
	server    *pool.Server // nil: none
	tried     int
	full      bool // a server was passed over, which is at its limit
	timedOut  bool // the last one tried did not answer in time
}

// choose begins the walk through p's servers for a client.
func choose(p *pool.Pool, client netip.Addr, now time.Duration) pick {
	return pick{pool: p, selection: p.Select(balance.AddrKey(client), now)}
}

// next moves on to the next server that has a slot; false when there is none.
func (p *pick) next() bool {
	for {
		s := p.selection.Next()
		if s == nil {
			return false
		}
		if p.pool.Begin(s) {
			p.server = s
			p.tried++
			return true
		}
		p.full = true
	}
}

// failed gives the server's slot back, which did not take the connection.
func (p *pick) failed(kind pool.OutcomeKind, now time.Duration) {
	p.timedOut = kind == pool.TimedOut
	p.end(kind, now)
}

// stands: the server has taken the connection, in so much time (0: nobody
// measured). No other is looked for from here on.
func (p *pick) stands(latency, now time.Duration) {
	p.selection = pool.Selection{} // holds a generation of the pool
	p.server.Connections.Add(1)
	if latency > 0 {
		p.pool.Stood(p.server, latency, now)
	}
}

// end gives the server's slot back, if there is one, and tells how it went.
func (p *pick) end(kind pool.OutcomeKind, now time.Duration) {
	if p.server != nil {
		p.pool.End(p.server, pool.Outcome{Kind: kind, Now: now})
		p.server = nil
	}
}

// why says why next found none.
func (p *pick) why() reason {
	switch {
	case p.tried == 0 && p.full:
		return serversFull
	case p.tried == 0:
		return noServer
	case p.timedOut:
		return connectTimeout
	}
	return connectFailed
}
