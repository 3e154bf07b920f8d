package arp

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
)

// verdict is what a packet means to a node that looks after an address.
type verdict int

const (
	nothing verdict = iota
	// asks: who has the address? To be answered by its holder.
	asks
	// probes: may I have the address? Answered alike (RFC 5227 section 2.1.1), and,
	// to a node that probes itself, a sign that it is not alone.
	probes
	// rivals: I have the address (RFC 5227 section 2.4).
	rivals
)

// judge says what a packet means, and for which address. self is our own
// hardware address; watched says which addresses are looked after.
func judge(p *arp.Packet, self net.HardwareAddr, watched func(netip.Addr) bool) (verdict, netip.Addr) {
	if len(p.SenderHardwareAddr) != len(self) || bytes.Equal(p.SenderHardwareAddr, self) {
		return nothing, netip.Addr{}
	}
	if watched(p.SenderIP) {
		return rivals, p.SenderIP
	}
	if p.Operation != arp.OperationRequest || !watched(p.TargetIP) {
		return nothing, netip.Addr{}
	}
	if p.SenderIP.IsUnspecified() {
		return probes, p.TargetIP
	}
	return asks, p.TargetIP
}
