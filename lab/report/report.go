// Package report writes a drill's results: a table for people, and a JSON
// document with a stable schema for programs.
package report

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/lab/drill"
	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Schema names the version of Document. Fields are only ever added to it; one
// that changes its meaning makes a new version.
const Schema = "pharos.drill/v1"

// Document is what "-o json" writes. Times that end in _ms are milliseconds;
// those of events count from the beginning of the first step, the injection
// (for the spread: from the first probe), and may be negative.
type Document struct {
	Schema  string   `json:"schema"`
	Passed  bool     `json:"passed"` // every run is valid and holds every limit
	Valid   bool     `json:"valid"`  // every run is
	Runs    []Run    `json:"runs"`
	Summary *Summary `json:"summary,omitempty"` // with more than one run
}

// Run is one run of a drill.
type Run struct {
	Drill   string    `json:"drill"`
	Site    string    `json:"site"`
	Target  string    `json:"target"`
	Node    string    `json:"node,omitempty"`
	Started time.Time `json:"started"`

	Valid   bool     `json:"valid"`
	Passed  bool     `json:"passed"`
	Invalid []Reason `json:"invalid,omitempty"` // why the run shows nothing
	Broken  []Reason `json:"broken,omitempty"`  // the limits that do not hold
	Limits  Limits   `json:"limits"`

	Counts
	FailedReturn   int       `json:"failed_return"` // of failed, from the node's start or undrain on
	FailedBy       []Kind    `json:"failed_by,omitempty"`
	FirstFailureMS *float64  `json:"first_failure_ms,omitempty"` // when the first failing probe was due
	LastFailureMS  *float64  `json:"last_failure_ms,omitempty"`
	LongestGapMS   float64   `json:"longest_gap_ms"`
	Outages        []Outage  `json:"outages,omitempty"`
	Steps          []Step    `json:"steps,omitempty"`
	Checks         []Check   `json:"checks,omitempty"` // what was tried as an operator
	Router         []Hops    `json:"router,omitempty"`
	Windows        []Window  `json:"windows"`
	Held           []Held    `json:"held,omitempty"`
	HeldCut        int       `json:"held_cut"`
	FirstCarriedMS *float64  `json:"first_carried_ms,omitempty"` // first probe that the node carried after its return
	Prober         ProberRow `json:"prober"`
}

// Counts are of new connections: sent = answered + failed + cut + not_sent.
type Counts struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	Failed   int `json:"failed"`
	Cut      int `json:"cut"`      // established, and reset by the router's re-hash, as its record proves
	NotSent  int `json:"not_sent"` // by the prober's own limits; the run is invalid then
}

// Reason is a fixed word and a sentence.
type Reason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Limits that were judged; absent: none.
type Limits struct {
	MaxGapMS        *float64 `json:"max_gap_ms,omitempty"`
	MaxFailed       *int     `json:"max_failed,omitempty"`
	MaxReturnFailed *int     `json:"max_return_failed,omitempty"`
	MaxCut          *int     `json:"max_cut,omitempty"`
	MaxDeviation    *float64 `json:"max_deviation_percent,omitempty"`
	MaxLateMS       float64  `json:"max_late_ms"`
}

// Kind counts failed probes of one kind.
type Kind struct {
	Outcome string `json:"outcome"`
	Stage   string `json:"stage"`
	Count   int    `json:"count"`
}

// Outage is a run of failures less than 500 ms apart.
type Outage struct {
	StartMS  float64 `json:"start_ms"`
	LengthMS float64 `json:"length_ms"`
	Failed   int     `json:"failed"`
}

// Step is one thing that was done.
type Step struct {
	Name   string  `json:"name"`
	AtMS   float64 `json:"at_ms"`
	TookMS float64 `json:"took_ms"`
}

// Check is something that was tried as an operator would.
type Check struct {
	What  string  `json:"what"` // what should be so
	AtMS  float64 `json:"at_ms"`
	Wrong string  `json:"wrong,omitempty"` // what was so instead
}

