package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/drill"
	"github.com/pharos-lb/pharos/lab/drill/oracle"
	"github.com/pharos-lb/pharos/lab/netns"
	"github.com/pharos-lb/pharos/lab/report"
)

// The exit codes of drills, beyond 0: valid, and every limit holds.
const (
	drillLimitBroken = 1
	drillUsage       = 2
	drillInvalid     = 3 // the run shows nothing, or did not come to its end
)

// drillError is an error with an exit code of its own.
type drillError struct {
	code int
	err  error
}

func (e *drillError) Error() string { return e.err.Error() }
func (e *drillError) Unwrap() error { return e.err }

// ExitCode is what the process should end with.
func (e *drillError) ExitCode() int { return e.code }

func newDrillCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Break the cluster on purpose and see what its clients lose",
		Long: `Breaks the cluster on purpose while new connections go to its VIP, and gives a verdict from what the clients
and the router saw.

Exit codes: 0 the run is valid and every limit holds; 1 a limit is broken; 2 bad usage; 3 the run is invalid or
did not come to its end, and shows nothing.`,
		Args: drillArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDrillListCommand(), newDrillDescribeCommand(), newDrillRunCommand(), newDrillSpreadCommand(),
		newDrillApplyLatencyCommand(), newDrillARPCampaignCommand(), newDrillProbeCommand())
	return cmd
}

// drillArgs gives what a command says of its arguments the exit code of usage.
func drillArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &drillError{code: drillUsage, err: fmt.Errorf("%s: %w", cmd.CommandPath(), err)}
		}
		return nil
	}
}

func newDrillListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the drills",
		Args:  drillArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "DRILL\tWHAT IT DOES")
			for _, s := range drill.Scenarios() {
				fmt.Fprintf(t, "%s\t%s\n", s.Name, s.Summary)
			}
			return t.Flush()
		},
	}
}

func newDrillDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe NAME",
		Short: "Say what a drill does and what it judges",
		Args:  drillArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := drill.Find(args[0])
			if err != nil {
				return &drillError{code: drillUsage, err: err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n\n%s\n", s.Name, s.Summary, s.Story)
			return err
		},
	}
}

// drillFlags are those of all drills that send traffic.
type drillFlags struct {
	lab           string
	vip           string
	port          uint16
	target        string
	router        string
	inject        string
	revert        string
	peers         []string
	nodeHeader    string
	drainDeadline time.Duration
	output        string
	options       drill.Options
	maxLate       time.Duration
}

func (f *drillFlags) register(cmd *cobra.Command) {
	f.options = drill.DefaultOptions()
	flags := cmd.Flags()
	flags.StringVar(&f.lab, "lab", "anycast", "the lab to drill")
	flags.StringVar(&f.vip, "vip", "", "address of the VIP to probe (default the lab's first)")
	flags.Uint16Var(&f.port, "port", 80, "port of the HTTP listener to probe")
	flags.StringVar(&f.target, "target", "", "instead of a lab: probe http://ADDRESS[:PORT][/PATH] from this machine")
	flags.StringVar(&f.router, "router", "", "with --target: what to put before a command to run it on the router, such as 'ssh tor1'")
	flags.StringVar(&f.inject, "inject", "", "with --target: shell command that injects the fault ($PHAROS_DRILL_NODE is the node)")
	flags.StringVar(&f.revert, "revert", "", "with --target: shell command that reverts it, and does no harm where nothing is broken")
	flags.StringArrayVar(&f.peers, "peer", nil, "with --target: ADDRESS=NODE, for each address of a node that the router and backends see")
	flags.StringVar(&f.nodeHeader, "node-header", "", "header of the answers that names the carrying node")
	flags.DurationVar(&f.options.Interval, "interval", f.options.Interval, "time between two new connections")
	flags.DurationVar(&f.options.Timeout, "probe-timeout", f.options.Timeout, "time after which a connection counts as timed out")
	flags.DurationVar(&f.maxLate, "max-late", oracle.DefaultMaxLate, "how late the prober may send before a run is invalid")
	flags.StringVarP(&f.output, "output", "o", "table", "table or json")
}

