package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

func newStatusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how a node is, and how it sees the others",
		Args:  arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				answer, err := client.Status(ctx, &pharosv1.StatusRequest{})
				if err != nil {
					return err
				}
				view := statusViewOf(answer)
				return o.show(cmd, view, func(w io.Writer) { view.table(w) })
			})
		},
	}
}

func (v statusView) table(w io.Writer) {
	row(w, "node", v.Node)
	row(w, "software", v.SoftwareVersion)
	row(w, "engine", v.Engine)
	row(w, "started", clock(v.Started))
	leader := v.Leader
	if leader == "" {
		leader = "none: changes are refused, serving goes on"
	}
	row(w, "leader", leader)
	row(w, "version", fmt.Sprintf("%d, running %d", v.Version, v.AppliedVersion))
	if v.ApplyError != "" {
		row(w, "not running it", v.ApplyError)
	}
	row(w, "draining", yesNo(v.Draining))
	row(w, "connections", fmt.Sprintf("%d, requests in flight %d", v.Connections, v.InFlight))
	row(w, "servers", serverCounts(v.Pools))
	for _, warning := range v.Warnings {
		row(w, "WARNING", warning)
	}

	fmt.Fprintln(w)
	row(w, "VIP", "ADDRESSES", "ANNOUNCING", "SINCE", "NEIGHBORS", "REASON")
	for _, p := range v.VIPs {
		row(w, p.columns()...)
	}
	fmt.Fprintln(w)
	sessionTable(w, v.Sessions)
	fmt.Fprintln(w)
	row(w, "LISTENER", "PROTOCOL", "ADDRESSES", "ACCEPTING", "OPEN", "ACCEPTED", "REQUESTS", "FAILED")
	for _, l := range v.Listeners {
		row(w, l.Name, l.Protocol, list(l.Addresses), yesNo(l.Accepting), l.Connections, l.Accepted, l.Requests, l.Failed)
	}
	fmt.Fprintln(w)
	row(w, "SERVER", "ADDRESS", "WEIGHT", "BACKUP", "STATE", "IN FLIGHT", "CONNECTIONS", "LAST CHECK")
	for _, p := range v.Pools {
		for _, s := range p.Servers {
			row(w, p.Name+"/"+s.Name, s.Address, s.Weight, yesNo(s.Backup), s.State, s.InFlight, s.Connections, s.LastReason)
		}
	}
	fmt.Fprintln(w)
	memberTable(w, v.Members)
}

// columns are a VIP's in the table of status. In mode arp, a node announces what it
// holds, and the reason tells who does.
func (v vipView) columns() []any {
	if v.ARP == nil {
		return []any{v.Name, list(v.Addresses), yesNo(v.Announcing), clock(v.Since), list(v.Neighbors), firstReason(v)}
	}
	reason := v.ARP.Message
	if !v.Announcing && len(v.Reasons) > 0 {
		reason = firstReason(v)
	}
	return []any{v.Name, list(v.Addresses), yesNo(v.ARP.Held), clock(v.ARP.Since), "on " + v.ARP.where(), reason}
}

func sessionTable(w io.Writer, sessions []sessionView) {
	row(w, "NEIGHBOR", "ADDRESS", "ASN", "STATE", "SINCE", "FLAPS", "LAST ERROR")
	for _, s := range sessions {
		row(w, s.Neighbor, s.Address, s.ASN, s.State, clock(s.Since), s.Flaps, s.LastError)
	}
}

// firstReason is the first of the reasons for not announcing, and how many more
// there are: "pharos explain vip" has them all.
func firstReason(v vipView) string {
	switch n := len(v.Reasons); n {
	case 0:
		return ""
	case 1:
		return v.Reasons[0].Message
	default:
		return fmt.Sprintf("%s (and %d more)", v.Reasons[0].Message, n-1)
	}
}
