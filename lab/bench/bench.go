// Package bench measures Pharos side by side with HAProxy and nginx: the same
// load, the same servers, one machine, one run, alternating. What it compares is
// the CPU time that each proxy's processes take for a unit of work: on a shared
// machine a rate says little, and a ratio within one run says most.
package bench

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Options say what to measure.
type Options struct {
	Cases    *regexp.Regexp // names; nil: all
	Rounds   int            // how often each proxy has its turn in each case; the median counts. Default 3
	Duration time.Duration  // of one turn. Default 3 s
	Pharos   string         // this program
	Progress func(string)   // nil: nobody listens
}

// Sample is one turn of one proxy.
type Sample struct {
	Units  int           // requests, handshakes or MiB
	Failed int           // of them
	Took   time.Duration // on the clock
	CPU    time.Duration // of the proxy's processes
	P50    time.Duration // latency; 0: not measured
	P99    time.Duration
}

// PerUnit is the CPU time for each unit.
func (s Sample) PerUnit() time.Duration {
	if s.Units == 0 {
		return 0
	}
	return s.CPU / time.Duration(s.Units)
}

// Result is one proxy in one case: the median of its turns by CPU time.
type Result struct {
	Proxy  string        `json:"proxy"`
	CPU    time.Duration `json:"cpu_per_unit_ns"`
	Rate   float64       `json:"units_per_second"`
	P50    time.Duration `json:"p50_ns,omitempty"`
	P99    time.Duration `json:"p99_ns,omitempty"`
	Failed int           `json:"failed"`
	Ratio  float64       `json:"ratio_to_haproxy,omitempty"` // of the CPU times
}

// Outcome is one case.
type Outcome struct {
	Case    string   `json:"case"`
	Unit    string   `json:"unit"`
	Limit   float64  `json:"limit,omitempty"` // of Pharos' ratio to HAProxy; 0: none
	Results []Result `json:"results"`
	Faults  []string `json:"faults,omitempty"` // where Pharos falls short
}

// Run measures inside a box of its own, which it is called in: see Enter.
func Run(ctx context.Context, o Options) ([]Outcome, error) {
	if o.Rounds <= 0 {
		o.Rounds = 3
	}
	if o.Duration <= 0 {
		o.Duration = 3 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	b, err := newBox(o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.servers(ctx); err != nil {
		return nil, err
	}
	var all []Outcome
	for _, c := range cases() {
		if o.Cases != nil && !o.Cases.MatchString(c.name) {
			continue
		}
		out, err := b.measure(ctx, c)
		if err != nil {
			return all, fmt.Errorf("case %s: %w", c.name, err)
		}
		all = append(all, out)
	}
	if len(all) == 0 {
		return nil, errors.New("no case has such a name: `pharos lab bench --list` names all")
	}
	return all, nil
}

// Names lists the cases.
func Names() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}

// measure gives each proxy its turns in a case. A proxy runs only in its own
// turns, so that none pays for another's timers and checks.
func (b *box) measure(ctx context.Context, c benchCase) (Outcome, error) {
	out := Outcome{Case: c.name, Unit: c.unit, Limit: c.limit}
	samples := map[string][]Sample{}
	for round := range b.o.Rounds {
		for _, p := range proxies() {
			if !c.fits(p.name) {
				continue
			}
			b.o.Progress(fmt.Sprintf("%s, round %d of %d: %s", c.name, round+1, b.o.Rounds, p.name))
			s, err := b.turn(ctx, c, p)
			if err != nil {
				return out, fmt.Errorf("%s: %w", p.name, err)
			}
			samples[p.name] = append(samples[p.name], s)
		}
	}
	for _, p := range proxies() {
		if len(samples[p.name]) > 0 {
			out.Results = append(out.Results, middle(p.name, samples[p.name]))
		}
	}
	out.judge(c)
	return out, nil
}

// middle makes the result of a proxy's turns.
func middle(proxy string, turns []Sample) Result {
	slices.SortFunc(turns, func(x, y Sample) int { return int(x.PerUnit() - y.PerUnit()) })
	m := turns[len(turns)/2]
	r := Result{Proxy: proxy, CPU: m.PerUnit(), P50: m.P50, P99: m.P99}
	if m.Took > 0 {
		r.Rate = float64(m.Units) / m.Took.Seconds()
	}
	for _, s := range turns {
		r.Failed += s.Failed
	}
	return r
}

// judge fills in the ratios, and says where Pharos falls short.
func (o *Outcome) judge(c benchCase) {
	var ours, theirs *Result
	for i := range o.Results {
		switch r := &o.Results[i]; r.Proxy {
		case "pharos":
			ours = r
		case "haproxy":
			theirs = r
		}
	}
	if theirs != nil && theirs.CPU > 0 {
		for i := range o.Results {
			o.Results[i].Ratio = float64(o.Results[i].CPU) / float64(theirs.CPU)
		}
	}
	if ours == nil {
		return
	}
	if ours.Failed > 0 {
		o.Faults = append(o.Faults, fmt.Sprintf("%d %s failed", ours.Failed, c.unit))
	}
	if c.limit > 0 && theirs != nil && ours.Ratio > c.limit {
		o.Faults = append(o.Faults, fmt.Sprintf("%.2f times HAProxy's CPU time, at most %.2f is wanted", ours.Ratio, c.limit))
	}
	if c.p99 > 0 && ours.P99 > c.p99 {
		o.Faults = append(o.Faults, fmt.Sprintf("99 %% within %v, %v is wanted", ours.P99, c.p99))
	}
	if c.p99 > 0 && theirs != nil && ours.P99 > theirs.P99 {
		o.Faults = append(o.Faults, fmt.Sprintf("99 %% within %v, HAProxy has %v", ours.P99, theirs.P99))
	}
}
