package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
	"github.com/pharos-lb/pharos/lab/fault"
)

// Options say how a drill is run.
type Options struct {
	Node      string // to break; empty: the middle one of the site's nodes
	Interval  time.Duration
	Timeout   time.Duration // of one probe
	Before    time.Duration // watched before the fault
	Settle    time.Duration // watched after the router has converged, before the fault is undone
	After     time.Duration // watched after the recovery
	Leave     time.Duration // deadline for the fault to take effect at the router
	Return    time.Duration // deadline for the node to be back at the router
	ProbeArgs []string      // further ones of the prober: held connections, path, ...
	Limits    oracle.Limits
}

// DefaultOptions are those of the CLI.
func DefaultOptions() Options {
	return Options{
		Interval: 2 * time.Millisecond, Timeout: time.Second,
		Before: 1500 * time.Millisecond, Settle: 1500 * time.Millisecond, After: 1500 * time.Millisecond,
		Leave: 30 * time.Second, Return: time.Minute,
	}
}

// Validate reports every fault at once.
func (o Options) Validate() error {
	var errs []error
	for _, f := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"interval", o.Interval, 100 * time.Microsecond, time.Second},
		{"timeout", o.Timeout, time.Millisecond, time.Minute},
		{"before", o.Before, 100 * time.Millisecond, time.Hour},
		{"settle", o.Settle, 100 * time.Millisecond, time.Hour},
		{"after", o.After, 100 * time.Millisecond, time.Hour},
		{"leave", o.Leave, time.Second, time.Hour},
		{"return", o.Return, time.Second, time.Hour},
	} {
		if f.value < f.min || f.value > f.max {
			errs = append(errs, fmt.Errorf("%s: %v is not within %v to %v", f.name, f.value, f.min, f.max))
		}
	}
	return errors.Join(errs...)
}

// Result is one run.
type Result struct {
	Scenario string
	Site     string
	Target   string
	Node     string
	Started  time.Time
	Verdict  oracle.Verdict
}

// firstAnswer bounds the wait for the first probe to be answered.
const firstAnswer = 10 * time.Second

// stopping bounds the wait for the prober's end, beyond a probe's timeout.
const stopping = 10 * time.Second

// Run runs a drill once. Progress is told in words as it comes. An error means
// that it could not be run to its end: there is no verdict. In every case the
// fault was undone, or the error says that it was not.
func Run(ctx context.Context, site Site, s Scenario, o Options, log *slog.Logger, progress func(string)) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	node, err := chooseNode(site, o.Node)
	if err != nil {
		return Result{}, err
	}
	injector, err := site.Fault(s.Kind, node)
	if err != nil {
		return Result{}, err
	}
	r := &run{site: site, scenario: s, options: o, node: node, log: log, progress: progress}
	result := Result{Scenario: s.Name, Site: site.Name(), Target: site.Target().String(), Node: node, Started: time.Now()}
	history, err := r.observe(ctx, injector)
	if err != nil {
		return Result{}, fmt.Errorf("drill %s of %s: %w", s.Name, node, err)
	}
	result.Verdict = oracle.Judge(history, o.Limits)
	return result, nil
}

func chooseNode(site Site, node string) (string, error) {
	nodes := site.Nodes()
	switch {
	case node == "" && len(nodes) == 0:
		return "", fmt.Errorf("%w: name the one to break by --node", ErrNoNode)
	case node == "":
		return nodes[len(nodes)/2], nil
	case len(nodes) > 0 && !slices.Contains(nodes, node):
		return "", fmt.Errorf("%w: %q: %s has %s", ErrNoNode, node, site.Name(), strings.Join(nodes, ", "))
	}
	return node, nil
}

// run is one drill under way.
type run struct {
	site     Site
	scenario Scenario
	options  Options
	node     string
	log      *slog.Logger
	progress func(string)

	router  *watcher
	history oracle.History
}

