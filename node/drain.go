package node

import (
	"context"
	"fmt"
	"time"

	"github.com/pharos-lb/pharos/proxy"
)

// lingerShare is the part of a drain's time that connections in flight get to
// end by themselves before the withdrawal, which makes the router send their
// packets to another node. lingerPoll is how often they are counted.
const (
	lingerShare = 2
	lingerPoll  = 20 * time.Millisecond
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
	Lingered  time.Duration // until what was in flight had ended, or half of the time was over
	Converged time.Duration // from the withdrawal until the routers sent nothing new
	Took      time.Duration // all in all
	Report    proxy.DrainReport
}

// Drain tells clients to go, lets what is in flight end (for half of the time
// that ctx leaves, since the withdrawal cuts what is still open when the
// router spreads flows anew), withdraws the VIPs, waits until the routers have
// converged, closes the listeners, finishes or at the end of ctx cuts the
// rest, and only then removes the addresses. stop says that the process is
// going away: the gates then give that reason, and there is no way back.
func (r *reconciler) Drain(ctx context.Context, stop bool) (DrainResult, error) {
	start := time.Now()
	if !r.drainUnderWay.CompareAndSwap(false, true) {
		return DrainResult{}, errDrainUnderWay
	}
	defer r.drainUnderWay.Store(false)
	if v := r.View(); v.Drained {
		return DrainResult{Took: time.Since(start)}, nil
	}
	r.proxy.BeginDrain()
	r.awaitLingering(ctx, start)
	result := DrainResult{Lingered: time.Since(start)}

	// The requests are not bound to ctx: a stop must withdraw even when its
	// time for finishing is over.
	unbound := context.WithoutCancel(ctx)
	withdrawn := time.Now()
	err := r.do(unbound, func(context.Context) {
		if stop {
			r.stopping = true
			return
		}
		r.draining = true
		r.keepDraining()
	})
	if err != nil {
		return DrainResult{}, err
	}
	// The step that followed has withdrawn: nothing but the routers' own time
	// stands between us and the last new connection.
	r.awaitQuiet(ctx)
	result.Converged = time.Since(withdrawn)
	result.Report = r.proxy.FinishDrain(ctx)
	err = r.do(unbound, func(runCtx context.Context) {
		r.drained = true
		if r.running != nil {
			if err := r.serveAgain(runCtx); err != nil {
				r.logger.Error("the configuration could not be applied after the drain", "error", err)
			}
		}
		r.setAddresses(nil)
	})
	result.Took = time.Since(start)
	r.logger.Info("drained", "lingered", result.Lingered, "converged", result.Converged, "took", result.Took,
		"finished", result.Report.Finished, "cut", result.Report.Cut)
	return result, err
}

// awaitLingering returns when what was in flight at the start has ended, or a
// share of ctx's time is over.
func (r *reconciler) awaitLingering(ctx context.Context, start time.Time) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, start.Add(deadline.Sub(start)/lingerShare))
		defer cancel()
	}
	ticker := time.NewTicker(lingerPoll)
	defer ticker.Stop()
	for r.proxy.Lingering() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
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
