package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
)

func newGetCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "get [KIND [NAME]]",
		Short: "Show the cluster's configuration",
		Long: `Show the configuration that the asked node last learned of, whole or in part. The
kinds are vip, neighbor, certificate, listener, route, pool and server; a route's
name is LISTENER/ROUTE, a server's POOL/SERVER. With -o yaml the whole is a
document that apply takes.

"get bfd" is the one that shows no configuration, but the asked node's BFD
sessions as they are, with the timers that were negotiated; a NAME is that of a
neighbor.

Private keys are never shown: -o yaml and -o json have them as the cluster
stores them, sealed ("sealed:v1:..."). Only this cluster can open such a key, and
only for the certificate of that name.`,
		Example: "  pharos get -o yaml > cluster.yaml\n  pharos get pool web\n  pharos get routes\n  pharos get bfd",
		Args:    arguments(0, 2, "a KIND and a NAME, or only a KIND, or nothing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				if len(args) > 0 && strings.EqualFold(args[0], "bfd") {
					return getBFD(ctx, o, cmd, client, args[1:])
				}
				snapshot, err := client.Config(ctx)
				if err != nil {
					return err
				}
				kind, part := "", snapshot.Config
				if len(args) > 0 {
					name := ""
					if len(args) > 1 {
						name = args[1]
					}
					if kind, part, err = api.Select(part, args[0], name); err != nil {
						return err
					}
				}
				if o.output == formatYAML {
					_, err := cmd.OutOrStdout().Write(part.Excerpt())
					return err
				}
				snapshot.Config = part
				return o.show(cmd, snapshot, func(w io.Writer) { configTable(w, kind, snapshot) })
			})
		},
	}
}

// list joins the words of values with commas.
func list[T any](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ", ")
}