// Hops are the router's next hops from a time on.
type Hops struct {
	AtMS     float64  `json:"at_ms"`
	NextHops []string `json:"next_hops"`
}

// Window is the time from one step to the next.
type Window struct {
	Name     string  `json:"name"`
	StartMS  float64 `json:"start_ms"`
	LengthMS float64 `json:"length_ms"`
	Counts
	LongestGapMS float64  `json:"longest_gap_ms"`
	ConvergedMS  *float64 `json:"converged_ms,omitempty"` // from the step until the router showed its effect
	P50MS        float64  `json:"p50_ms"`
	P99MS        float64  `json:"p99_ms"`
	MaxMS        float64  `json:"max_ms"`
	// Spread is over the router's next hops, after its last change in the window.
	Spread           []Share `json:"spread"`
	DeviationPercent float64 `json:"deviation_percent"`
}

// Share is one node's part of the answered probes.
type Share struct {
	Node    string  `json:"node"`
	Count   int     `json:"count"`
	Percent float64 `json:"percent"`
}

// Held counts connections that were held open, by the node that carried them.
type Held struct {
	Node     string `json:"node"` // empty: ended before its first answer
	Alive    int    `json:"alive"`
	Finished int    `json:"finished"`
	Cut      int    `json:"cut"`
	Broken   int    `json:"broken"`
	Refused  int    `json:"refused"`
}

// ProberRow is how the prober itself did.
type ProberRow struct {
	IntervalMS    float64 `json:"interval_ms"`
	MaxLateMS     float64 `json:"max_late_ms"`
	CPUPerProbeUS float64 `json:"cpu_per_probe_us"`
}

// Summary is over all valid runs.
type Summary struct {
	Runs    int `json:"runs"`
	Valid   int `json:"valid"`
	Passed  int `json:"passed"`
	Sent    int `json:"sent"`
	Gap     Row `json:"longest_gap_ms"`
	Failed  Row `json:"failed"`
	Return  Row `json:"failed_return"`
	Cut     Row `json:"cut"` // probes and held connections
	Leave   Row `json:"converged_ms"`
	Uneven  Row `json:"deviation_before_percent"`
	Longest int `json:"longest_gap_run"` // from 1; 0: there was no gap
}

// Row is a figure over several runs.
type Row struct {
	Median float64 `json:"median"`
	Worst  float64 `json:"worst"`
}

// New makes the document of some runs.
func New(results []drill.Result) Document {
	d := Document{Schema: Schema, Passed: len(results) > 0, Valid: len(results) > 0, Runs: []Run{}}
	for _, r := range results {
		run := newRun(r)
		d.Runs = append(d.Runs, run)
		d.Passed, d.Valid = d.Passed && run.Passed, d.Valid && run.Valid
	}
	if len(results) > 1 {
		d.Summary = summarize(d.Runs)
	}
	return d
}

