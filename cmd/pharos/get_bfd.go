package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// bfdView is a BFD session of a node.
type bfdView struct {
	Neighbor            string     `json:"neighbor"`
	Address             string     `json:"address"`
	State               string     `json:"state"`
	Since               *time.Time `json:"since,omitempty"`
	RemoteState         string     `json:"remote_state"`
	Transmit            string     `json:"transmit"`
	Detection           string     `json:"detection"`
	Diagnostic          string     `json:"diagnostic"`
	RemoteDiagnostic    string     `json:"remote_diagnostic"`
	Flaps               int32      `json:"flaps"`
	Discriminator       uint32     `json:"discriminator"`
	RemoteDiscriminator uint32     `json:"remote_discriminator"`
	Reason              string     `json:"reason,omitempty"`
}

// nodeBFDView are the BFD sessions of one node.
type nodeBFDView struct {
	Node     string    `json:"node"`
	Error    string    `json:"error,omitempty"` // why it could not be asked
	Sessions []bfdView `json:"sessions"`
}

// bfdViews are the sessions of all nodes, or of the one that was asked for.
type bfdViews []nodeBFDView

// getBFD shows the sessions, or those with one neighbor.
func getBFD(ctx context.Context, o *options, cmd *cobra.Command, client *api.Client, name, node string) error {
	answer, err := client.Routing(ctx, &pharosv1.RoutingRequest{Neighbor: name, Node: node})
	if err != nil {
		return err
	}
	views, found := bfdViews{}, false
	for _, n := range answer.GetNodes() {
		view := nodeBFDView{Node: n.GetNode(), Error: n.GetError(), Sessions: []bfdView{}}
		for _, s := range n.GetSessions() {
			if s.GetBfd() != nil && (name == "" || name == s.GetNeighbor()) {
				view.Sessions = append(view.Sessions, bfdOf(s))
			}
		}
		found = found || view.Error != "" || len(view.Sessions) > 0
		views = append(views, view)
	}
	if name != "" && !found {
		return fmt.Errorf("no node has a BFD session with a neighbor %q", name)
	}
	return o.show(cmd, views, views.table)
}

func bfdOf(s *pharosv1.SessionStatus) bfdView {
	b := s.GetBfd()
	return bfdView{
		Neighbor: s.GetNeighbor(), Address: s.GetAddress(), State: b.GetState(), Since: stamp(b.GetSince()), RemoteState: b.GetRemoteState(),
		Transmit: b.GetTransmit().AsDuration().String(), Detection: b.GetDetection().AsDuration().String(),
		Diagnostic: b.GetDiagnostic(), RemoteDiagnostic: b.GetRemoteDiagnostic(), Flaps: b.GetFailures(),
		Discriminator: b.GetDiscriminator(), RemoteDiscriminator: b.GetRemoteDiscriminator(), Reason: b.GetReason(),
	}
}

// table has a line for each session, and for each node that gave no answer.
func (v bfdViews) table(w io.Writer) {
	row(w, "NODE", "NEIGHBOR", "ADDRESS", "STATE", "SINCE", "TRANSMIT", "DETECTION", "FLAPS", "LAST DIAGNOSTIC", "ROUTER SAYS", "REASON")
	for _, n := range v {
		if n.Error != "" {
			row(w, n.Node, "", "", "unknown", "", "", "", "", "", "", n.Error)
		}
		for _, s := range n.Sessions {
			router := s.RemoteState
			if s.RemoteDiagnostic != "none" {
				router += ": " + s.RemoteDiagnostic
			}
			row(w, n.Node, s.Neighbor, s.Address, s.State, clock(s.Since), s.Transmit, s.Detection, s.Flaps, s.Diagnostic, router, s.Reason)
		}
	}
}
