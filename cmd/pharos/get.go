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
kinds are vip, neighbor, listener, pool and server; a server's name is
POOL/SERVER. With -o yaml the whole is a document that apply takes.`,
		Example: "  pharos get -o yaml > cluster.yaml\n  pharos get pool web",
		Args:    arguments(0, 2, "a KIND and a NAME, or only a KIND, or nothing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
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
					document, err := part.Marshal()
					if err != nil {
						return fmt.Errorf("print the configuration: %w", err)
					}
					_, err = cmd.OutOrStdout().Write(document)
					return err
				}
				snapshot.Config = part
				return o.show(cmd, snapshot, func(w io.Writer) {
					if kind == "" {
						fmt.Fprintf(w, "version %d\n", snapshot.Version)
					}
					first := kind != ""
					section := func(name string, draw func()) {
						if kind != "" && kind != name {
							return
						}
						if !first {
							fmt.Fprintln(w)
						}
						first = false
						draw()
					}
					section("vip", func() {
						row(w, "VIP", "MODE", "ADDRESSES")
						for _, v := range part.VIPs {
							row(w, v.Name, v.Mode, list(v.Addresses))
						}
					})
					section("neighbor", func() {
						row(w, "NEIGHBOR", "ADDRESS", "ASN", "LOCAL ASN", "NODES")
						for _, n := range part.Neighbors {
							row(w, n.Name, n.Address, n.ASN, n.LocalASN, list(n.Nodes))
						}
					})
					section("listener", func() {
						row(w, "LISTENER", "VIP", "PORT", "PROTOCOL", "POOL")
						for _, l := range part.Listeners {
							row(w, l.Name, l.VIP, l.Port, l.Protocol, l.Pool)
						}
					})
					section("pool", func() {
						row(w, "POOL", "BALANCE", "CHECK", "SERVERS")
						for _, p := range part.Pools {
							check := "none"
							if h := p.HealthCheck; h != nil && h.HTTP != "" {
								check = fmt.Sprintf("http %s every %s", h.HTTP, h.Interval)
							} else if h != nil {
								check = fmt.Sprintf("tcp every %s", h.Interval)
							}
							row(w, p.Name, p.Balance, check, len(p.Servers))
						}
					})
					section("server", func() {
						row(w, "SERVER", "ADDRESS", "WEIGHT", "BACKUP")
						for _, p := range part.Pools {
							for _, s := range p.Servers {
								weight := 1
								if s.Weight != nil {
									weight = *s.Weight
								}
								row(w, p.Name+"/"+s.Name, s.Address, weight, yesNo(s.Backup))
							}
						}
					})
				})
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
