package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

type tokenView struct {
	Token       string     `json:"token"`
	Expires     *time.Time `json:"expires"`
	Address     string     `json:"address"`
	JoinCommand string     `json:"join_command"`
}

func newTokenCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make tokens with which nodes join"}
	group(cmd)
	cmd.AddCommand(newTokenCreateCommand(o))
	return cmd
}

func newTokenCreateCommand(o *options) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token with which one node can join, and print the command",
		Args:  arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				answer, err := client.CreateToken(ctx, &pharosv1.CreateTokenRequest{Ttl: durationpb.New(ttl)})
				if err != nil {
					return err
				}
				view := tokenView{
					Token: answer.GetToken(), Expires: stamp(answer.GetExpires()), Address: answer.GetAddress(),
					JoinCommand: joinCommand(answer.GetAddress(), answer.GetToken()),
				}
				return o.show(cmd, view, func(w io.Writer) {
					fmt.Fprintf(w, "Join one node, until %s:\n\n%s\n", clock(view.Expires), view.JoinCommand)
				})
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is valid, 1s to 24h")
	return cmd
}
