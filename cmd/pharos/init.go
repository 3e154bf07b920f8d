package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/node"
)

// nodeFlags are what init and join ask about the node to be made.
type nodeFlags struct {
	name, address string
	own           []string
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "name", "", "the node's name, unique in the cluster (required)")
	// Here it is the new node's own address, not that of a node to ask.
	cmd.Flags().StringVar(&f.address, "address", "", "where other nodes reach this one, IP or IP:PORT (required; port 7443 by default)")
	cmd.Flags().StringSliceVar(&f.own, "node-address", nil, "an address of this node towards the routers, the BGP next hop; once for each family (default: --address)")
}

func (f *nodeFlags) config(cmd *cobra.Command) (node.Config, error) {
	if f.name == "" || f.address == "" {
		return node.Config{}, usage(cmd, "--name and --address are required")
	}
	return newConfig(f.name, f.address, f.own)
}

type initView struct {
	ClusterID   string    `json:"cluster_id"`
	Name        string    `json:"name"`
	Address     string    `json:"address"`
	Token       string    `json:"token"`
	Expires     time.Time `json:"expires"`
	JoinCommand string    `json:"join_command"`
}

func newInitCommand(o *options) *cobra.Command {
	flags := &nodeFlags{}
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new cluster, with this machine's node as its first",
		Long: `Make a new cluster in the data directory: its certificate authority, this node's
certificate and node file, the first state, and a token with which one other
node can join. Prints the command to join with. Where there is a node already,
nothing is changed; if a step fails, nothing is left.`,
		Example: "  pharos init --name n1 --address 10.0.1.2",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := flags.config(cmd)
			if err != nil {
				return err
			}
			founded, err := o.node.found(cmd.Context(), o.dir, config, ttl)
			if err != nil {
				return err
			}
			view := initView{
				ClusterID: founded.ClusterID, Name: config.Name, Address: config.Address,
				Token: founded.JoinToken, Expires: founded.Token.Expires.UTC(),
				JoinCommand: joinCommand(config.Address, founded.JoinToken),
			}
			return o.show(cmd, view, func(w io.Writer) {
				fmt.Fprintf(w, "Made cluster %s with its first node, %s, in %s.\n\n", view.ClusterID, view.Name, o.dir)
				fmt.Fprintf(w, "Run it:\n\npharos serve --dir %s\n\n", o.dir)
				fmt.Fprintf(w, "Then join one other node, until %s:\n\n%s\n\n", clock(&view.Expires), view.JoinCommand)
				fmt.Fprintln(w, "The token works once; \"pharos token create\" makes one for each further node.")
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().DurationVar(&ttl, "token-ttl", time.Hour, "how long the join token is valid, 1s to 24h")
	return cmd
}

// found makes a cluster in dir, or leaves dir as it was.
func (h nodeHome) found(ctx context.Context, dir string, config node.Config, ttl time.Duration) (_ api.Founded, err error) {
	if err := vacant(dir); err != nil {
		return api.Founded{}, err
	}
	fresh := !exists(dir)
	founded, err := api.Found(dir, config.Name, ttl)
	if err != nil {
		return api.Founded{}, err
	}
	if err := h.write(dir, config); err != nil {
		return api.Founded{}, errors.Join(err, undo(dir, fresh))
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	if err := h.bootstrap(ctx, dir, founded); err != nil {
		return api.Founded{}, errors.Join(fmt.Errorf("make the cluster's first state: %w", err), node.RemoveConfig(dir), undo(dir, fresh))
	}
	return founded, nil
}

// undo takes the identity out of dir again, and dir itself if this run made it
// and nobody else put something in.
func undo(dir string, fresh bool) error {
	err := api.Forget(dir)
	if fresh {
		_ = os.Remove(dir)
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

func joinCommand(address, token string) string {
	return fmt.Sprintf("pharos join %s --token %s --name NAME --address ADDRESS", address, token)
}
