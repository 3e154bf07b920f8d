package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// The kinds of which get shows more than the configuration has.
const (
	neighborKind     = "neighbor"
	announcementKind = "announcement"
	bfdKind          = "bfd"
)

// nodeSessionsView are the BGP sessions of one node.
type nodeSessionsView struct {
	Node     string        `json:"node"`
	Error    string        `json:"error,omitempty"` // why it could not be asked
	Sessions []sessionView `json:"sessions"`
}

// neighborsView are neighbors as they are configured, and the nodes' sessions
// with them.
type neighborsView struct {
	Version uint64             `json:"version"`
	Config  api.Configuration  `json:"config"`
	Nodes   []nodeSessionsView `json:"nodes"`
	node    string             // the only one that was asked for; empty: all
}

func getNeighbors(ctx context.Context, cmd *cobra.Command, o *options, client *api.Client, snapshot api.Snapshot, name, node string) error {
	answer, err := client.Routing(ctx, &pharosv1.RoutingRequest{Neighbor: name, Node: node})
	if err != nil {
		return err
	}
	view := neighborsView{Version: snapshot.Version, Config: snapshot.Config, Nodes: []nodeSessionsView{}, node: node}
	for _, n := range answer.GetNodes() {
		view.Nodes = append(view.Nodes, nodeSessionsView{Node: n.GetNode(), Error: n.GetError(), Sessions: sessionsOf(n.GetSessions())})
	}
	return o.show(cmd, view, view.table)
}

// table has a line for each neighbor and each node that is to speak with it.
func (v neighborsView) table(w io.Writer) {
	row(w, "NEIGHBOR", "ADDRESS", "ASN", "LOCAL ASN", "NODE", "STATE", "SINCE", "FLAPS", "ANNOUNCED", "LAST ERROR")
	for _, n := range v.Config.Neighbors {
		for _, name := range n.Nodes {
			if v.node != "" && v.node != name {
				continue
			}
			row(w, append([]any{n.Name, n.Address, n.ASN, n.LocalASN, name}, v.session(n.Name, name)...)...)
		}
	}
}

// session are the columns of the session of a node with a neighbor.
func (v neighborsView) session(neighbor, node string) []any {
	i := slices.IndexFunc(v.Nodes, func(n nodeSessionsView) bool { return n.Node == node })
	if i < 0 {
		return []any{"unknown", "", "", "", "it is no member of the cluster"}
	}
	n := v.Nodes[i]
	if n.Error != "" {
		return []any{"unknown", "", "", "", n.Error}
	}
	j := slices.IndexFunc(n.Sessions, func(s sessionView) bool { return s.Neighbor == neighbor })
	if j < 0 {
		return []any{"none", "", "", "", "the node does not run a version with it yet"}
	}
	s := n.Sessions[j]
	return []any{s.State, clock(s.Since), s.Flaps, list(s.Announced), s.LastError}
}

// announcementView is one address of a VIP, from one node to one neighbor, or on
// its link.
type announcementView struct {
	VIP              string       `json:"vip"`
	Prefix           string       `json:"prefix"`
	Node             string       `json:"node"`
	Neighbor         string       `json:"neighbor"`
	Interface        string       `json:"interface,omitempty"` // in place of a neighbor, of a VIP in mode arp
	Announced        bool         `json:"announced"`
	NextHop          string       `json:"next_hop,omitempty"`
	ASPath           []uint32     `json:"as_path,omitempty"` // as the router sees it
	MED              *uint32      `json:"med,omitempty"`
	LocalPreference  *uint32      `json:"local_preference,omitempty"`
	Communities      []string     `json:"communities,omitempty"`
	LargeCommunities []string     `json:"large_communities,omitempty"`
	Reasons          []reasonView `json:"reasons,omitempty"` // why it is not announced, or not for long
}

type announcementsView struct {
	Announcements []announcementView `json:"announcements"`
	Unasked       []unaskedView      `json:"unasked,omitempty"` // nodes that gave no answer
}

func getAnnouncements(ctx context.Context, cmd *cobra.Command, o *options, client *api.Client, request *pharosv1.RoutingRequest) error {
	answer, err := client.Routing(ctx, request)
	if err != nil {
		return err
	}
	view := announcementsOf(answer)
	return o.show(cmd, view, view.table)
}

// announcementsOf puts the nodes' together, VIP by VIP.
func announcementsOf(answer *pharosv1.RoutingResponse) announcementsView {
	view := announcementsView{Announcements: []announcementView{}}
	vips := map[string]int{} // by name, in the order of the configuration
	for _, n := range answer.GetNodes() {
		if n.GetError() != "" {
			view.Unasked = append(view.Unasked, unaskedView{Node: n.GetNode(), Reason: n.GetError()})
		}
		for _, a := range n.GetAnnouncements() {
			if _, ok := vips[a.GetVip()]; !ok {
				vips[a.GetVip()] = len(vips)
			}
			view.Announcements = append(view.Announcements, announcementView{
				VIP: a.GetVip(), Prefix: a.GetPrefix(), Node: n.GetNode(), Neighbor: a.GetNeighbor(), Interface: a.GetInterface(), Announced: a.GetAnnounced(),
				NextHop: a.GetNextHop(), ASPath: a.GetAsPath(), MED: a.Med, LocalPreference: a.LocalPreference,
				Communities: a.GetCommunities(), LargeCommunities: a.GetLargeCommunities(), Reasons: reasonsOf(a.GetReasons()),
			})
		}
	}
	slices.SortStableFunc(view.Announcements, func(a, b announcementView) int {
		return cmp.Or(cmp.Compare(vips[a.VIP], vips[b.VIP]), cmp.Compare(a.Prefix, b.Prefix))
	})
	return view
}

func (v announcementsView) table(w io.Writer) {
	row(w, "VIP", "PREFIX", "NODE", "NEIGHBOR", "ANNOUNCED", "NEXT HOP", "AS PATH", "OTHER ATTRIBUTES", "WHY NOT")
	announced := 0
	for _, a := range v.Announcements {
		if a.Announced {
			announced++
		}
		var why []string
		for _, r := range a.Reasons {
			why = append(why, r.Code+": "+r.Message)
		}
		to := a.Neighbor
		if a.Interface != "" {
			to = "on " + a.Interface
		}
		row(w, a.VIP, a.Prefix, a.Node, to, yesNo(a.Announced), a.NextHop, a.asPath(), a.others(), strings.Join(why, "; "))
	}
	fmt.Fprintf(w, "%d of %d are announced.\n", announced, len(v.Announcements))
	for _, u := range v.Unasked {
		fmt.Fprintf(w, "%s is not counted: %s\n", u.Node, u.Reason)
	}
}

// asPath is empty within one AS.
func (a announcementView) asPath() string {
	words := make([]string, len(a.ASPath))
	for i, asn := range a.ASPath {
		words[i] = fmt.Sprint(asn)
	}
	return strings.Join(words, " ")
}

// others are the attributes that have no column of their own.
func (a announcementView) others() string {
	var all []string
	if a.MED != nil {
		all = append(all, fmt.Sprintf("med %d", *a.MED))
	}
	if a.LocalPreference != nil {
		all = append(all, fmt.Sprintf("local preference %d", *a.LocalPreference))
	}
	return strings.Join(slices.Concat(all, a.Communities, a.LargeCommunities), ", ")
}
