package campaign

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/oracle/holders"
	"github.com/pharos-lb/pharos/lab/fault"
)

// Options say how a campaign is run.
type Options struct {
	Seed     uint64
	Faults   int
	Kinds    []Kind
	Interval time.Duration // between two questions for an address at each node
	// Settle bounds the time from the repair until each VIP has one holder. A
	// process that was started has no voice for 2 s (cluster/lease, MaxTerm).
	Settle time.Duration
}

// DefaultOptions are those of the CLI.
func DefaultOptions() Options {
	return Options{Faults: 200, Kinds: Kinds(), Interval: 5 * time.Millisecond, Settle: 5 * time.Second}
}

// Validate reports every fault at once.
func (o Options) Validate() error {
	var errs []error
	if o.Interval < time.Millisecond || o.Interval > holders.DefaultLimits.Turn/2 {
		errs = append(errs, fmt.Errorf("interval: %v is not within 1ms to %v", o.Interval, holders.DefaultLimits.Turn/2))
	}
	if o.Settle < 100*time.Millisecond || o.Settle > time.Hour {
		errs = append(errs, fmt.Errorf("settle: %v is not within 100ms to 1h", o.Settle))
	}
	return errors.Join(errs...)
}

// lag is how long a frame that was heard may take to get here from the sniffer.
const lag = 200 * time.Millisecond

