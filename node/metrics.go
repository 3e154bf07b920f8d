package node

import (
	"context"

	"github.com/pharos-lb/pharos/node/metrics"
)

// serveMetrics answers scrapes, unless the node file says that nobody may ask.
func (n *Node) serveMetrics(ctx context.Context) error {
	if n.config.Metrics == switchedOff {
		return nil
	}
	return metrics.Serve(ctx, n.config.Metrics, n.measure, n.logger)
}

// measure is what metrics show.
func (n *Node) measure() metrics.Snapshot {
	v := n.reconciler.View()
	leader, _ := n.store.Leader()
	s := metrics.Snapshot{
		Version: n.opts.Version, Applied: v.Version, Failing: v.Failure != nil, Draining: v.Draining, HasLeader: leader != "",
		VIPs: make(map[string]bool, len(v.Config.VIPs)), Sessions: n.speaker.Status(), Sender: n.speaker.Sender(), Proxy: n.proxy.Status(),
		Held: n.holder.Status(), Leases: n.leases.Lateness(),
	}
	for _, vip := range v.Config.VIPs {
		s.VIPs[vip.Name] = v.Gates[vip.Name].Open
	}
	return s
}
