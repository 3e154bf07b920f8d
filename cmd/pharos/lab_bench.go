package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/lab/bench"
)

// newLabBenchCommand makes "pharos lab bench".
func newLabBenchCommand() *cobra.Command {
	var (
		cases         string
		rounds        int
		duration      time.Duration
		check, list   bool
		inside        bool
		output        string
		engine        string
		errFallsShort = errors.New("a figure falls short of the goal")
	)
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Pharos beside HAProxy and nginx",
		Long: `Bench gives Pharos, HAProxy and nginx the same load in turns, in a network of
its own on this machine, and prints what CPU time each takes for a unit of work,
and the ratio to HAProxy. It needs Debian's haproxy, nginx-light,
libnginx-mod-stream, wrk and nghttp2-client.`,
		Example: "  pharos lab bench\n  pharos lab bench --case '^http-small' --rounds 5 --check",
		Args:    labArguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				for _, name := range bench.Names() {
					_, _ = fmt.Fprintln(cmd.OutOrStdout(), name)
				}
				return nil
			}
			pattern, err := regexp.Compile(cases)
			if err != nil {
				return fmt.Errorf("--case %s is no regular expression: %w", cases, err)
			}
			if output != "table" && output != "json" {
				return fmt.Errorf("-o %s: must be table or json", output)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			if !inside {
				code, err := bench.Enter(ctx, binary, append(os.Args[1:len(os.Args):len(os.Args)], "--inside"))
				if err != nil {
					return err
				}
				if code != 0 {
					return &labError{code: code}
				}
				return nil
			}
			all, err := bench.Run(ctx, bench.Options{
				Cases: pattern, Rounds: rounds, Duration: duration, Pharos: binary, Engine: engine,
				Progress: func(step string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), step) },
			})
			if err != nil {
				return err
			}
			if output == "json" {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			} else {
				err = bench.Print(cmd.OutOrStdout(), all)
			}
			if err != nil {
				return err
			}
			for _, o := range all {
				if check && len(o.Faults) > 0 {
					return errFallsShort
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&cases, "case", "", "regular expression of the cases to run (default all)")
	cmd.Flags().IntVar(&rounds, "rounds", 3, "turns of each proxy in each case; the median counts")
	cmd.Flags().DurationVar(&duration, "duration", 3*time.Second, "length of a turn, whole seconds")
	cmd.Flags().BoolVar(&check, "check", false, "exit with an error if a figure falls short of the goal")
	cmd.Flags().BoolVar(&list, "list", false, "list the cases")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&engine, "engine", "", "engine of Pharos: auto, epoll or io_uring (default its own)")
	cmd.Flags().BoolVar(&inside, "inside", false, "run in the namespaces that this process is in")
	_ = cmd.Flags().MarkHidden("inside")
	return cmd
}
