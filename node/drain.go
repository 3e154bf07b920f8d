package node

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/proxy"
)

// How long a drain waits, after the withdrawal, for the routers to have taken
// it in: at least convergeMin (FRR needs about 70 ms from UPDATE to forwarding
// table), and until no connection has arrived for convergeQuiet; at most
// convergeMax, since a router that ignores us must not stop a drain.
const (
	convergeMin   = 300 * time.Millisecond
	convergeQuiet = 200 * time.Millisecond
	convergeMax   = 3 * time.Second
	convergePoll  = 20 * time.Millisecond
)

// DrainResult says how a drain went.
type DrainResult struct {
	Converged time.Duration // from the request until the routers sent nothing new
	Took      time.Duration // until the end
	Report    proxy.DrainReport
}

// Drain withdraws the VIPs, waits until the routers have converged, finishes
// what is in flight until ctx ends, closes the listeners, and only then removes
// the addresses. stop says that the process is going away: the gates then give
// that reason, and there is no way back.
func (r *reconciler) Drain(ctx context.Context, stop bool) (DrainResult, error) {
	start := time.Now()
	var already, underWay bool
	// The request itself is not bound to ctx: a stop must begin even when its
	// time for finishing is zero.
	err := r.do(context.WithoutCancel(ctx), func(context.Context) {
		underWay = r.draining && !r.drained
		already = r.drained
		if underWay && !stop {
			return
		}
		if stop {
			r.stopping = true
			return
		}
		r.draining = true
		r.keepDraining()
	})
	switch {
	case err != nil:
		return DrainResult{}, err
	case underWay && !stop:
		return DrainResult{}, errDrainUnderWay
	case already:
		return DrainResult{Took: time.Since(start)}, nil
	}
	// The step that followed has withdrawn: nothing but the routers' own time
	// stands between us and the last new connection.
	r.awaitQuiet(ctx)
	converged := time.Since(start)
	r.proxy.BeginDrain()
	report := r.proxy.FinishDrain(ctx)
	err = r.do(context.WithoutCancel(ctx), func(runCtx context.Context) {
		r.drained = true
		if r.running != nil {
			if err := r.proxy.Apply(runCtx, r.proxyConfig(r.running.Config)); err != nil {
				r.logger.Error("listeners could not be closed after the drain", "error", err)
			}
		}
		r.setAddresses(nil)
	})
	result := DrainResult{Converged: converged, Took: time.Since(start), Report: report}
	r.logger.Info("drained", "converged", converged, "took", result.Took, "finished", report.Finished, "cut", report.Cut)
	return result, err
}

// Undrain brings a drained node back: listeners and addresses at once,
// announcements when the gates open.
func (r *reconciler) Undrain(ctx context.Context) error {
	var refused error
	err := r.do(ctx, func(runCtx context.Context) {
		switch {
		case r.draining && !r.drained:
			refused = errDrainUnderWay
		case r.draining && r.running != nil:
			r.drained = false
			r.setAddresses(vipAddresses(r.running.Config))
			if err := r.proxy.Apply(runCtx, r.proxyConfig(r.running.Config)); err != nil {
				r.drained = true
				r.setAddresses(nil)
				refused = fmt.Errorf("open the listeners again: %w", err)
				return
			}
			r.draining = false
			r.keepDraining()
		case r.draining:
			r.draining, r.drained = false, false
			r.keepDraining()
		}
	})
	if err != nil {
		return err
	}
	return refused
}

// keepDraining keeps the operator's wish on disk: a drained node that restarts
// stays drained.
func (r *reconciler) keepDraining() {
	if err := r.saveDraining(r.draining); err != nil {
		r.logger.Error("drain state could not be kept on disk: a restart would forget it", "draining", r.draining, "error", err)
	}
}

// awaitQuiet returns when no connection has been accepted for a while.
func (r *reconciler) awaitQuiet(ctx context.Context) {
	ticker := time.NewTicker(convergePoll)
	defer ticker.Stop()
	start := time.Now()
	last, lastCount := start, accepted(r.proxy.Status())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if n := accepted(r.proxy.Status()); n != lastCount {
				last, lastCount = now, n
			}
			waited := now.Sub(start)
			if waited >= convergeMax || waited >= convergeMin && now.Sub(last) >= convergeQuiet {
				return
			}
		}
	}
}

func accepted(s proxy.Status) uint64 {
	var n uint64
	for _, l := range s.Listeners {
		n += l.Accepted
	}
	return n
}

// equalState compares by value, the MEDs behind their pointers included.
func equalState(a, b bgp.State) bool {
	return reflect.DeepEqual(a, b)
}
