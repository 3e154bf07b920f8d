package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/drill"
	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// drillLimits are the limits as flags: what is not given is the drill's own
// default, a negative value is none.
type drillLimits struct {
	gap          time.Duration
	failed       int
	returnFailed int
	cut          int
	deviation    float64
}

func (l *drillLimits) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.DurationVar(&l.gap, "max-gap", 0, "limit of the longest gap (default the drill's; negative: none)")
	flags.IntVar(&l.failed, "max-failed", 0, "limit of failed new connections (default the drill's; negative: none)")
	flags.IntVar(&l.returnFailed, "max-return-failed", 0, "limit of those while the node comes back (default the drill's; negative: none)")
	flags.IntVar(&l.cut, "max-cut", 0, "limit of established connections that the router's re-hash cut (default none)")
	flags.Float64Var(&l.deviation, "max-deviation", 0, "limit of a node's share from even, in percent, before and after (default none)")
}

// over puts the flags that were given over a drill's defaults.
func (l *drillLimits) over(cmd *cobra.Command, limits oracle.Limits) oracle.Limits {
	given := cmd.Flags().Changed
	if given("max-gap") {
		limits.MaxGap = drillLimit(l.gap)
	}
	if given("max-failed") {
		limits.MaxFailed = drillLimit(l.failed)
	}
	if given("max-return-failed") {
		limits.MaxReturnFailed = drillLimit(l.returnFailed)
	}
	if given("max-cut") {
		limits.MaxCut = drillLimit(l.cut)
	}
	if given("max-deviation") {
		limits.MaxDeviation = drillLimit(l.deviation)
	}
	return limits
}

func drillLimit[T int | float64 | time.Duration](v T) *T {
	if v < 0 {
		return nil
	}
	return &v
}

func newDrillRunCommand() *cobra.Command {
	var (
		flags    drillFlags
		limits   drillLimits
		repeat   int
		held     int
		heldPath string
	)
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Run a drill and judge what the clients saw",
		Example: `  pharos drill run node-kill --node n2
  pharos drill run drain --repeat 20 -o json
  pharos drill run node-kill --target http://198.51.100.1 --router 'ssh tor1' --peer 10.0.1.2=n1 --peer 10.0.2.2=n2 \
    --node n2 --inject 'ssh $PHAROS_DRILL_NODE systemctl kill -s KILL pharos' --revert 'ssh $PHAROS_DRILL_NODE systemctl start pharos'`,
		Args: drillArgs(cobra.ExactArgs(1)),
		RunE: flags.where(func(cmd *cobra.Command, args []string) error {
			usage := func(err error) error { return &drillError{code: drillUsage, err: err} }
			scenario, err := drill.Find(args[0])
			if err != nil {
				return usage(err)
			}
			if repeat < 1 || repeat > 1000 {
				return usage(fmt.Errorf("--repeat %d: want 1 to 1000", repeat))
			}
			site, err := flags.site()
			if err != nil {
				return usage(err)
			}
			options := flags.options
			options.Limits = limits.over(cmd, scenario.Limits)
			options.Limits.MaxLate = flags.maxLate
			options.DetectedGap = !cmd.Flags().Changed("max-gap")
			if held > 0 {
				options.ProbeArgs = append(options.ProbeArgs, "--held", strconv.Itoa(held), "--held-path", heldPath)
			}
			if err := options.Validate(); err != nil {
				return usage(err)
			}
			ctx, cancel := drillContext(cmd)
			defer cancel()
			progress := drillProgress(cmd.ErrOrStderr())
			var results []drill.Result
			for i := range repeat {
				run := options
				if nodes := site.Nodes(); run.Node == "" && repeat > 1 && !scenario.Picks && len(nodes) > 0 {
					run.Node = nodes[i%len(nodes)]
				}
				if repeat > 1 {
					progress(fmt.Sprintf("run %d of %d", i+1, repeat))
				}
				result, err := drill.Run(ctx, site, scenario, run, drillLog(cmd.ErrOrStderr()), progress)
				if err != nil {
					if len(results) > 0 { // what there is, is worth showing; the error says the rest
						err = errors.Join(err, flags.write(cmd.OutOrStdout(), results))
					}
					return drillRunError(err)
				}
				results = append(results, result)
			}
			return flags.write(cmd.OutOrStdout(), results)
		}),
	}
	flags.register(cmd)
	limits.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.options.Node, "node", "", "the node to break (default the middle one, with --repeat each in turn, or the one that the drill is about)")
	f.IntVar(&repeat, "repeat", 1, "how often to run it")
	f.IntVar(&held, "held", 0, "connections to hold open with requests in flight, beside the probes")
	f.StringVar(&heldPath, "held-path", "/slow?ms=200", "path of the requests on held connections")
	f.DurationVar(&flags.options.Before, "before", flags.options.Before, "how long to watch before the fault")
	f.DurationVar(&flags.options.Settle, "settle", flags.options.Settle, "how long to watch once the router has converged")
	f.DurationVar(&flags.options.After, "after", flags.options.After, "how long to watch after the recovery")
	f.DurationVar(&flags.options.Leave, "leave-deadline", flags.options.Leave, "how long to wait for the router to drop the node")
	f.DurationVar(&flags.options.Return, "return-deadline", flags.options.Return, "how long to wait for the router to take the node back")
	f.DurationVar(&flags.options.Hold, "hold", flags.options.Hold, "how long a fault stays that the router need not see")
	f.StringVar(&flags.options.Split, "split", "", "of a partition: the groups, such as 'n1|n2,n3' (default the node, and the others)")
	f.BoolVar(&flags.options.OneWay, "one-way", false, "of a partition: the first group does not hear the others, but is heard")
	f.DurationVar(&flags.drainDeadline, "drain-deadline", 5*time.Second, "deadline of a drain, after which what is open is cut (lab)")
	return cmd
}

func newDrillSpreadCommand() *cobra.Command {
	var (
		flags       drillFlags
		connections int
		deviation   float64
	)
	cmd := &cobra.Command{
		Use:   "spread",
		Short: "Measure how new connections spread over the nodes",
		Args:  drillArgs(cobra.NoArgs),
		RunE: flags.where(func(cmd *cobra.Command, _ []string) error {
			site, err := flags.site()
			if err != nil {
				return &drillError{code: drillUsage, err: err}
			}
			options := flags.options
			none := 0
			options.Limits = oracle.Limits{MaxDeviation: drillLimit(deviation), MaxFailed: &none, MaxLate: flags.maxLate}
			ctx, cancel := drillContext(cmd)
			defer cancel()
			result, err := drill.Spread(ctx, site, connections, options, drillLog(cmd.ErrOrStderr()))
			if err != nil {
				return drillRunError(err)
			}
			return flags.write(cmd.OutOrStdout(), []drill.Result{result})
		}),
	}
	flags.register(cmd)
	cmd.Flags().IntVar(&connections, "connections", 10000, "new connections to make")
	cmd.Flags().Float64Var(&deviation, "max-deviation", 20, "limit of a node's share from even, in percent (negative: none)")
	return cmd
}
