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

// bfdView is a BFD session of the asked node.
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

// getBFD shows the sessions, or that of one neighbor.
func getBFD(ctx context.Context, o *options, cmd *cobra.Command, client *api.Client, names []string) error {
	answer, err := client.Status(ctx, &pharosv1.StatusRequest{})
	if err != nil {
		return err
	}
	views := []bfdView{}
	for _, s := range answer.GetNode().GetSessions() {
		b := s.GetBfd()
		if b == nil || len(names) > 0 && names[0] != s.GetNeighbor() {
			continue
		}
		views = append(views, bfdView{
			Neighbor: s.GetNeighbor(), Address: s.GetAddress(), State: b.GetState(), Since: stamp(b.GetSince()), RemoteState: b.GetRemoteState(),
			Transmit: b.GetTransmit().AsDuration().String(), Detection: b.GetDetection().AsDuration().String(),
			Diagnostic: b.GetDiagnostic(), RemoteDiagnostic: b.GetRemoteDiagnostic(), Flaps: b.GetFailures(),
			Discriminator: b.GetDiscriminator(), RemoteDiscriminator: b.GetRemoteDiscriminator(), Reason: b.GetReason(),
		})
	}
	if len(names) > 0 && len(views) == 0 {
		return fmt.Errorf("node %s has no BFD session with a neighbor %q", answer.GetNode().GetName(), names[0])
	}
	return o.show(cmd, views, func(w io.Writer) { bfdTable(w, views) })
}

func bfdTable(w io.Writer, views []bfdView) {
	row(w, "NEIGHBOR", "ADDRESS", "STATE", "SINCE", "TRANSMIT", "DETECTION", "FLAPS", "LAST DIAGNOSTIC", "ROUTER SAYS", "REASON")
	for _, v := range views {
		router := v.RemoteState
		if v.RemoteDiagnostic != "none" {
			router += ": " + v.RemoteDiagnostic
		}
		row(w, v.Neighbor, v.Address, v.State, clock(v.Since), v.Transmit, v.Detection, v.Flaps, v.Diagnostic, router, v.Reason)
	}
}