// where runs a command where its site is: a lab of a user without root is in
// that user's namespace, and the whole program runs again there.
func (f *drillFlags) where(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	inLab := inLabNamespace(false, run)
	return func(cmd *cobra.Command, args []string) error {
		if f.target != "" {
			return run(cmd, args)
		}
		err := inLab(cmd, args)
		var coded *drillError
		if err != nil && !errors.As(err, &coded) { // the namespace's own: there is none
			return &drillError{code: drillUsage, err: err}
		}
		return err
	}
}

// site finds where to drill.
func (f *drillFlags) site() (drill.Site, error) {
	if f.output != "table" && f.output != "json" {
		return nil, fmt.Errorf("--output %q: want table or json", f.output)
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the pharos binary to probe with: %w", err)
	}
	if f.target != "" {
		return f.commands(binary)
	}
	for flag, value := range map[string]string{"router": f.router, "inject": f.inject, "revert": f.revert, "peer": strings.Join(f.peers, ",")} {
		if value != "" {
			return nil, fmt.Errorf("--%s goes with --target: a lab knows its own", flag)
		}
	}
	c := drill.LabConfig{Binary: binary, Port: f.port, DrainDeadline: f.drainDeadline}
	if f.vip != "" {
		if c.VIP, err = netip.ParseAddr(f.vip); err != nil {
			return nil, fmt.Errorf("--vip: %w", err)
		}
	}
	lab, err := netns.Open(f.lab)
	if err != nil {
		return nil, err
	}
	if f.nodeHeader != "" {
		f.options.ProbeArgs = append(f.options.ProbeArgs, "--node-header", f.nodeHeader)
	}
	return drill.NewLab(lab, c)
}

// commands makes the site of a cluster that is no lab.
func (f *drillFlags) commands(binary string) (drill.Site, error) {
	u, err := url.Parse(f.target)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("--target %q: want http://ADDRESS[:PORT][/PATH]", f.target)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	target, err := netip.ParseAddrPort(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("--target %q: want the VIP's address, not a name: %w", f.target, err)
	}
	c := &drill.Commands{Binary: binary, VIP: target, Breaks: f.inject, Mends: f.revert, Via: strings.Fields(f.router), Peers: map[string]string{}}
	if len(c.Via) == 0 {
		return nil, errors.New("--target needs --router: without the router's record nobody can tell that the fault hit ('env' if the router is this machine)")
	}
	for _, p := range f.peers {
		address, node, ok := strings.Cut(p, "=")
		addr, err := netip.ParseAddr(address)
		if !ok || err != nil || node == "" {
			return nil, fmt.Errorf("--peer %q: want ADDRESS=NODE", p)
		}
		c.Peers[addr.String()] = node
	}
	if len(c.Peers) == 0 {
		return nil, errors.New("--target needs --peer ADDRESS=NODE for each node: the router's next hops are addresses")
	}
	if path := u.RequestURI(); path != "/" {
		c.Further = append(c.Further, "--path", path)
	}
	if f.nodeHeader != "" {
		c.Further = append(c.Further, "--node-header", f.nodeHeader)
	}
	return c, nil
}

// write writes the report and gives the error that carries the exit code.
func (f *drillFlags) write(w io.Writer, results []drill.Result) error {
	document := report.New(results)
	write := document.Table
	if f.output == "json" {
		write = document.JSON
	}
	if err := write(w); err != nil {
		return err
	}
	switch {
	case !document.Valid:
		return &drillError{code: drillInvalid, err: errors.New("the run is invalid: it shows nothing (see the report for why)")}
	case !document.Passed:
		return &drillError{code: drillLimitBroken, err: errors.New("a limit does not hold (see the report)")}
	}
	return nil
}

// drillContext ends with an interrupt, so that faults are reverted first.
func drillContext(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// drillProgress tells people what happens, with the time since the start.
func drillProgress(w io.Writer) func(string) {
	start := time.Now()
	return func(what string) { fmt.Fprintf(w, "[%5.1fs] %s\n", time.Since(start).Seconds(), what) }
}

// drillRunError gives a failure of a run its exit code: 2 for what the caller
// can correct, 3 for a run without a verdict.
func drillRunError(err error) error {
	if errors.Is(err, drill.ErrNoNode) || errors.Is(err, drill.ErrNoFault) || errors.Is(err, drill.ErrNoControl) {
		return &drillError{code: drillUsage, err: err}
	}
	return &drillError{code: drillInvalid, err: err}
}

func drillLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
