package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Print writes the outcomes as a table, and where Pharos falls short below.
func Print(out io.Writer, all []Outcome) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CASE\tPROXY\tCPU\tRATIO\tLIMIT\tRATE\tP50\tP99\tMEMORY\tFAILED")
	for _, o := range all {
		for _, r := range o.Results {
			limit := ""
			if o.Limit > 0 && r.Proxy == "pharos" {
				limit = fmt.Sprintf("%.2f", o.Limit)
			}
			ratio := ""
			if r.Ratio > 0 {
				ratio = fmt.Sprintf("%.2f", r.Ratio)
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n",
				o.Case, r.Proxy, orDash(r.CPU > 0, "%.1f µs", float64(r.CPU)/1000), ratio, limit,
				rate(o, r), millis(r.P50), millis(r.P99), orDash(r.Memory > 0, "%d B", r.Memory), r.Failed)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, o := range all {
		for _, f := range o.Faults {
			if _, err := fmt.Fprintf(out, "short of the goal: %s: %s\n", o.Case, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// rate is the units of a second, or the number of those that were only held.
func rate(o Outcome, r Result) string {
	if r.Rate > 0 {
		return fmt.Sprintf("%.0f %s/s", r.Rate, o.Unit)
	}
	return fmt.Sprintf("%d %s", r.Units, o.Unit)
}

func millis(d time.Duration) string {
	return orDash(d > 0, "%.2f ms", float64(d)/float64(time.Millisecond))
}

func orDash(measured bool, format string, args ...any) string {
	if !measured {
		return "-"
	}
	return fmt.Sprintf(format, args...)
}