// observe records traffic and router while the fault comes and goes.
func (r *run) observe(ctx context.Context, injector fault.Injector) (oracle.History, error) {
	ctx, cancel := context.WithCancel(ctx)
	clock := time.Now()
	r.router = newWatcher(r.site, r.log)
	waitRouter, err := r.router.start(ctx)
	if err != nil {
		cancel()
		return oracle.History{}, err
	}
	defer waitRouter()
	defer cancel() // runs first
	if hops := r.router.hops(); !slices.Contains(hops, r.node) || len(hops) < 2 {
		return oracle.History{}, fmt.Errorf("the router has %d next hops for %s (%s): want %s among two at least", len(hops), r.site.Target().Addr(), strings.Join(hops, ", "), r.node)
	}

	probes, err := startProber(ctx, r.site, r.probeArgs()...)
	if err != nil {
		return oracle.History{}, err
	}
	defer func() { <-probes.done }()
	defer cancel()
	if err := within(ctx, firstAnswer, probes.awaitFirst); err != nil {
		return oracle.History{}, err
	}
	r.say("traffic runs: a new connection every %v", r.options.Interval)
	r.history.Victim, r.history.Nodes = r.node, r.site.NodeNames()
	if err := r.breakAndMend(ctx, injector); err != nil {
		return oracle.History{}, err
	}

	if err := within(ctx, r.options.Timeout+stopping, probes.stop); err != nil {
		return oracle.History{}, err
	}
	r.history.Begin, r.history.End, r.history.Probes, r.history.Held = probes.begin, probes.end, probes.probes, probes.held
	changes, doubts := r.router.finish(ctx)
	r.history.Router, r.history.Doubts = changes, doubts
	// A clock that was set shows as a difference between wall and monotonic time.
	if step := time.Now().Round(0).Sub(clock.Round(0)) - time.Since(clock); step > maxClockStep || step < -maxClockStep {
		r.history.Doubts = append(r.history.Doubts, oracle.ClockStep(step))
	}
	return r.history, nil
}

// maxClockStep is what slewing may do to the clock in a run of some seconds.
const maxClockStep = 5 * time.Millisecond

// breakAndMend goes through the phases of a drill.
func (r *run) breakAndMend(ctx context.Context, injector fault.Injector) error {
	if err := pause(ctx, r.options.Before); err != nil {
		return err
	}
	return fault.With(ctx, injector, func(ctx context.Context, injected fault.Moment, revert fault.Revert) error {
		r.step(oracle.Step{Name: r.scenario.Inject, Effect: oracle.Leaves, Abrupt: r.scenario.Abrupt}, injected)
		if err := within(ctx, r.options.Leave, func(ctx context.Context) error { return r.router.await(ctx, r.node, false) }); err != nil {
			return err
		}
		r.say("the router dropped %s", r.node)
		if err := pause(ctx, r.options.Settle); err != nil {
			return err
		}
		mended, err := revert(ctx)
		if err != nil {
			return err
		}
		r.step(oracle.Step{Name: r.scenario.Revert, Effect: oracle.Returns}, mended)
		if err := within(ctx, r.options.Return, func(ctx context.Context) error { return r.router.await(ctx, r.node, true) }); err != nil {
			return err
		}
		r.say("the router took %s back", r.node)
		if err := pause(ctx, r.options.Settle); err != nil {
			return err
		}
		r.history.Recovered = time.Now()
		return pause(ctx, r.options.After)
	})
}

func (r *run) step(s oracle.Step, m fault.Moment) {
	s.Began, s.Done = m.Began, m.Done
	r.history.Steps = append(r.history.Steps, s)
	r.say("%s %s", s.Name, r.node)
}

func (r *run) say(format string, args ...any) { r.progress(fmt.Sprintf(format, args...)) }

// probeArgs bound the traffic by the sum of all deadlines.
func (r *run) probeArgs() []string {
	o := r.options
	bound := firstAnswer + o.Before + o.Leave + 2*o.Settle + o.Return + o.After + 2*fault.RevertTimeout + stopping
	return append([]string{
		"--target", r.site.Target().String(), "--interval", o.Interval.String(), "--timeout", o.Timeout.String(), "--duration", bound.String(),
	}, o.ProbeArgs...)
}

// within runs wait with a deadline, which then is the context's cause.
func within(ctx context.Context, limit time.Duration, wait func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	return wait(ctx)
}

// pause lets traffic run for a while: the one thing that is awaited by time.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
