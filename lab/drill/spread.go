package drill

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Spread sends so many connections, without a fault, and has it judged how
// they lay on the nodes that the router has as next hops.
func Spread(ctx context.Context, site Site, connections int, o Options, log *slog.Logger) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if connections < 1 || connections > 10_000_000 {
		return Result{}, fmt.Errorf("connections: %d is not within 1 to 10000000", connections)
	}
	result := Result{Scenario: "spread", Site: site.Name(), Target: site.Target().String(), Started: time.Now()}
	history, err := observeSpread(ctx, site, connections, o, log)
	if err != nil {
		return Result{}, fmt.Errorf("measure the spread: %w", err)
	}
	result.Verdict = oracle.Judge(history, o.Limits)
	return result, nil
}

func observeSpread(ctx context.Context, site Site, connections int, o Options, log *slog.Logger) (oracle.History, error) {
	ctx, cancel := context.WithCancel(ctx)
	router := newWatcher(site, log)
	waitRouter, err := router.start(ctx)
	if err != nil {
		cancel()
		return oracle.History{}, err
	}
	defer waitRouter()
	defer cancel()
	// One interval more, so that the count ends it, not the time.
	duration := time.Duration(connections+1) * o.Interval
	args := append([]string{
		"--target", site.Target().String(), "--interval", o.Interval.String(), "--timeout", o.Timeout.String(),
		"--duration", duration.String(), "--count", strconv.Itoa(connections),
	}, o.ProbeArgs...)
	probes, err := startProber(ctx, site, args...)
	if err != nil {
		return oracle.History{}, err
	}
	defer func() { <-probes.done }()
	defer cancel()
	if err := within(ctx, duration+o.Timeout+stopping, func(ctx context.Context) error {
		select {
		case <-probes.done:
			return probes.stop(ctx)
		case <-ctx.Done():
			return fmt.Errorf("waited for %d probes: %w", connections, context.Cause(ctx))
		}
	}); err != nil {
		return oracle.History{}, err
	}
	changes, doubts := router.finish(ctx)
	return oracle.History{
		Begin: probes.begin, End: probes.end, Probes: probes.probes, Held: probes.held,
		Nodes: site.NodeNames(), Router: changes, Doubts: doubts,
	}, nil
}
