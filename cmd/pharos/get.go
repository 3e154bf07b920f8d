package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

func newGetCommand(o *options) *cobra.Command {
	var node, neighbor string
	cmd := &cobra.Command{
		Use:   "get [KIND [NAME]]",
		Short: "Show the cluster's configuration, its neighbors and its announcements",
		Long: `Show the configuration that the asked node last learned of, whole or in part. The
kinds are vip, neighbor, certificate, listener, route, pool and server; a route's
name is LISTENER/ROUTE, a server's POOL/SERVER. With -o yaml the whole is a
document that apply takes.

Neighbors are shown with the BGP session that each node has with them; -o yaml has
the configuration alone.

"get announcements [VIP]" shows what no document has: each address of each VIP, from
each node to each neighbor that names it, with its attributes if it is announced, and
the reason if it is not. ("get routes" are the listeners' HTTP routes.)

"get bfd [NEIGHBOR]" shows no configuration either, but each node's BFD sessions
as they are, with the timers that were negotiated.

Private keys are never shown: -o yaml and -o json have them as the cluster
stores them, sealed ("sealed:v1:..."). Only this cluster can open such a key, and
only for the certificate of that name.`,
		Example: "  pharos get -o yaml > cluster.yaml\n  pharos get pool web\n  pharos get routes\n  pharos get neighbors --node n2\n  pharos get announcements web --neighbor tor1\n  pharos get bfd --node n1",
		Args:    arguments(0, 2, "a KIND and a NAME, or only a KIND, or nothing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, name := "", ""
			if len(args) > 1 {
				name = args[1]
			}
			if len(args) > 0 {
				kind = strings.TrimSuffix(strings.ToLower(args[0]), "s")
			}
			switch {
			case neighbor != "" && kind != announcementKind:
				return usage(cmd, "--neighbor is of use with announcements only")
			case node != "" && kind != announcementKind && kind != bfdKind && (kind != neighborKind || o.output == formatYAML):
				return usage(cmd, "--node is of use with announcements and bfd, and with neighbors but not -o yaml")
			}
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				if kind == announcementKind {
					return getAnnouncements(ctx, cmd, o, client, &pharosv1.RoutingRequest{Vip: name, Node: node, Neighbor: neighbor})
				}
				if kind == bfdKind {
					return getBFD(ctx, o, cmd, client, name, node)
				}
				snapshot, err := client.Config(ctx)
				if err != nil {
					return err
				}
				part := snapshot.Config
				if len(args) > 0 {
					if kind, part, err = api.Select(part, args[0], name); err != nil {
						return err
					}
				}
				if o.output == formatYAML {
					_, err := cmd.OutOrStdout().Write(part.Excerpt())
					return err
				}
				snapshot.Config = part
				if kind == neighborKind {
					return getNeighbors(ctx, cmd, o, client, snapshot, name, node)
				}
				return o.show(cmd, snapshot, func(w io.Writer) { configTable(w, kind, snapshot) })
			})
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "neighbors, announcements and BFD sessions of this node only")
	cmd.Flags().StringVar(&neighbor, "neighbor", "", "announcements to this neighbor only")
	return cmd
}

// list joins the words of values with commas.
func list[T any](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ", ")
}
