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

type memberView struct {
	Name           string   `json:"name"`
	Address        string   `json:"address"` // control
	Addresses      []string `json:"addresses,omitempty"`
	Alive          bool     `json:"alive"`
	Ready          bool     `json:"ready"`
	Draining       bool     `json:"draining"`
	Voter          bool     `json:"voter"`
	Leader         bool     `json:"leader"`
	AppliedVersion uint64   `json:"applied_version"`
	Load           float64  `json:"load"`
	ClockOffset    string   `json:"clock_offset"`
}

func membersOf(list []*pharosv1.Member) []memberView {
	views := make([]memberView, 0, len(list))
	for _, m := range list {
		views = append(views, memberView{
			Name: m.GetName(), Address: m.GetControlAddress(), Addresses: m.GetAddresses(),
			Alive: m.GetAlive(), Ready: m.GetReady(), Draining: m.GetDraining(), Voter: m.GetVoter(), Leader: m.GetLeader(),
			AppliedVersion: m.GetAppliedVersion(), Load: m.GetLoad(),
			ClockOffset: m.GetClockOffset().AsDuration().Round(time.Millisecond).String(),
		})
	}
	return views
}

// state is a member's in one word.
func (m memberView) state() string {
	switch {
	case !m.Alive && !m.Voter:
		return "joined" // has not run yet
	case !m.Alive:
		return "dead"
	case m.Draining:
		return "draining"
	case m.Ready:
		return "ready"
	default:
		return "not ready"
	}
}

func (m memberView) role() string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	default:
		return ""
	}
}

func memberTable(w io.Writer, members []memberView) {
	row(w, "NAME", "ADDRESS", "STATE", "ROLE", "VERSION", "LOAD", "CLOCK")
	for _, m := range members {
		if !m.Alive {
			row(w, m.Name, m.Address, m.state(), m.role(), "", "", "")
			continue
		}
		row(w, m.Name, m.Address, m.state(), m.role(), m.AppliedVersion, fmt.Sprintf("%.2f", m.Load), m.ClockOffset)
	}
}

func newMemberCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "member", Short: "List and remove the cluster's members"}
	group(cmd)
	cmd.AddCommand(newMemberListCommand(o), newMemberRemoveCommand(o))
	return cmd
}

func newMemberListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the members, and how the asked node sees them",
		Args:  arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				answer, err := client.Members(ctx, &pharosv1.MembersRequest{})
				if err != nil {
					return err
				}
				members := membersOf(answer.GetMembers())
				return o.show(cmd, members, func(w io.Writer) { memberTable(w, members) })
			})
		},
	}
}

func newMemberRemoveCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a node out of the cluster for good",
		Long: `Take a node out of the cluster: it has no vote any more, and the other nodes
refuse its certificate. It does not stop the node, nor its traffic: drain and
stop it first, unless it is dead.`,
		Args: arguments(1, 1, "the NAME of a member"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				if _, err := client.RemoveMember(ctx, &pharosv1.RemoveMemberRequest{Name: args[0]}); err != nil {
					return err
				}
				view := struct {
					Removed string `json:"removed"`
				}{args[0]}
				return o.show(cmd, view, func(w io.Writer) { fmt.Fprintf(w, "%s is no member any more.\n", args[0]) })
			})
		},
	}
}
