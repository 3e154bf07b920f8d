package node

import (
	"slices"

	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/vip/owner"
)

// arpVIPs gives the ARP-mode VIPs that this node may hold. members are those that
// have a voice, open holds of VIPs whose gates are.
func arpVIPs(c registry.Config, self Config, members []string, open func(vip string) bool, leaving bool) []holder.VIP {
	var out []holder.VIP
	for _, v := range c.VIPs {
		if v.Mode != registry.ModeARP || !v.SelectsNode(self.Name) {
			continue
		}
		a := v.EffectiveARP()
		ranks := make(map[string]uint32, len(members))
		for _, m := range members {
			if v.SelectsNode(m) {
				_, priority := a.On(m)
				ranks[m] = holder.Rank(v.Name, m, priority)
			}
		}
		on, priority := a.On(self.Name)
		out = append(out, holder.VIP{
			Name: v.Name, Addresses: slices.Clone(v.Addresses), Interface: on, Open: open(v.Name), Leaving: leaving,
			Policy: owner.Policy{
				Takeover: takeovers[a.Takeover], Preempt: *a.Preempt, PreemptDelay: *a.PreemptDelay,
				Lease: a.Lease, Place: holder.Place(self.Name, ranks),
			},
			Rank: holder.Rank(v.Name, self.Name, priority),
		})
	}
	return out
}

var takeovers = map[registry.Takeover]owner.Takeover{
	registry.TakeoverStrict:     owner.Strict,
	registry.TakeoverLastResort: owner.LastResort,
}
