package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/drill/campaign"
	"github.com/pharos-lb/pharos/lab/netns"
)

// newDrillARPCampaignCommand makes "pharos drill arp-campaign".
func newDrillARPCampaignCommand() *cobra.Command {
	options := campaign.DefaultOptions()
	var lab, output string
	var kinds []string
	cmd := &cobra.Command{
		Use:   "arp-campaign",
		Short: "Break a cluster in ARP mode many times, and see that no VIP ever has two holders",
		Long: fmt.Sprintf(`Breaks the lab's nodes and the switch between them at random, each fault for up to 1.8 s and mended after that, while a
sniffer at the switch asks every node all the time who has the VIPs. The VIPs are held strictly meanwhile (takeover:
strict), and as before afterwards.

Judged, from what was heard alone: no VIP has two holders at one time, and each has one soon after each repair (--settle).

The kinds of fault: %s.`, strings.Join(campaignKinds(), ", ")),
		Example: "  pharos lab up --topology l2\n  pharos drill arp-campaign\n  pharos drill arp-campaign --seed 7 --faults 20 --kind freeze,partition",
		Args:    drillArgs(cobra.NoArgs),
		RunE: inLabNamespace(false, func(cmd *cobra.Command, _ []string) error {
			usage := func(err error) error { return &drillError{code: drillUsage, err: err} }
			if output != "table" && output != "json" {
				return usage(fmt.Errorf("--output %q: want table or json", output))
			}
			if !cmd.Flags().Changed("seed") {
				options.Seed = rand.Uint64()
			}
			options.Kinds = nil
			for _, k := range kinds {
				options.Kinds = append(options.Kinds, campaign.Kind(k))
			}
			if err := options.Validate(); err != nil {
				return usage(err)
			}
			l, err := netns.Open(lab)
			if err != nil {
				return usage(err)
			}
			if _, err := campaign.Plan(options.Seed, options.Faults, []string{"a", "b"}, options.Kinds); err != nil {
				return usage(err)
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the pharos binary to listen with: %w", err)
			}
			ctx, cancel := drillContext(cmd)
			defer cancel()
			site, err := campaign.NewLab(ctx, l, binary)
			if err != nil {
				return usage(err)
			}
			progress := drillProgress(cmd.ErrOrStderr())
			progress(fmt.Sprintf("%d faults of %s, seed %d", options.Faults, site.Name(), options.Seed))
			result, err := campaign.Run(ctx, site, options, progress)
			if err != nil {
				return &drillError{code: drillInvalid, err: err}
			}
			write := result.Table
			if output == "json" {
				write = result.JSON
			}
			if err := write(cmd.OutOrStdout()); err != nil {
				return err
			}
			switch {
			case len(result.Invalid) > 0:
				return &drillError{code: drillInvalid, err: errors.New("the campaign is invalid: it shows nothing (see the report for why)")}
			case !result.Passed:
				return &drillError{code: drillLimitBroken, err: errors.New("a VIP had two holders, or none in time (see the report)")}
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&lab, "lab", "l2", "the lab to break")
	f.Uint64Var(&options.Seed, "seed", 0, "what the faults are drawn from (default a random one, which is printed)")
	f.IntVar(&options.Faults, "faults", options.Faults, "how many")
	f.StringSliceVar(&kinds, "kind", campaignKinds(), "kinds of fault to draw from")
	f.DurationVar(&options.Interval, "interval", options.Interval, "time between two questions for an address at each node")
	f.DurationVar(&options.Settle, "settle", options.Settle, "limit of the time from a repair until each VIP has one holder")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func campaignKinds() []string {
	var kinds []string
	for _, k := range campaign.Kinds() {
		kinds = append(kinds, string(k))
	}
	return kinds
}
