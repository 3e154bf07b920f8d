package node

import (
	"net/netip"

	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/probe"
)

// probeTargets are the addresses that this node probes itself at.
func probeTargets(c registry.Config) []probe.Target {
	c = c.Clone()
	for i := range c.VIPs {
		if c.VIPs[i].Probe == nil {
			c.VIPs[i].Probe = &registry.Probe{}
		}
	}
	c = c.Effective()
	var out []probe.Target
	for _, v := range c.VIPs {
		if *v.Probe.Interval == 0 {
			continue
		}
		for _, l := range c.Listeners {
			if l.VIP != v.Name {
				continue
			}
			for _, a := range v.Addresses {
				out = append(out, probe.Target{
					Key:  probe.Key{Listener: l.Name, Address: netip.AddrPortFrom(a, l.Port)},
					Kind: probeKind(l.Protocol), Interval: *v.Probe.Interval, Timeout: v.Probe.Timeout, Fall: v.Probe.Fall,
				})
			}
		}
	}
	return out
}

func probeKind(p registry.Protocol) probe.Kind {
	switch p {
	case registry.ProtocolHTTP:
		return probe.HTTP
	case registry.ProtocolHTTPS:
		return probe.HTTPS
	case registry.ProtocolUDP:
		return probe.Datagram
	}
	return probe.Stream
}
