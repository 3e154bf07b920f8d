package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/deploy"
	"github.com/pharos-lb/pharos/lab/deploy/backend"
	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/netns/userns"
	"github.com/pharos-lb/pharos/lab/topo"
)

// defaultLab is the lab that commands mean when no --name is given.
const defaultLab = "anycast"

// newLabCommand makes "pharos lab" and all below it.
func newLabCommand() *cobra.Command {
	lab := &cobra.Command{
		Use:   "lab",
		Short: "Run a whole cluster with its router, backends and a client on this machine",
		Long: `A lab is a topology brought up with network namespaces on this machine: three
nodes of Pharos, an FRR router that spreads flows over them by ECMP, three
backends and a client. It needs no container engine, and no root where the
kernel gives users their own namespaces.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return labUsage(cmd, "there is no command \"%s %s\"", cmd.CommandPath(), args[0])
			}
			return cmd.Help()
		},
	}
	var name string
	lab.PersistentFlags().StringVar(&name, "name", defaultLab, "the lab, where several run side by side")
	lab.AddCommand(
		newLabUpCommand(&name),
		newLabDownCommand(&name),
		newLabStatusCommand(&name),
		newLabStartCommand(&name),
		newLabExecCommand(&name),
		newLabShellCommand(&name),
		newLabArpwatchCommand(),
		newLabBenchCommand(),
		newLabBackendCommand(),
		newLabHoldCommand(),
	)
	return lab
}

func newLabUpCommand(name *string) *cobra.Command {
	var topology string
	var bare bool
	var disk uint64
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up and deploy a cluster in it",
		Args:  labArguments(0, 0, "no arguments"),
	}
	cmd.Flags().StringVar(&topology, "topology", topo.DefaultName, "containerlab topology file, or one that is built in: "+strings.Join(topo.Names(), ", "))
	cmd.Flags().BoolVar(&bare, "bare", false, "only machines, router and backends: deploy no cluster")
	cmd.Flags().Uint64Var(&disk, "disk", 0, "give each node a disk of its own for its data, in memory, of so many MiB (default: this machine's disk)")
	cmd.RunE = inLabNamespace(true, func(cmd *cobra.Command, _ []string) error {
		if limit := uint64(1 << 20); disk > limit {
			return labUsage(cmd, "--disk %d: must be at most %d", disk, limit)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		bundle, err := topo.Open(topology)
		if err != nil {
			return err
		}
		// Labs of two topologies do not meet unless they are told to.
		if !cmd.Flags().Changed("name") {
			*name = bundle.Topology.Name
		}
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		progress := stepPrinter(cmd.OutOrStdout(), time.Now())
		l, err := netns.Up(ctx, netns.Config{Name: *name, Bundle: bundle, Binary: binary, DiskBytes: disk << 20, Progress: progress})
		if err != nil || bare {
			return err
		}
		if err := deploy.Cluster(ctx, l, progress); err != nil {
			if ctx.Err() != nil {
				// Interrupted: the user wants nothing to stay.
				return errors.Join(err, netns.Down(context.WithoutCancel(ctx), *name))
			}
			return fmt.Errorf("%w\nthe lab stays up for a look: logs in %s/log, `pharos lab down%s` removes it", err, l.Dir(), nameFlag(*name))
		}
		progress(fmt.Sprintf("lab %s is up: cluster of %d nodes deployed", *name, len(l.NodesOf(topo.RoleNode))))
		return nil
	})
	return cmd
}

// stepPrinter prints steps with the time since the start.
func stepPrinter(w io.Writer, start time.Time) func(string) {
	return func(step string) {
		fmt.Fprintf(w, "[%5.1fs] %s\n", time.Since(start).Seconds(), step)
	}
}

// nameFlag is what to add to a command so that it means this lab.
func nameFlag(name string) string {
	if name == defaultLab {
		return ""
	}
	return " --name " + name
}

func newLabDownCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove every trace of a lab, also of one that crashed",
		Args:  labArguments(0, 0, "no arguments"),
	}
	remove := inLabNamespace(false, func(cmd *cobra.Command, _ []string) error {
		start := time.Now()
		if err := netns.Down(cmd.Context(), *name); err != nil {
			return err
		}
		stepPrinter(cmd.OutOrStdout(), start)("lab " + *name + " is removed")
		return nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := remove(cmd, args)
		if errors.Is(err, netns.ErrNotUp) || errors.Is(err, userns.ErrNone) {
			// What is wanted is so.
			fmt.Fprintf(cmd.OutOrStdout(), "lab %s is not up\n", *name)
			return nil
		}
		return err
	}
	return cmd
}

func newLabStartCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start NODE",
		Short: "Start a node's process again, if it does not run",
		Args:  labArguments(1, 1, "NODE"),
	}
	cmd.RunE = inLabNamespace(false, func(cmd *cobra.Command, args []string) error {
		l, err := netns.Open(*name)
		if err != nil {
			return err
		}
		err = l.Start(cmd.Context(), args[0])
		if errors.Is(err, netns.ErrRunning) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s runs already\n", args[0])
			return nil
		}
		return err
	})
	return cmd
}

// labStatus is the schema of "pharos lab status -o json".
type labStatus struct {
	Name  string          `json:"name"`
	Dir   string          `json:"dir"`
	Nodes []labNodeStatus `json:"nodes"`
	VIPs  []labVIPStatus  `json:"vips"`
}

type labNodeStatus struct {
	Name      string          `json:"name"`
	Role      topo.Role       `json:"role"`
	Addresses []netip.Addr    `json:"addresses"`
	Netns     string          `json:"netns"`
	Processes []netns.Process `json:"processes"`
}

type labVIPStatus struct {
	Address  netip.Addr   `json:"address"`
	NextHops []netip.Addr `json:"next_hops"` // of the router's kernel
}

func newLabStatusCommand(name *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show a lab's machines, and where its router sends the VIPs",
		Args:  labArguments(0, 0, "no arguments"),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.RunE = inLabNamespace(false, func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return labUsage(cmd, "-o %q: must be table or json", output)
		}
		l, err := netns.Open(*name)
		if err != nil {
			return err
		}
		status, err := readLabStatus(cmd.Context(), l)
		if err != nil {
			return err
		}
		if output == "json" {
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(status)
		}
		return status.print(cmd.OutOrStdout())
	})
	return cmd
}

func readLabStatus(ctx context.Context, l *netns.Lab) (*labStatus, error) {
	processes, err := l.Processes()
	if err != nil {
		return nil, err
	}
	status := &labStatus{Name: l.Name(), Dir: l.Dir(), VIPs: []labVIPStatus{}}
	for _, n := range l.Nodes() {
		node := labNodeStatus{Name: n.Name, Role: n.Role, Addresses: n.Addresses, Netns: l.NetnsPath(n.Name), Processes: []netns.Process{}}
		for _, p := range processes {
			if p.Node == n.Name {
				node.Processes = append(node.Processes, p)
			}
		}
		status.Nodes = append(status.Nodes, node)
	}
	for _, vip := range l.VIPs() {
		hops, err := deploy.RouterNextHops(ctx, l, vip)
		if err != nil {
			return nil, err
		}
		if hops == nil {
			hops = []netip.Addr{}
		}
		status.VIPs = append(status.VIPs, labVIPStatus{Address: vip, NextHops: hops})
	}
	return status, nil
}

func (s *labStatus) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MACHINE\tROLE\tADDRESS\tPROCESSES")
	for _, n := range s.Nodes {
		var processes []string
		for _, p := range n.Processes {
			text := fmt.Sprintf("%s (%d)", p.Name, p.Pid)
			if !p.Alive {
				text = p.Name + " (ended)"
			}
			processes = append(processes, text)
		}
		address := "-"
		if len(n.Addresses) > 0 {
			address = n.Addresses[0].String()
		}
		if len(processes) == 0 {
			processes = []string{"-"}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", n.Name, n.Role, address, strings.Join(processes, ", "))
	}
	fmt.Fprintln(table, "\nVIP\tNEXT HOPS OF THE ROUTER")
	for _, v := range s.VIPs {
		hops := "none: nobody announces it"
		if len(v.NextHops) > 0 {
			hops = strings.Trim(fmt.Sprint(v.NextHops), "[]")
		}
		fmt.Fprintf(table, "%s\t%s\n", v.Address, hops)
	}
	return table.Flush()
}

func newLabBackendCommand() *cobra.Command {
	var c backend.Config
	cmd := &cobra.Command{
		Use:    "backend",
		Short:  "Be a server of a pool, for tests: answer who answers, and to whom",
		Args:   labArguments(0, 0, "no arguments"),
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			c.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			c.Name = cmd.Flag("name").Value.String()
			server, err := backend.New(c)
			if err != nil {
				return err
			}
			return server.Run(ctx)
		},
	}
	cmd.Flags().StringVar(&c.HTTP, "listen", "", "host:port for HTTP; none if empty")
	cmd.Flags().StringVar(&c.TCP, "tcp", "", "host:port for TCP echo; none if empty")
	cmd.Flags().String("name", "backend", "who to say that it is")
	return cmd
}

func newLabHoldCommand() *cobra.Command {
	var namespace bool
	cmd := &cobra.Command{
		Use:    "hold",
		Short:  "Do nothing but keep a container, or with --namespace a user's labs, alive",
		Args:   labArguments(0, 0, "no arguments"),
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if namespace {
				return userns.Hold(ctx)
			}
			return userns.Reap(ctx)
		},
	}
	cmd.Flags().BoolVar(&namespace, "namespace", false, "set a new user namespace up for labs first")
	return cmd
}
