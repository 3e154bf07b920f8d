package listener

import (
	"net/netip"
	"sync/atomic"
)

// Probes are the ports that the node's own probes come from now. They come from
// the loopback interface, where nobody else can have a port that one of them has:
// the kernel takes no packet from outside for one from there.
//
// The zero value has none. All is safe for concurrent use; Are takes no lock, as
// every connection asks.
type Probes struct {
	ports [1 << 16 / 64]atomic.Uint64
}

// Expect has what comes from a port taken for a probe, until Forget. The port
// must be bound, at a loopback address, by whoever probes.
func (p *Probes) Expect(port uint16) { p.ports[port/64].Or(1 << (port % 64)) }

// Forget ends that. Call it before the port is given back.
func (p *Probes) Forget(port uint16) { p.ports[port/64].And(^uint64(1 << (port % 64))) }

// Are reports whether what comes from source is a probe.
func (p *Probes) Are(source netip.AddrPort) bool {
	port := source.Port()
	return p.ports[port/64].Load()&(1<<(port%64)) != 0 && source.Addr().Unmap().IsLoopback()
}
