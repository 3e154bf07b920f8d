package report

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
)

// JSON writes the document.
func (d Document) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// Table writes the document for people: a single run in full, several as a
// line each with medians and worst cases below.
func (d Document) Table(w io.Writer) error {
	var out strings.Builder
	if len(d.Runs) == 1 {
		d.Runs[0].table(&out)
	} else {
		d.lines(&out)
	}
	// Columns are padded also where nothing follows.
	text := regexp.MustCompile(` +\n`).ReplaceAllString(out.String(), "\n")
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (r Run) word() string {
	switch {
	case !r.Valid:
		return "INVALID"
	case !r.Passed:
		return "FAILED"
	}
	return "PASSED"
}

func (r Run) table(out *strings.Builder) {
	fmt.Fprintf(out, "%s  %s", r.word(), r.Drill)
	if r.Node != "" {
		fmt.Fprintf(out, " of %s", r.Node)
	}
	fmt.Fprintf(out, ", %s, VIP %s, %s\n\n", r.Site, r.Target, r.Started.Format("2006-01-02 15:04:05 UTC"))
	for _, why := range r.Invalid {
		fmt.Fprintf(out, "  invalid: %s\n", why.Message)
	}
	for _, why := range r.Broken {
		fmt.Fprintf(out, "  limit broken: %s\n", why.Message)
	}
	if len(r.Invalid)+len(r.Broken) > 0 {
		out.WriteByte('\n')
	}

	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "new connections\t%d sent, %d answered, %d failed, %d cut by the router's re-hash\n", r.Sent, r.Answered, r.Failed, r.Cut)
	if r.Failed > 0 {
		fmt.Fprintf(t, "failed\t%s\n", r.kinds())
		fmt.Fprintf(t, "\tfirst at %s, last at %s", at(*r.FirstFailureMS), at(*r.LastFailureMS))
		if r.Node != "" {
			fmt.Fprintf(t, ", %d while %s came back", r.FailedReturn, r.Node)
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintf(t, "longest gap\t%s%s\n", span(r.LongestGapMS), of(len(r.Outages), "outage"))
	for _, h := range r.Held {
		node := h.Node
		if node == "" {
			node = "unknown node"
		}
		fmt.Fprintf(t, "held by %s\t%d alive at the end, %d finished, %d cut by the re-hash, %d broken otherwise, %d not opened\n", node, h.Alive, h.Finished, h.Cut, h.Broken, h.Refused)
	}
	fmt.Fprintf(t, "limits\t%s\n", r.Limits)
	fmt.Fprintf(t, "prober\tevery %s, at most %s late, %.0f µs of CPU each\n", span(r.Prober.IntervalMS), span(r.Prober.MaxLateMS), r.Prober.CPUPerProbeUS)
	_ = t.Flush() // to a strings.Builder

	if events := r.events(); len(events) > 0 {
		out.WriteString("\nEVENTS\n")
		t = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, e := range events {
			fmt.Fprintf(t, "%s\t  %s\n", at(e.at), e.what)
		}
		_ = t.Flush()
	}

	out.WriteByte('\n')
	t = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WINDOW\tFROM\tSENT\tANSWERED\tFAILED\tCUT\tGAP\tP50\tP99\tMAX\tSPREAD")
	for _, w := range r.Windows {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n",
			w.Name, at(w.StartMS), w.Sent, w.Answered, w.Failed, w.Cut, span(w.LongestGapMS), span(w.P50MS), span(w.P99MS), span(w.MaxMS), w.spread())
	}
	_ = t.Flush()
}

func (r Run) kinds() string {
	var words []string
	for _, k := range r.FailedBy {
		words = append(words, fmt.Sprintf("%d %s (%s)", k.Count, k.Outcome, k.Stage))
	}
	return strings.Join(words, ", ")
}

// String lists the limits that were judged.
func (l Limits) String() string {
	var words []string
	if l.MaxGapMS != nil {
		words = append(words, "gap "+span(*l.MaxGapMS))
	}
	if l.MaxFailed != nil {
		words = append(words, fmt.Sprintf("failed %d", *l.MaxFailed))
	}
	if l.MaxReturnFailed != nil {
		words = append(words, fmt.Sprintf("failed on return %d", *l.MaxReturnFailed))
	}
	if l.MaxCut != nil {
		words = append(words, fmt.Sprintf("cut %d", *l.MaxCut))
	}
	if l.MaxDeviation != nil {
		words = append(words, fmt.Sprintf("deviation %g %%", *l.MaxDeviation))
	}
	if len(words) == 0 {
		return "none"
	}
	return "at most: " + strings.Join(words, ", ")
}

type event struct {
	at   float64
	what string
}

// events merges what was done, what the router did and what clients saw.
func (r Run) events() []event {
	var events []event
	add := func(at float64, format string, args ...any) {
		events = append(events, event{at: at, what: fmt.Sprintf(format, args...)})
	}
	for _, s := range r.Steps {
		add(s.AtMS, "%s %s (took %s)", s.Name, r.Node, span(s.TookMS))
	}
	for _, c := range r.Checks {
		word := "yes"
		if c.Wrong != "" {
			word = "NO: " + c.Wrong
		}
		add(c.AtMS, "%s: %s", c.What, word)
	}
	for i, h := range r.Router {
		if i > 0 {
			hops := strings.Join(h.NextHops, " ")
			if hops == "" {
				hops = "none"
			}
			add(h.AtMS, "router: next hops %s", hops)
		}
	}
	for _, o := range r.Outages {
		add(o.StartMS, "clients: outage of %s, %d failed", span(o.LengthMS), o.Failed)
	}
	if r.FirstCarriedMS != nil {
		add(*r.FirstCarriedMS, "clients: first connection carried by %s again", r.Node)
	}
	for i := 1; i < len(events); i++ { // few, and equal times stay in order
		for k := i; k > 0 && events[k].at < events[k-1].at; k-- {
			events[k], events[k-1] = events[k-1], events[k]
		}
	}
	return events
}

func (w Window) spread() string {
	if len(w.Spread) == 0 {
		return "-"
	}
	var words []string
	for _, s := range w.Spread {
		node := s.Node
		if node == "" {
			node = "unknown"
		}
		words = append(words, fmt.Sprintf("%s %.1f %%", node, s.Percent))
	}
	return fmt.Sprintf("%s (%.1f %% from even)", strings.Join(words, ", "), w.DeviationPercent)
}

// lines writes a line for each of several runs, and what they come to.
func (d Document) lines(out *strings.Builder) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RUN\tDRILL\tNODE\tVERDICT\tSENT\tFAILED\tON RETURN\tCUT\tHELD CUT\tGAP\tROUTER AFTER\tWHY")
	for i, r := range d.Runs {
		converged := "-"
		if len(r.Windows) > 1 && r.Windows[1].ConvergedMS != nil {
			converged = span(*r.Windows[1].ConvergedMS)
		}
		var why []string
		for _, reason := range append(append([]Reason{}, r.Invalid...), r.Broken...) {
			why = append(why, reason.Message)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n",
			i+1, r.Drill, r.Node, r.word(), r.Sent, r.Failed, r.FailedReturn, r.Cut, r.HeldCut, span(r.LongestGapMS), converged, strings.Join(why, "; "))
	}
	_ = t.Flush() // to a strings.Builder
	s := d.Summary
	if s == nil {
		return
	}
	fmt.Fprintf(out, "\n%d runs, %d valid, %d passed, %d new connections\n\n", s.Runs, s.Valid, s.Passed, s.Sent)
	t = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tMEDIAN\tWORST")
	fmt.Fprintf(t, "longest gap\t%s\t%s\n", span(s.Gap.Median), span(s.Gap.Worst))
	fmt.Fprintf(t, "failed\t%g\t%g\n", s.Failed.Median, s.Failed.Worst)
	fmt.Fprintf(t, "failed on return\t%g\t%g\n", s.Return.Median, s.Return.Worst)
	fmt.Fprintf(t, "cut by the re-hash\t%g\t%g\n", s.Cut.Median, s.Cut.Worst)
	fmt.Fprintf(t, "router converged\t%s\t%s\n", span(s.Leave.Median), span(s.Leave.Worst))
	fmt.Fprintf(t, "deviation from even, before\t%g %%\t%g %%\n", s.Uneven.Median, s.Uneven.Worst)
	_ = t.Flush()
}

// at writes a time relative to the injection.
func at(ms float64) string { return fmt.Sprintf("%+.1f ms", ms) }

// span writes a length of time.
func span(ms float64) string {
	switch {
	case ms == 0:
		return "0"
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func of(n int, what string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " (1 " + what + ")"
	}
	return fmt.Sprintf(" (the longest of %d %ss)", n, what)
}
