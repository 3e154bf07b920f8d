package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// answerMargin is what an answer may take beyond the wait that was asked for.
const answerMargin = 5 * time.Second

func newServerCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "List servers, and take them out of service and back",
		Long: `List the servers of all pools, and take them out of service and back, or change
their weights, on all nodes at once. What is said here holds until it is said
otherwise or the server leaves the configuration: applying a document does not
undo it, and it outlives restarts.`,
	}
	group(cmd)
	cmd.AddCommand(
		newServerListCommand(o),
		newServerStateCommand(o, "drain", api.StateDraining, "Give servers no new work; what is in flight ends",
			`Give servers no new work. What is in flight ends, and clients that persistence
keeps on them still come. Health checks go on.

With --idle it also waits until nothing is in flight to them, and fails if that
is not so in time; the servers stay drained.`),
		newServerStateCommand(o, "maintenance", api.StateMaintenance, "Take servers out of service at once",
			`Give servers nothing at all, not even clients that persistence keeps on them, and
do not check them. What is in flight ends.`),
		newServerStateCommand(o, "ready", api.StateReady, "Put servers back into service",
			"Put servers back into service: they take work once they are healthy."),
		newServerWeightCommand(o),
	)
	return cmd
}

func newServerListCommand(o *options) *cobra.Command {
	var pool, node string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show each server, and how the nodes see it",
		Long: `Show each server of the configuration with what operators said of it, and how the
live nodes see it: where they differ, the state is that of most, as 2/3 HEALTHY,
and the rest is of the node that has the most failures. In flight is the sum.
With --node it is that node's word alone.`,
		Example: "  pharos server list --pool app\n  pharos server list --node n2 -o json",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				answer, err := client.ListServers(ctx, &pharosv1.ListServersRequest{Pool: pool, Node: node})
				if err != nil {
					return err
				}
				view := serverListOf(answer)
				return o.show(cmd, view, func(w io.Writer) { view.table(w) })
			})
		},
	}
	cmd.Flags().StringVar(&pool, "pool", "", "of this pool only")
	cmd.Flags().StringVar(&node, "node", "", "as this node sees them")
	return cmd
}

// waiting are the flags of commands that can wait for the nodes.
type waiting struct{ wait bool }

func (f *waiting) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.wait, "wait", false, "return when every live node does it; --timeout says how long to wait at most")
}

func newServerStateCommand(o *options, verb, state, short, long string) *cobra.Command {
	var flags waiting
	var idle bool
	cmd := &cobra.Command{
		Use:     verb + " POOL/SERVER...",
		Short:   short,
		Long:    long,
		Example: fmt.Sprintf("  pharos server %s app/b1 app/b2 --wait", verb),
		Args:    serverNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.operate(cmd, &pharosv1.OperateServersRequest{
				Servers: args, State: state, Wait: flags.wait || idle, UntilIdle: idle,
			})
		},
	}
	flags.add(cmd)
	if state == api.StateDraining {
		cmd.Flags().BoolVar(&idle, "idle", false, "wait, and until nothing is in flight to them")
	}
	return cmd
}

func newServerWeightCommand(o *options) *cobra.Command {
	var flags waiting
	cmd := &cobra.Command{
		Use:   "weight POOL/SERVER WEIGHT|reset",
		Short: "Give a server another weight than the configured one",
		Long: `Give a server a weight, 0 to 256, in place of the configured one; 0 takes no new
work. "reset" goes back to the configured weight.`,
		Example: "  pharos server weight app/b1 10 --wait\n  pharos server weight app/b1 reset",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage(cmd, "%q takes a POOL/SERVER and a WEIGHT or \"reset\", and was given %d argument(s)", cmd.CommandPath(), len(args))
			}
			return serverNames(1)(cmd, args[:1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &pharosv1.OperateServersRequest{Servers: args[:1], Wait: flags.wait}
			if args[1] == "reset" {
				request.ResetWeight = true
			} else {
				weight, err := strconv.ParseInt(args[1], 10, 32)
				if err != nil || weight < 0 || weight > 256 {
					return usage(cmd, "a weight of %q: 0 to 256 and \"reset\" are allowed", args[1])
				}
				w := int32(weight)
				request.Weight = &w
			}
			return o.operate(cmd, request)
		},
	}
	flags.add(cmd)
	return cmd
}

// serverNames checks that all arguments are POOL/SERVER, and that there are
// enough.
func serverNames(least int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return usage(cmd, "%q takes the names of servers, as POOL/SERVER", cmd.CommandPath())
		}
		for _, arg := range args {
			if pool, server, ok := strings.Cut(arg, "/"); !ok || pool == "" || server == "" {
				return usage(cmd, "%q is not the name of a server: write POOL/SERVER, as \"pharos server list\" shows them", arg)
			}
		}
		return nil
	}
}

// operate carries a change of servers out, shows what came of it, and is an
// error if something that was waited for did not come.
func (o *options) operate(cmd *cobra.Command, request *pharosv1.OperateServersRequest) error {
	var allowance time.Duration
	if request.GetWait() {
		request.WaitTimeout = durationpb.New(o.timeout)
		allowance = answerMargin
	}
	return o.ask(cmd, allowance, func(ctx context.Context, client *api.Client) error {
		answer, err := client.OperateServers(ctx, request)
		if err != nil {
			return err
		}
		view := operationOf(answer)
		if err := o.show(cmd, view, func(w io.Writer) { view.table(w) }); err != nil {
			return err
		}
		return view.unfinished()
	})
}