// Run runs a campaign. Progress is told in words as it comes. An error means
// that it did not come to its end; what was found up to there is in the Result.
func Run(ctx context.Context, site Site, o Options, progress func(string)) (_ Result, err error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	rounds, err := Plan(o.Seed, o.Faults, site.Nodes(), o.Kinds)
	if err != nil {
		return Result{}, err
	}
	restore, err := site.Strict(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("have the VIPs held strictly: %w", err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if e := restore(clean); e != nil {
			err = errors.Join(err, fmt.Errorf("the configuration was NOT put back: %w", e))
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := startSniffer(ctx, site, o.Interval)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		cancel()
		<-s.done
	}()
	c := &campaign{site: site, options: o, sniffer: s, judge: holders.NewJudge(holders.DefaultLimits), progress: progress}
	c.result = Result{Site: site.Name(), Seed: o.Seed, Started: time.Now(), Interval: o.Interval, Settle: o.Settle}
	err = c.run(ctx, rounds)
	return c.result, err
}

// campaign is one under way.
type campaign struct {
	site     Site
	options  Options
	sniffer  *sniffer
	judge    *holders.Judging
	progress func(string)
	result   Result
	round    []holders.Claim // heard since the round began
}

func (c *campaign) run(ctx context.Context, rounds []Round) error {
	begun := time.Now()
	if _, err := c.awaitSettled(ctx, begun, firstSettle); err != nil {
		return err
	}
	if missing := c.unsettled(begun); len(missing) > 0 {
		return fmt.Errorf("%v had not one holder each within %v, before anything was broken", missing, firstSettle)
	}
	for i, r := range rounds {
		if err := c.play(ctx, i, len(rounds), r); err != nil {
			return fmt.Errorf("round %d, %s: %w", i+1, r, err)
		}
	}
	stopping, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	if err := c.sniffer.stop(stopping); err != nil {
		return err
	}
	if err := c.listen(time.Now()); err != nil {
		return err
	}
	end := c.sniffer.end
	c.result.Violations = append(c.result.Violations, c.judge.End(end.At)...)
	c.result.Claims, c.result.Asked, c.result.Lost = end.Claims, end.Asked, end.Lost
	c.result.conclude()
	return nil
}

const (
	firstSettle = 30 * time.Second
	stopLimit   = 10 * time.Second
)

// play breaks, holds, mends, and waits for a holder of each VIP.
func (c *campaign) play(ctx context.Context, i, of int, r Round) error {
	if err := pause(ctx, r.Pause); err != nil {
		return err
	}
	if err := c.listen(time.Now().Add(-lag)); err != nil {
		return err
	}
	// What was heard last before the round is its beginning.
	begin := time.Now()
	before := holdersAt(c.round)
	c.round = nil
	done := RoundResult{What: r.String(), Began: begin}
	if err := c.breakAndMend(ctx, r.Faults, r.Hold); err != nil {
		return err
	}
	done.Mended = time.Now()
	after, err := c.awaitSettled(ctx, done.Mended, c.options.Settle)
	if err != nil {
		return err
	}
	for _, a := range c.site.Addresses() {
		v := VIPResult{Address: a, Before: before[a]}
		if s, ok := after[a]; ok {
			v.After, v.Settled = s.holder, s.at.Sub(done.Mended)
		} else {
			v.Unsettled = true
		}
		v.Silence = holders.Silence(c.round, a, begin, time.Now().Add(-lag))
		v.Changes = changes(c.round, a)
		done.VIPs = append(done.VIPs, v)
	}
	c.result.Rounds = append(c.result.Rounds, done)
	c.result.Faults += len(r.Faults)
	c.progress(fmt.Sprintf("%d/%d %s for %v: %s", i+1, of, done.What, done.Mended.Sub(begin).Round(time.Millisecond), done.words()))
	for _, v := range c.result.Violations[c.result.told:] {
		c.progress("VIOLATION: " + v.String())
	}
	c.result.told = len(c.result.Violations)
	return nil
}

// breakAndMend injects one fault after the other, and mends them in that order,
// whatever becomes of it.
func (c *campaign) breakAndMend(ctx context.Context, faults []Fault, hold time.Duration) error {
	if len(faults) == 0 {
		return pause(ctx, hold)
	}
	injector, err := c.site.Fault(faults[0])
	if err != nil {
		return err
	}
	return fault.With(ctx, injector, func(ctx context.Context, _ fault.Moment, revert fault.Revert) error {
		rest := c.breakAndMend(ctx, faults[1:], hold)
		_, err := revert(ctx)
		return errors.Join(rest, err)
	})
}

// settled is who holds an address, and since when.
type settled struct {
	holder string
	at     time.Time
}

// awaitSettled waits until each address has had one holder for a while, since a
// time; it gives those that have by the limit.
func (c *campaign) awaitSettled(ctx context.Context, since time.Time, limit time.Duration) (map[netip.Addr]settled, error) {
	// The last second counts as well: one who settles late shows only later.
	deadline := since.Add(limit + holders.DefaultQuiet.For + lag)
	for {
		now := time.Now()
		if err := c.listen(now.Add(-lag)); err != nil {
			return nil, err
		}
		found := c.settledSince(since)
		if len(found) == len(c.site.Addresses()) || now.After(deadline) {
			for a, s := range found {
				if s.at.Sub(since) > limit {
					delete(found, a)
				}
			}
			return found, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (c *campaign) settledSince(since time.Time) map[netip.Addr]settled {
	found := map[netip.Addr]settled{}
	for _, a := range c.site.Addresses() {
		if at, holder, ok := holders.Settled(c.round, a, since, holders.DefaultQuiet); ok {
			found[a] = settled{holder, at}
		}
	}
	return found
}

func (c *campaign) unsettled(since time.Time) (missing []netip.Addr) {
	found := c.settledSince(since)
	for _, a := range c.site.Addresses() {
		if _, ok := found[a]; !ok {
			missing = append(missing, a)
		}
	}
	return missing
}

// listen takes what was heard up to a time, and judges it.
func (c *campaign) listen(until time.Time) error {
	claims, err := c.sniffer.heard(until)
	if err != nil {
		return err
	}
	c.round = append(c.round, claims...)
	c.result.Violations = append(c.result.Violations, c.judge.Take(claims)...)
	return nil
}

// holdersAt are those who claimed each address last.
func holdersAt(claims []holders.Claim) map[netip.Addr]string {
	last := map[netip.Addr]string{}
	for _, c := range claims {
		last[c.Address] = c.Holder
	}
	return last
}

// changes is how often an address went from one holder to another.
func changes(claims []holders.Claim, address netip.Addr) int {
	n, holder := 0, ""
	for _, c := range claims {
		if c.Address != address {
			continue
		}
		if holder != "" && c.Holder != holder {
			n++
		}
		holder = c.Holder
	}
	return n
}

// pause lets time pass: the one thing that is awaited by it.
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
