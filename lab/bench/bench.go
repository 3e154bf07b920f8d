// Package bench measures Pharos side by side with HAProxy and nginx: the same
// load, the same servers, one machine, one run, alternating. What it compares is
// the CPU time that each proxy's processes take for a unit of work: on a shared
// machine a rate says little, and a ratio within one run says most.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Options say what to measure.
type Options struct {
	Cases    *regexp.Regexp // names; nil: all
	Rounds   int            // how often each proxy has its turn in each case; the median counts. Default 3
	Duration time.Duration  // of one turn. Default 3 s
	Pharos   string         // this program
	Engine   string         // of Pharos, as the node file names it; empty: its default
	Progress func(string)   // nil: nobody listens
}

// Sample is one turn of one proxy.
type Sample struct {
	Units  int           // requests, handshakes or MiB
	Failed int           // of them
	Why    string        // one of them did
	Took   time.Duration // on the clock
	CPU    time.Duration // of the proxy's processes
	P50    time.Duration // latency; 0: not measured
	P99    time.Duration
	Memory int64 // bytes that a unit takes of the proxy; 0: not measured
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
	Memory int64         `json:"bytes_per_unit,omitempty"`
	Units  int           `json:"units"` // in the turn
	Failed int           `json:"failed"`
	Why    string        `json:"why_failed,omitempty"`       // one of them
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
	if err := b.grpcServers(); err != nil {
		return nil, err
	}
	var all []Outcome
	for _, c := range cases() {
		if o.Cases != nil && !o.Cases.MatchString(c.name) {
			continue
		}
		out, err := b.measure(ctx, c)
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		if err != nil {
			out.Faults = append(out.Faults, fmt.Sprintf("it could not be measured: %v", err))
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
	if err := b.setRate(ctx, c); err != nil {
		return out, err
	}
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

// setRate finds the rate of a case that is not to saturate.
func (b *box) setRate(ctx context.Context, c benchCase) error {
	b.rate = 0
	if !c.half {
		return nil
	}
	for _, p := range proxies() {
		if p.name != "haproxy" {
			continue
		}
		b.o.Progress(c.name + ": the rate that HAProxy is saturated by")
		s, err := b.turn(ctx, c, p)
		if err != nil {
			return err
		}
		b.rate = float64(s.Units) / s.Took.Seconds() / 2
	}
	return nil
}

// middle makes the result of a proxy's turns.
func middle(proxy string, turns []Sample) Result {
	slices.SortFunc(turns, func(x, y Sample) int {
		return cmp.Or(cmp.Compare(x.PerUnit(), y.PerUnit()), cmp.Compare(x.Memory, y.Memory))
	})
	m := turns[len(turns)/2]
	r := Result{Proxy: proxy, CPU: m.PerUnit(), P50: m.P50, P99: m.P99, Memory: m.Memory, Units: m.Units}
	if m.Took > 0 {
		r.Rate = float64(m.Units) / m.Took.Seconds()
	}
	for _, s := range turns {
		r.Failed += s.Failed
		r.Why = cmp.Or(r.Why, s.Why)
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
		o.Faults = append(o.Faults, strings.TrimSuffix(fmt.Sprintf("%d %s failed: %s", ours.Failed, c.unit, ours.Why), ": "))
	}
	if c.limit > 0 && theirs != nil && ours.Ratio > c.limit {
		o.Faults = append(o.Faults, fmt.Sprintf("%.2f times HAProxy's CPU time, at most %.2f is wanted", ours.Ratio, c.limit))
	}
	if c.p99 > 0 && ours.P99 > c.p99 {
		o.Faults = append(o.Faults, fmt.Sprintf("99 %% within %v, %v is wanted", ours.P99, c.p99))
	}
	if c.p50 > 0 && theirs != nil && float64(ours.P50) > c.p50*float64(theirs.P50) {
		o.Faults = append(o.Faults, fmt.Sprintf("half within %v, HAProxy has %v, and %.2f times that is wanted", ours.P50, theirs.P50, c.p50))
	}
	if c.idle > 0 && ours.Memory > maxIdleMemory {
		o.Faults = append(o.Faults, fmt.Sprintf("%d bytes for each connection, %d are wanted", ours.Memory, maxIdleMemory))
	}
	if c.p99 > 0 && theirs != nil && ours.P99 > theirs.P99 {
		o.Faults = append(o.Faults, fmt.Sprintf("99 %% within %v, HAProxy has %v", ours.P99, theirs.P99))
	}
}
