package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/drill"
)

// newDrillApplyLatencyCommand measures what an operator waits for a change.
func newDrillApplyLatencyCommand() *cobra.Command {
	var (
		flags   drillFlags
		changes int
		node    string
		maxP99  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "apply-latency",
		Short: "Measure how long 'pharos apply --wait' takes for a change of one server",
		Long: `Changes the weight of one server again and again, each time by 'pharos apply --wait' on a node of the lab, and
puts the configuration back. What is measured is the whole command, the start of its process included.`,
		Args: drillArgs(cobra.NoArgs),
		RunE: flags.where(func(cmd *cobra.Command, _ []string) error {
			usage := func(err error) error { return &drillError{code: drillUsage, err: err} }
			site, err := flags.site()
			if err != nil {
				return usage(err)
			}
			lab, ok := site.(*drill.Lab)
			if !ok {
				return usage(errors.New("apply-latency runs in a lab: --target does not apply"))
			}
			switch {
			case node == "":
				node = lab.Nodes()[0]
			case !slices.Contains(lab.Nodes(), node):
				return usage(fmt.Errorf("%w: %q: %s has %v", drill.ErrNoNode, node, lab.Name(), lab.Nodes()))
			}
			ctx, cancel := drillContext(cmd)
			defer cancel()
			l, err := drill.MeasureApply(ctx, func(ctx context.Context, args ...string) *exec.Cmd { return lab.Control(ctx, node, args...) }, changes)
			if err != nil {
				return &drillError{code: drillInvalid, err: fmt.Errorf("measure apply --wait: %w", err)}
			}
			if err := printApplyLatency(cmd, flags.output, l); err != nil {
				return err
			}
			if maxP99 > 0 && l.P99 > maxP99 {
				return &drillError{code: drillLimitBroken, err: fmt.Errorf("99 %% of the changes took up to %v, more than %v", l.P99, maxP99)}
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&flags.lab, "lab", "anycast", "the lab to measure in")
	f.StringVarP(&flags.output, "output", "o", "table", "table or json")
	f.StringVar(&node, "node", "", "the node to run the CLI on (default the first)")
	f.IntVar(&changes, "changes", 200, "changes to make")
	f.DurationVar(&maxP99, "max-p99", 100*time.Millisecond, "limit of the 99th percentile (0: none)")
	return cmd
}

func printApplyLatency(cmd *cobra.Command, output string, l drill.ApplyLatency) error {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	if output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"schema": "pharos.apply-latency/v1", "changes": l.Changes,
			"p50_ms": ms(l.P50), "p99_ms": ms(l.P99), "max_ms": ms(l.Max), "cli_start_p50_ms": ms(l.Startup),
		})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "apply --wait of a one-server change, %d times: p50 %.1f ms, p99 %.1f ms, max %.1f ms (of which %.1f ms are the start of the CLI)\n",
		l.Changes, ms(l.P50), ms(l.P99), ms(l.Max), ms(l.Startup))
	return err
}
