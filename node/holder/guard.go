package holder

import (
	"net/netip"
	"sync"
)

// right is why an address may be answered for.
type right int

const (
	byLease right = iota + 1 // while the lease is held, at each moment
	lastResort
)

// guard stands before each packet that claims a VIP. It has a lock of its own:
// packets do not wait for decisions.
type guard struct {
	mu     sync.RWMutex
	leases Leases
	may    map[netip.Addr]permit
}

type permit struct {
	vip   string
	right right
}

// whileHeld calls send if the address may be answered for at this very moment,
// and keeps it from being taken back until send has returned.
func (g *guard) whileHeld(a netip.Addr, send func()) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	p := g.may[a]
	switch {
	case p.right == lastResort:
		send()
	case p.right == byLease && g.leases != nil:
		g.leases.WhileHeld(p.vip, send)
	}
}

// use changes where leases are had.
func (g *guard) use(l Leases) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leases = l
}

// allow has the addresses of a VIP answered for.
func (g *guard) allow(vip string, addresses []netip.Addr, r right) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.may == nil {
		g.may = make(map[netip.Addr]permit)
	}
	for _, a := range addresses {
		g.may[a] = permit{vip, r}
	}
}

// refuse takes that back. Nothing is sent any more when it returns.
func (g *guard) refuse(addresses []netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range addresses {
		delete(g.may, a)
	}
}