func newRun(r drill.Result) Run {
	v := r.Verdict
	run := Run{
		Drill: r.Scenario, Site: r.Site, Target: r.Target, Node: r.Node, Started: r.Started.UTC().Truncate(time.Millisecond),
		Valid: len(v.Invalid) == 0, Passed: v.Passed(), Invalid: reasons(v.Invalid), Broken: reasons(v.Broken),
		Limits: Limits{
			MaxFailed: v.Limits.MaxFailed, MaxReturnFailed: v.Limits.MaxReturnFailed, MaxCut: v.Limits.MaxCut,
			MaxDeviation: v.Limits.MaxDeviation, MaxLateMS: ms(v.Limits.MaxLate),
		},
		Counts: Counts(v.Counts), FailedReturn: v.FailedReturn, LongestGapMS: ms(v.LongestGap), HeldCut: v.HeldCut,
		Prober: ProberRow{IntervalMS: ms(v.Interval), MaxLateMS: ms(v.MaxLate), CPUPerProbeUS: float64(v.CPUPerProbe.Microseconds())},
	}
	if v.Limits.MaxGap != nil {
		run.Limits.MaxGapMS = some(ms(*v.Limits.MaxGap))
	}
	if v.Failed > 0 {
		run.FirstFailureMS, run.LastFailureMS = some(ms(v.FirstFailure)), some(ms(v.LastFailure))
	}
	if v.Back {
		run.FirstCarriedMS = some(ms(v.FirstCarried))
	}
	for _, k := range v.By {
		run.FailedBy = append(run.FailedBy, Kind{Outcome: string(k.Outcome), Stage: string(k.Stage), Count: k.Count})
	}
	for _, o := range v.Outages {
		run.Outages = append(run.Outages, Outage{StartMS: ms(o.Start), LengthMS: ms(o.Length), Failed: o.Failed})
	}
	for _, s := range v.Steps {
		run.Steps = append(run.Steps, Step{Name: s.Name, AtMS: ms(s.At), TookMS: ms(s.Took)})
	}
	for _, c := range v.Checks {
		run.Checks = append(run.Checks, Check{What: c.What, AtMS: ms(c.At), Wrong: c.Wrong})
	}
	for _, c := range v.Router {
		run.Router = append(run.Router, Hops{AtMS: ms(c.At), NextHops: c.NextHops})
	}
	for _, w := range v.Windows {
		run.Windows = append(run.Windows, newWindow(w))
	}
	for _, h := range v.Held {
		run.Held = append(run.Held, Held(h))
	}
	return run
}

func newWindow(w oracle.Window) Window {
	out := Window{
		Name: w.Name, StartMS: ms(w.Start), LengthMS: ms(w.Length), Counts: Counts(w.Counts), LongestGapMS: ms(w.LongestGap),
		P50MS: ms(w.Latency.P50), P99MS: ms(w.Latency.P99), MaxMS: ms(w.Latency.Max),
		Spread: []Share{}, DeviationPercent: digits(w.Spread.Deviation, 1),
	}
	if w.Observed {
		out.ConvergedMS = some(ms(w.Converged))
	}
	for _, s := range w.Spread.Shares {
		out.Spread = append(out.Spread, Share{Node: s.Node, Count: s.Count, Percent: digits(100*s.Part, 1)})
	}
	return out
}

func summarize(runs []Run) *Summary {
	s := &Summary{Runs: len(runs)}
	var gap, failed, failedReturn, cut, leave, uneven []float64
	worst := 0.0
	for i, r := range runs {
		if r.Passed {
			s.Passed++
		}
		if !r.Valid {
			continue
		}
		s.Valid++
		s.Sent += r.Sent
		gap, failed = append(gap, r.LongestGapMS), append(failed, float64(r.Failed))
		failedReturn, cut = append(failedReturn, float64(r.FailedReturn)), append(cut, float64(r.Cut+r.HeldCut))
		if r.LongestGapMS > worst {
			worst, s.Longest = r.LongestGapMS, i+1
		}
		if len(r.Windows) > 0 {
			uneven = append(uneven, r.Windows[0].DeviationPercent)
		}
		if len(r.Windows) > 1 && r.Windows[1].ConvergedMS != nil {
			leave = append(leave, *r.Windows[1].ConvergedMS)
		}
	}
	s.Gap, s.Failed, s.Return, s.Cut, s.Leave, s.Uneven = row(gap), row(failed), row(failedReturn), row(cut), row(leave), row(uneven)
	return s
}

func row(values []float64) Row {
	if len(values) == 0 {
		return Row{}
	}
	slices.Sort(values)
	return Row{Median: oracle.Percentile(values, 50), Worst: slices.MaxFunc(values, cmp.Compare[float64])}
}

func reasons(in []oracle.Reason) []Reason {
	var out []Reason
	for _, r := range in {
		out = append(out, Reason{Code: string(r.Code), Message: r.Message})
	}
	return out
}

func some[T any](v T) *T { return &v }

func ms(d time.Duration) float64 { return digits(float64(d)/float64(time.Millisecond), 3) }

func digits(v float64, n int) float64 {
	scale := math.Pow(10, float64(n))
	return math.Round(v*scale) / scale
}
