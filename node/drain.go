package node

import (
	"context"
	"fmt"
	"time"

	"github.com/pharos-lb/pharos/proxy"
)

// drainPoll is how often a drain looks at what is in flight and what arrives.
const drainPoll = 20 * time.Millisecond

// DrainResult says how a drain went.
type DrainResult struct {
	InFlight  int           // requests, connections and flows when it began
	Lingered  time.Duration // until what was in flight had ended, or half of the time was over
	Shut      time.Duration // announced with worse attributes, until the routers sent nothing new
	Converged time.Duration // from the withdrawal until the routers sent nothing new
	Took      time.Duration // all in all
	Report    proxy.DrainReport
}

// Drain takes the node out of service, in the phases of DrainPhase: at the end of
// ctx it cuts what is still open, and only then removes the addresses. stop says
// that the process is going away: the gates then give that reason, and there is
// no way back.
func (r *reconciler) Drain(ctx context.Context, stop bool) (DrainResult, error) {
	start := time.Now()
	if !r.drainUnderWay.CompareAndSwap(false, true) {
		return DrainResult{}, errDrainUnderWay
	}
	defer r.drainUnderWay.Store(false)
	v := r.View()
	if v.Drained {
		return DrainResult{Took: time.Since(start)}, nil
	}
	// The requests are not bound to ctx: a stop must withdraw even when its
	// time for finishing is over.
	unbound := context.WithoutCancel(ctx)
	result := DrainResult{InFlight: r.proxy.Status().InFlight}
	r.proxy.BeginDrain()
	plan := newDrainPlan(start, deadlineOf(ctx), len(v.announced()) > 0)
	for plan.Phase != DrainClosing {
		next, ended := r.awaitPhase(ctx, plan)
		switch plan.Phase {
		case DrainFinishing:
			result.Lingered = ended
		case DrainShutting:
			result.Shut = ended
		case DrainWithdrawn:
			result.Converged = ended
		}
		plan = next
		if err := r.enter(unbound, plan.Phase, stop); err != nil {
			return DrainResult{}, err
		}
	}
	result.Report = r.proxy.FinishDrain(ctx)
	err := r.do(unbound, func(runCtx context.Context) {
		r.drained, r.leaving = true, false
		if r.running != nil {
			if err := r.serveAgain(runCtx); err != nil {
				r.logger.Error("the configuration could not be applied after the drain", "error", err)
			}
		}
		r.setAddresses(nil)
	})
	result.Took = time.Since(start)
	r.logger.Info("drained", "in_flight", result.InFlight, "lingered", result.Lingered, "shut", result.Shut, "converged", result.Converged,
		"took", result.Took, "finished", result.Report.Finished, "cut", result.Report.Cut)
	return result, err
}

// deadlineOf is when ctx ends; zero: it has no deadline.
func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return deadline
}

// awaitPhase returns when the plan's phase is over, with the next one, and how
// long it was.
func (r *reconciler) awaitPhase(ctx context.Context, plan drainPlan) (drainPlan, time.Duration) {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for {
		now := time.Now()
		next := plan.Step(drainObservation{
			Lingering: r.proxy.Lingering(), Accepted: accepted(r.proxy.Status()), Expired: ctx.Err() != nil,
		}, now)
		if next.Phase != plan.Phase {
			return next, now.Sub(plan.since)
		}
		plan = next
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// enter does what a phase begins with; the step that follows announces it.
func (r *reconciler) enter(ctx context.Context, phase DrainPhase, stop bool) error {
	switch phase {
	case DrainShutting:
		return r.do(ctx, func(context.Context) { r.leaving = true })
	case DrainWithdrawn:
		return r.do(ctx, func(context.Context) {
			if stop {
				r.stopping = true
				return
			}
			r.draining = true
			r.keepDraining()
		})
	}
	return nil
}

// Undrain brings a drained node back: listeners and addresses at once,
// announcements when the gates open.
func (r *reconciler) Undrain(ctx context.Context) error {
	if !r.drainUnderWay.CompareAndSwap(false, true) {
		return errDrainUnderWay
	}
	defer r.drainUnderWay.Store(false)
	var refused error
	err := r.do(ctx, func(runCtx context.Context) {
		switch {
		case r.draining && r.running != nil:
			r.drained = false
			r.setAddresses(vipAddresses(r.running.Snapshot.Config))
			if err := r.serveAgain(runCtx); err != nil {
				r.drained = true
				r.setAddresses(nil)
				refused = fmt.Errorf("open the listeners again: %w", err)
				return
			}
			r.draining, r.leaving = false, false
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

func accepted(s proxy.Status) uint64 {
	var n uint64
	for _, l := range s.Listeners {
		n += l.Accepted
	}
	return n
}
