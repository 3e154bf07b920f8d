package node

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/holder"
)

// The reasons for which one address of a VIP is not announced to one neighbor,
// beside those of the VIP's gate.
const (
	ReasonNeighborNotSelected ReasonCode = "neighbor_not_selected" // the VIP's neighbors do not name it
	ReasonNoNextHop           ReasonCode = "no_next_hop"           // this node has no address of the family
	ReasonInvalid             ReasonCode = "invalid"               // the configuration cannot be translated
	ReasonSessionDown         ReasonCode = "session_down"
	ReasonFamily              ReasonCode = "family_not_negotiated" // the router does not take the address family
	ReasonPending             ReasonCode = "pending"               // on its way to the router
	ReasonWithdrawing         ReasonCode = "withdrawing"           // not to be announced, and the router has it still
)

const notSelectedMessage = "the VIP's nodes do not name this one"

// announcement is one address of a VIP towards one neighbor of this node.
type announcement struct {
	vip, neighbor string
	route         bgp.Route // that is or would be announced; of a refused one, only the prefix
	announced     bool      // the router was told, and not told otherwise since
	reasons       []Reason  // why it is not announced, or not for long any more; empty: it is
}

// routeKey is by what a route is known.
type routeKey struct {
	neighbor string
	prefix   netip.Prefix
}

// announcements says for each address of each VIP and each neighbor that names
// this node whether it is announced, and why not if so. handed is what the
// speaker was last given; nil: that failed.
func announcements(c registry.Config, self Config, gates map[string]Gate, handed *bgp.State, sessions []bgp.SessionStatus) []announcement {
	routes := map[routeKey]bgp.Route{}
	if handed != nil {
		for _, n := range handed.Neighbors {
			for _, r := range n.Routes {
				routes[routeKey{n.Name, r.Prefix}] = r
			}
		}
	}
	var all []announcement
	for _, v := range c.VIPs {
		if v.Mode != registry.ModeBGP {
			continue
		}
		for _, n := range c.Neighbors {
			if !slices.Contains(n.Nodes, self.Name) {
				continue
			}
			for _, a := range v.Addresses {
				route, refused, err := routeTo(n, v, self, a)
				if err != nil {
					refused = &Reason{Code: ReasonInvalid, Message: err.Error()}
				}
				route.Prefix = prefixOf(a)
				one := announcement{vip: v.Name, neighbor: n.Name, route: route}
				if r, ok := routes[routeKey{n.Name, route.Prefix}]; ok {
					one.route = r
				} else if refused != nil {
					one.reasons = []Reason{*refused}
				} else {
					one.reasons = slices.Clone(gates[v.Name].Reasons)
				}
				i := slices.IndexFunc(sessions, func(s bgp.SessionStatus) bool { return s.Neighbor == n.Name })
				if i >= 0 {
					one.see(sessions[i])
				} else if len(one.reasons) == 0 {
					one.reasons = []Reason{{Code: ReasonSessionDown, Message: "there is no session with it yet"}}
				}
				all = append(all, one)
			}
		}
	}
	return all
}

// see adds what the session says: whether the router has the route, and if
// nothing else speaks against it, why it has not.
func (a *announcement) see(s bgp.SessionStatus) {
	a.announced = s.Established && slices.Contains(s.Announced, a.route.Prefix)
	wanted := len(a.reasons) == 0
	add := func(code ReasonCode, message string) {
		a.reasons = append(a.reasons, Reason{Code: code, Message: message, Since: s.Since})
	}
	switch {
	case a.announced && !wanted:
		add(ReasonWithdrawing, "the router was told of it, and its withdrawal is not sent yet")
	case a.announced || !wanted:
	case !s.Established && s.LastError != "":
		add(ReasonSessionDown, fmt.Sprintf("the session is %s: %s", s.State, s.LastError))
	case !s.Established:
		add(ReasonSessionDown, fmt.Sprintf("the session is %s", s.State))
	case slices.Contains(s.Unspoken, a.route.Prefix):
		add(ReasonFamily, "the router did not negotiate this address family: activate it there")
	default:
		add(ReasonPending, "the session is up, and the UPDATE is not sent yet")
	}
}

// describeRouting puts a node's sessions and announcements into the API's words.
func describeRouting(v *View, self Config, sessions []bgp.SessionStatus) *pharosv1.NodeRoutingResponse {
	out := &pharosv1.NodeRoutingResponse{Node: self.Name}
	for _, s := range sessions {
		out.Sessions = append(out.Sessions, describeSession(s, v.Config.Neighbors))
	}
	for _, a := range announcements(v.Config, self, v.Gates, v.Handed, sessions) {
		out.Announcements = append(out.Announcements, a.describe(v.Config.Neighbors))
	}
	return out
}

// answered puts the addresses that this node answers for, or would, into the API's
// words.
func answered(gates map[string]Gate, statuses []holder.Status) []*pharosv1.Announcement {
	var out []*pharosv1.Announcement
	for _, s := range statuses {
		for _, a := range s.Addresses {
			one := &pharosv1.Announcement{Vip: s.VIP, Prefix: prefixOf(a.Address).String(), Interface: cmp.Or(a.Interface, "no interface"), Announced: s.Held}
			if !s.Held {
				one.Reasons = append(describeReasons(gates[s.VIP].Reasons),
					&pharosv1.Reason{Code: string(s.Code), Message: s.Message, Since: stamp(s.Since)})
			}
			out = append(out, one)
		}
	}
	return out
}

// describe puts an announcement into the API's words.
func (a announcement) describe(neighbors []registry.Neighbor) *pharosv1.Announcement {
	r := a.route
	out := &pharosv1.Announcement{
		Vip: a.vip, Neighbor: a.neighbor, Prefix: r.Prefix.String(), Announced: a.announced, Reasons: describeReasons(a.reasons),
	}
	if !r.NextHop.IsValid() {
		return out
	}
	out.NextHop, out.Med, out.LocalPreference = r.NextHop.String(), r.MED, r.LocalPref
	for _, c := range r.Communities {
		out.Communities = append(out.Communities, registry.FormatCommunity(c))
	}
	for _, c := range r.LargeCommunities {
		out.LargeCommunities = append(out.LargeCommunities, fmt.Sprintf("%d:%d:%d", c.ASN, c.Function, c.Value))
	}
	i := slices.IndexFunc(neighbors, func(n registry.Neighbor) bool { return n.Name == a.neighbor })
	if i >= 0 && neighbors[i].ASN != neighbors[i].LocalASN {
		out.AsPath = slices.Repeat([]uint32{neighbors[i].LocalASN}, 1+r.Prepend)
	}
	return out
}
