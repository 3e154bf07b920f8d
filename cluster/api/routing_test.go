package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

func TestRoutingIsOfEveryNode(t *testing.T) {
	h := newHouse(t, "n2", "n3", "n4")
	client := h.client(t, "n1", "n1")
	const neighbors = `neighbors:
  - {name: tor1, address: 10.0.0.1, asn: 65000, local_asn: 65010, nodes: [n1, n2]}
  - {name: tor2, address: 10.0.0.2, asn: 65000, local_asn: 65010, nodes: [n1]}
`
	if _, err := client.Apply(t.Context(), apply(document+neighbors)); err != nil {
		t.Fatal(err)
	}
	announcement := func(neighbor, vip string) *pharosv1.Announcement {
		return &pharosv1.Announcement{Neighbor: neighbor, Vip: vip, Announced: true}
	}
	h.members["n1"].node.routing = &pharosv1.NodeRoutingResponse{
		Sessions:      []*pharosv1.SessionStatus{{Neighbor: "tor1"}, {Neighbor: "tor2"}},
		Announcements: []*pharosv1.Announcement{announcement("tor1", "web"), announcement("tor2", "web"), announcement("tor2", "old")},
	}
	h.members["n2"].node.routing = &pharosv1.NodeRoutingResponse{
		Sessions: []*pharosv1.SessionStatus{{Neighbor: "tor1"}}, Announcements: []*pharosv1.Announcement{announcement("tor1", "web")},
	}
	h.gossip.set(LiveMember{Name: "n3"})
	h.members["n4"].stop() // alive by gossip, but mute
	for _, test := range []struct {
		name    string
		request *pharosv1.RoutingRequest
		want    []string
	}{
		{"all", &pharosv1.RoutingRequest{}, []string{
			"n1 sessions tor1 tor2 announcements tor1/web tor2/web tor2/old",
			"n2 sessions tor1 announcements tor1/web",
			"n3 it is not alive", "n4 it could not be asked",
		}},
		{"one node", &pharosv1.RoutingRequest{Node: "n2"}, []string{"n2 sessions tor1 announcements tor1/web"}},
		{"one neighbor", &pharosv1.RoutingRequest{Node: "n1", Neighbor: "tor2"}, []string{"n1 sessions tor2 announcements tor2/web tor2/old"}},
		{"one VIP", &pharosv1.RoutingRequest{Node: "n1", Vip: "web"}, []string{"n1 sessions tor1 tor2 announcements tor1/web tor2/web"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := client.Routing(t.Context(), test.request)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range answer.GetNodes() {
				line := n.GetNode()
				if n.GetError() != "" {
					line += " " + strings.Split(n.GetError(), ":")[0]
				} else {
					line += " sessions"
					for _, s := range n.GetSessions() {
						line += " " + s.GetNeighbor()
					}
					line += " announcements"
					for _, a := range n.GetAnnouncements() {
						line += fmt.Sprintf(" %s/%s", a.GetNeighbor(), a.GetVip())
					}
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, unknown := range []*pharosv1.RoutingRequest{{Node: "n5"}, {Neighbor: "tor"}, {Vip: "wbe"}} {
		_, err := client.Routing(t.Context(), unknown)
		failed(t, err, codes.NotFound, "there is no")
	}
}
