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

type explanationView struct {
	Node     string        `json:"node"`
	Error    string        `json:"error,omitempty"` // why it could not be asked
	VIP      *vipView      `json:"vip,omitempty"`
	Sessions []sessionView `json:"sessions,omitempty"`
}

func newExplainCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "explain", Short: "Say why things are as they are"}
	group(cmd)
	cmd.AddCommand(&cobra.Command{
		Use:   "vip NAME",
		Short: "Say for each node why it does or does not announce a VIP, or answer for it",
		Args:  arguments(1, 1, "the NAME of a VIP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				answer, err := client.Explain(ctx, &pharosv1.ExplainRequest{Vip: args[0]})
				if err != nil {
					return err
				}
				views := explanationsOf(answer)
				return o.show(cmd, views, func(w io.Writer) { explainTable(w, args[0], views, time.Now()) })
			})
		},
	})
	return cmd
}

func explanationsOf(answer *pharosv1.ExplainResponse) []explanationView {
	views := []explanationView{}
	for _, n := range answer.GetNodes() {
		view := explanationView{Node: n.GetNode(), Error: n.GetError(), Sessions: sessionsOf(n.GetSessions())}
		if n.GetVip() != nil {
			vip := vipOf(n.GetVip())
			view.VIP = &vip
		}
		views = append(views, view)
	}
	return views
}

func explainTable(w io.Writer, vip string, views []explanationView, now time.Time) {
	announcing := 0
	for _, v := range views {
		switch {
		case v.Error != "":
			fmt.Fprintf(w, "%s: unknown: %s\n", v.Node, v.Error)
		case v.VIP == nil:
			fmt.Fprintf(w, "%s: unknown: it said nothing of the VIP\n", v.Node)
		case v.VIP.ARP != nil:
			explainARP(w, v.Node, *v.VIP, now)
			continue // it needs no session
		case v.VIP.Announcing:
			announcing++
			fmt.Fprintf(w, "%s: announces %s%s\n", v.Node, list(v.VIP.Addresses), since(v.VIP.Since))
			if len(v.VIP.Neighbors) == 0 {
				fmt.Fprintln(w, "    but no neighbor carries it")
			} else {
				fmt.Fprintf(w, "    carried by %s\n", list(v.VIP.Neighbors))
			}
			for _, r := range v.VIP.Reasons {
				fmt.Fprintf(w, "    in spite of %s%s: %s\n", r.Code, age(r.Since, now), r.Message)
			}
		default:
			fmt.Fprintf(w, "%s: does not announce it%s\n", v.Node, since(v.VIP.Since))
			for _, r := range v.VIP.Reasons {
				fmt.Fprintf(w, "    %s%s: %s\n", r.Code, age(r.Since, now), r.Message)
			}
		}
		for _, s := range v.Sessions {
			if s.LastError != "" {
				fmt.Fprintf(w, "    session with %s (%s) is %s: %s\n", s.Neighbor, s.Address, s.State, s.LastError)
			}
		}
	}
	if arpTotal(w, vip, views) {
		return
	}
	fmt.Fprintf(w, "%d of %d nodes announce VIP %s.\n", announcing, len(views), vip)
}

// age is how long a reason has been there, by the clock of whoever asks: a node's
// may be ahead of it.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return " for " + short(max(now.Sub(*t), 0))
}

func since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " since " + clock(t)
}
