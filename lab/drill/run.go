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
	Hold      time.Duration // how long a fault stays that the router need not see
	Split     string        // of a partition: "n1|n2,n3"; empty: Node is apart
	OneWay    bool          // of a partition: the first group does not hear the others, and is heard
	ProbeArgs []string      // further ones of the prober: held connections, path, ...
	Limits    oracle.Limits
	// DetectedGap has the limit of the gap follow the router's detection time, in
	// the drills that name how much more there may be.
	DetectedGap bool
}

// DefaultOptions are those of the CLI.
func DefaultOptions() Options {
	return Options{
		Interval: 2 * time.Millisecond, Timeout: time.Second,
		Before: 1500 * time.Millisecond, Settle: 1500 * time.Millisecond, After: 1500 * time.Millisecond,
		Leave: 30 * time.Second, Return: time.Minute, Hold: 5 * time.Second,
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
		{"hold", o.Hold, 100 * time.Millisecond, time.Hour},
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

// checking is above what all checks of a drill may take.
const checking = 6 * changeLimit

// stopping bounds the wait for the prober's end, beyond a probe's timeout.
const stopping = 10 * time.Second

// Run runs a drill once. Progress is told in words as it comes. An error means
// that it could not be run to its end: there is no verdict. In every case the
// fault was undone, or the error says that it was not.
func Run(ctx context.Context, site Site, s Scenario, o Options, log *slog.Logger, progress func(string)) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	r := &run{site: site, scenario: s, options: o, log: log, progress: progress}
	if err := r.prepare(ctx); err != nil {
		return Result{}, err
	}
	injector, err := r.plan.injector(site)
	if err != nil {
		return Result{}, err
	}
	if t, ok := site.(Tidier); ok {
		if err := t.Tidy(ctx); err != nil {
			return Result{}, err
		}
	}
	result := Result{Scenario: s.Name, Site: site.Name(), Target: site.Target().String(), Node: r.plan.name(), Started: time.Now()}
	history, err := r.observe(ctx, injector)
	if err == nil {
		result.Verdict = oracle.Judge(history, r.options.Limits)
	}
	if undo := r.restore(ctx); undo != nil {
		err = errors.Join(err, fmt.Errorf("the configuration was NOT put back: %w", undo))
	}
	if err != nil {
		return Result{}, fmt.Errorf("drill %s of %s: %w", s.Name, r.plan.name(), err)
	}
	return result, nil
}

// run is one drill under way.
type run struct {
	site     Site
	scenario Scenario
	options  Options
	plan     Plan
	node     string    // the victim
	operator *operator // nil: nothing is tried, or cannot be
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
	r.history.Router, r.history.Doubts = changes, append(r.history.Doubts, doubts...)
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
		leaves, returns := oracle.Leaves, oracle.Returns
		if r.scenario.Stays {
			leaves, returns = oracle.Stays, oracle.Stays
		}
		r.step(oracle.Step{Name: r.scenario.Inject, Effect: leaves, Abrupt: r.scenario.Abrupt}, injected)
		if err := r.whileBroken(ctx, injector, injected); err != nil {
			return err
		}
		if r.scenario.Passing {
			returns = oracle.Stays
		}
		mended, err := revert(ctx)
		if err != nil {
			return err
		}
		if r.scenario.Revert != "" {
			r.step(oracle.Step{Name: r.scenario.Revert, Effect: returns}, mended)
		}
		if returns == oracle.Returns {
			if err := r.awaitReturn(ctx); err != nil {
				return err
			}
		}
		if err := pause(ctx, r.options.Settle); err != nil {
			return err
		}
		r.check(ctx, r.scenario.Afterwards)
		r.history.Recovered = time.Now()
		return pause(ctx, r.options.After)
	})
}

// whileBroken is from the fault to its end.
func (r *run) whileBroken(ctx context.Context, injector fault.Injector, injected fault.Moment) error {
	if !r.scenario.Stays {
		if err := within(ctx, r.options.Leave, func(ctx context.Context) error { return r.router.await(ctx, r.node, false) }); err != nil {
			return err
		}
		r.say("the router dropped %s", r.node)
	}
	if r.scenario.Passing {
		// From when the router dropped it on: it may have come back by now.
		dropped := r.router.lastWithout(r.node)
		r.step(oracle.Step{Name: "return", Effect: oracle.Returns}, fault.Moment{Began: dropped, Done: dropped})
		if err := r.awaitReturn(ctx); err != nil {
			return err
		}
	}
	r.check(ctx, r.scenario.Meanwhile)
	rest := r.options.Settle
	if r.scenario.Stays {
		rest = time.Until(injected.Done.Add(r.options.Hold))
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	switch met, err := fault.Count(ctx, injector); {
	case errors.Is(err, fault.ErrNoCount):
	case err != nil:
		return err
	case met == 0:
		r.history.Doubts = append(r.history.Doubts, oracle.NotMet(r.scenario.Inject))
	}
	return ctx.Err()
}

func (r *run) awaitReturn(ctx context.Context) error {
	if err := within(ctx, r.options.Return, func(ctx context.Context) error { return r.router.await(ctx, r.node, true) }); err != nil {
		return err
	}
	r.say("the router took %s back", r.node)
	return nil
}

// check tries something, and tells of it.
func (r *run) check(ctx context.Context, checks Checks) {
	if checks == nil || r.operator == nil {
		return
	}
	for _, c := range checks(ctx, r.operator, r.plan) {
		r.history.Checks = append(r.history.Checks, c)
		if c.Wrong == "" {
			r.say("as it should be: %s", c.What)
		} else {
			r.say("NOT as it should be: %s: %s", c.What, c.Wrong)
		}
	}
}

func (r *run) step(s oracle.Step, m fault.Moment) {
	s.Began, s.Done = m.Began, m.Done
	r.history.Steps = append(r.history.Steps, s)
	r.say("%s %s", s.Name, r.plan.name())
}

func (r *run) say(format string, args ...any) { r.progress(fmt.Sprintf(format, args...)) }

// probeArgs bound the traffic by the sum of all deadlines.
func (r *run) probeArgs() []string {
	o := r.options
	bound := firstAnswer + o.Before + o.Leave + 2*o.Settle + o.Return + o.After + o.Hold + 2*fault.RevertTimeout + checking + stopping
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
