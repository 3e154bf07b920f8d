package main

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

func (c *control) Routing(_ context.Context, r *pharosv1.RoutingRequest) (*pharosv1.RoutingResponse, error) {
	if r.GetVip() == "dns" {
		return nil, status.Error(codes.NotFound, `there is no VIP "dns"`)
	}
	answer := &pharosv1.RoutingResponse{Nodes: []*pharosv1.NodeRoutingResponse{
		{Node: "n1", Sessions: sessions()[:1], Announcements: []*pharosv1.Announcement{
			{
				Vip: "web", Neighbor: "tor-n1", Prefix: "198.51.100.1/32", Announced: true, NextHop: "10.0.1.2", AsPath: []uint32{65010, 65010}, Med: new(uint32),
				Communities: []string{"graceful-shutdown", "65010:1"}, LargeCommunities: []string{"4200000001:1:2"},
			},
			{
				Vip: "web", Neighbor: "tor-n1", Prefix: "2001:db8:100::1/128",
				Reasons: []*pharosv1.Reason{{Code: "no_next_hop", Message: "this node has no address of the family of 2001:db8:100::1 to be the next hop"}},
			},
		}},
		{Node: "n2", Sessions: sessions()[1:], Announcements: []*pharosv1.Announcement{{
			Vip: "web", Neighbor: "tor-b", Prefix: "198.51.100.1/32", NextHop: "10.0.9.2", LocalPreference: new(uint32),
			Reasons: []*pharosv1.Reason{{Code: "session_down", Message: "the session is active: connection refused", Since: dawn}},
		}}},
		{Node: "n4", Announcements: []*pharosv1.Announcement{
			{Vip: "office", Prefix: "10.0.50.100/32", Interface: "eth1", Announced: true},
			{Vip: "office", Prefix: "2001:db8:50::100/128", Interface: "eth1", Reasons: []*pharosv1.Reason{{Code: "held-by-other", Message: "held by n1"}}},
		}},
		{Node: "n3", Error: "it is not alive: no heartbeats come from it"},
	}}
	if r.GetNode() != "" {
		answer.Nodes = answer.Nodes[:1]
	}
	c.routed = append(c.routed, r)
	return answer, nil
}

// checkRouted looks at what the commands of the goldens asked for.
func checkRouted(t *testing.T, routed []*pharosv1.RoutingRequest) {
	t.Helper()
	for _, want := range []*pharosv1.RoutingRequest{{}, {Neighbor: "tor-n1", Node: "n1"}, {Vip: "web", Node: "n1", Neighbor: "tor-n1"}} {
		if !slices.ContainsFunc(routed, func(r *pharosv1.RoutingRequest) bool { return proto.Equal(r, want) }) {
			t.Errorf("asked for %v, not for %v", routed, want)
		}
	}
}
