package l4

import (
	"github.com/pharos-lb/pharos/proxy/pool"
)

// pick walks the servers of a pool that one connection may go to, and counts
// the connection at the one that took it. The zero value has no server.
type pick struct {
	pool      *pool.Pool
	selection pool.Selection
	server    *pool.Server // tried last
	counted   bool
}

func newPick(p *pool.Pool) pick { return pick{pool: p, selection: p.Select()} }

// next moves on to the next server; false when there is none.
func (p *pick) next() bool {
	p.server = p.selection.Next()
	return p.server != nil
}

// begin counts the connection, now that the server has taken it. No other is
// looked for from here on.
func (p *pick) begin() {
	p.selection = pool.Selection{} // holds a generation of the pool
	p.server.InFlight.Add(1)
	p.server.Connections.Add(1)
	p.counted = true
}

// end is the end of the connection, whether it began or not.
func (p *pick) end() {
	if p.counted {
		p.server.InFlight.Add(-1)
	}
	*p = pick{}
}
