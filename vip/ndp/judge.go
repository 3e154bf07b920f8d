package ndp

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
)

// verdict is what a message means to a node that looks after an address.
type verdict int

const (
	nothing verdict = iota
	// asks: who has the address? To be answered by its holder (RFC 4861 section 7.2.4).
	asks
	// probes: may I have the address (RFC 4862 section 5.4.3)? Answered to all nodes.
	probes
	// rivals: I have the address.
	rivals
)

// judge says what a message means, and for which address. self is our own
// hardware address; watched says which addresses are looked after.
func judge(m ndp.Message, from netip.Addr, self net.HardwareAddr, watched func(netip.Addr) bool) (verdict, netip.Addr, net.HardwareAddr) {
	switch m := m.(type) {
	case *ndp.NeighborSolicitation:
		if bytes.Equal(linkLayer(m.Options, ndp.Source), self) || !watched(m.TargetAddress) {
			break
		}
		if from.WithZone("").IsUnspecified() {
			return probes, m.TargetAddress, nil
		}
		return asks, m.TargetAddress, nil
	case *ndp.NeighborAdvertisement:
		other := linkLayer(m.Options, ndp.Target)
		if bytes.Equal(other, self) || !watched(m.TargetAddress) {
			break
		}
		return rivals, m.TargetAddress, other
	}
	return nothing, netip.Addr{}, nil
}

// linkLayer is the hardware address in a message's options; nil: there is none.
func linkLayer(options []ndp.Option, d ndp.Direction) net.HardwareAddr {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == d {
			return l.Addr
		}
	}
	return nil
}
