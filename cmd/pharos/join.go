package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
)

// clockWarning is how far two clocks may differ before join says so.
const clockWarning = time.Minute

type joinView struct {
	ClusterID   string            `json:"cluster_id"`
	Name        string            `json:"name"`
	Address     string            `json:"address"`
	Members     map[string]string `json:"members"`
	ClockOffset string            `json:"clock_offset"`
}

func newJoinCommand(o *options) *cobra.Command {
	flags := &nodeFlags{}
	var token string
	cmd := &cobra.Command{
		Use:   "join MEMBER",
		Short: "Make this machine's node a member of a cluster",
		Long: `Join the cluster of the member at the address MEMBER (HOST or HOST:PORT), with a
token from "pharos init" or "pharos token create". The token names the cluster's
certificate authority, so nothing is told to a server of any other. If a step
fails, nothing is left.`,
		Example: "  pharos join 10.0.1.2:7443 --token TOKEN --name n2 --address 10.0.2.2",
		Args:    arguments(1, 1, "the address of a member"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if token == "" {
				return usage(cmd, "--token is required: \"pharos token create\" on a member makes one")
			}
			config, err := flags.config(cmd)
			if err != nil {
				return err
			}
			if err := vacant(o.dir); err != nil {
				return err
			}
			fresh := !exists(o.dir)
			joined, err := api.Join(cmd.Context(), api.Joining{
				Server: withPort(args[0]), Token: token, Name: config.Name, Address: config.Address, Dir: o.dir,
			})
			if err != nil {
				return err
			}
			delete(joined.Members, config.Name)
			config.Peers = slices.Sorted(maps.Values(joined.Members))
			if err := o.node.write(o.dir, config); err != nil {
				err = fmt.Errorf("the join was granted, but this node cannot keep it: %w: run \"pharos member remove %s\" on a member, and join again with a new token", err, config.Name)
				return errors.Join(err, undo(o.dir, fresh))
			}
			if joined.ClockOffset.Abs() > clockWarning {
				fmt.Fprintf(cmd.ErrOrStderr(), "pharos: warning: this machine's clock and the member's are %s apart: set them, tokens and certificates are dated by them\n", short(joined.ClockOffset.Abs()))
			}
			view := joinView{
				ClusterID: joined.ClusterID, Name: config.Name, Address: config.Address,
				Members: joined.Members, ClockOffset: joined.ClockOffset.Round(time.Millisecond).String(),
			}
			return o.show(cmd, view, func(w io.Writer) {
				fmt.Fprintf(w, "Node %s has joined cluster %s. Run it:\n\npharos serve --dir %s\n", view.Name, view.ClusterID, o.dir)
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&token, "token", "", "the join token (required)")
	return cmd
}
