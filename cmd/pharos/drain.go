package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

type drainView struct {
	Node         string `json:"node"`
	InFlight     int32  `json:"in_flight"` // when it began
	Finished     int32  `json:"finished"`
	Cut          int32  `json:"cut"`
	LingerTook   string `json:"linger_took"` // what was in flight was let end
	ShutTook     string `json:"shut_took"`   // announced as the routers' last choice
	WithdrawTook string `json:"withdraw_took"`
	Took         string `json:"took"`
}

// askMember runs a question to the member of a name, wherever it is: the node
// that the options name says where.
func (o *options) askMember(cmd *cobra.Command, name string, allowance time.Duration, question func(context.Context, *api.Client) error) error {
	var address string
	err := o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
		answer, err := client.Members(ctx, &pharosv1.MembersRequest{})
		if err != nil {
			return err
		}
		var names []string
		for _, m := range answer.GetMembers() {
			names = append(names, m.GetName())
			if m.GetName() == name {
				address = m.GetControlAddress()
			}
		}
		if address == "" {
			return fmt.Errorf("there is no member %q: there are %s", name, strings.Join(names, ", "))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return o.askAt(cmd, address, allowance, question)
}

func newDrainCommand(o *options) *cobra.Command {
	var deadline time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Take a node out of service without cutting what is in flight",
		Long: `Tell HTTP clients to go and let what is in flight finish; announce the VIPs as the
routers' last choice (GRACEFUL_SHUTDOWN, RFC 8326, the highest MED, a longer
path) until nothing new comes; withdraw them; then close the listeners. Returns
when that is done. What is still open
at the deadline is cut, and counted. The node stays drained, over a restart as
well, until "pharos undrain".`,
		Args: arguments(1, 1, "the NODE's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if deadline < 0 {
				return usage(cmd, "--deadline %v: must be 0 or more", deadline)
			}
			return o.askMember(cmd, args[0], deadline, func(ctx context.Context, client *api.Client) error {
				answer, err := client.Drain(ctx, &pharosv1.DrainRequest{Deadline: durationpb.New(deadline)})
				if err != nil {
					return err
				}
				view := drainView{
					Node: args[0], Finished: answer.GetFinished(), Cut: answer.GetCut(),
					InFlight: answer.GetInFlight(), LingerTook: short(answer.GetLingerTook().AsDuration()), ShutTook: short(answer.GetShutTook().AsDuration()),
					WithdrawTook: short(answer.GetWithdrawTook().AsDuration()), Took: short(answer.GetTook().AsDuration()),
				}
				return o.show(cmd, view, func(w io.Writer) {
					fmt.Fprintf(w, "%s is drained, in %s: %d in flight at first, waited for %s, last choice of the routers for %s, withdrawn for %s until nothing came; %d finished, %d cut.\n",
						view.Node, view.Took, view.InFlight, view.LingerTook, view.ShutTook, view.WithdrawTook, view.Finished, view.Cut)
				})
			})
		},
	}
	cmd.Flags().DurationVar(&deadline, "deadline", 30*time.Second, "how long what is in flight may take, at most 24h")
	return cmd
}

func newUndrainCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain NODE",
		Short: "Bring a drained node back into service",
		Args:  arguments(1, 1, "the NODE's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.askMember(cmd, args[0], 0, func(ctx context.Context, client *api.Client) error {
				if _, err := client.Undrain(ctx, &pharosv1.UndrainRequest{}); err != nil {
					return err
				}
				view := struct {
					Node string `json:"node"`
				}{args[0]}
				return o.show(cmd, view, func(w io.Writer) {
					fmt.Fprintf(w, "%s is no longer drained: it announces its VIPs once it can serve; \"pharos explain vip NAME\" shows that.\n", args[0])
				})
			})
		},
	}
}
