package check

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Schedule says when a server is checked.
type Schedule struct {
	Interval time.Duration // from the start of one check to the start of the next, with a jitter of ±10 %
	Timeout  time.Duration // of one check; at most Interval is useful
	Spread   time.Duration // the first check starts within this time; so a node is ready early and its checks don't burst
}

// Result is the outcome of one check.
type Result struct {
	OK     bool
	Reason string // "ok", or why not
	At     time.Time
}

// Run checks server until ctx ends, and hands each result to report. It
// returns after its last probe has returned. A result that ctx's end brought
// about is not reported.
func Run(ctx context.Context, server netip.AddrPort, s Schedule, probe Probe, report func(Result)) {
	timer := time.NewTimer(random(s.Spread))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		started := time.Now()
		err := once(ctx, server, s.Timeout, probe)
		if ctx.Err() != nil {
			return
		}
		r := Result{OK: err == nil, Reason: "ok", At: time.Now()}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			r.Reason = "timeout"
		case err != nil:
			r.Reason = err.Error()
		}
		report(r)
		next := s.Interval - s.Interval/10 + random(s.Interval/5)
		timer.Reset(max(next-time.Since(started), 0))
	}
}

func once(ctx context.Context, server netip.AddrPort, timeout time.Duration, probe Probe) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return probe(ctx, server)
}

func random(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
