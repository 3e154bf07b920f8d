package drill

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pharos-lb/pharos/lab/drill/fib"
	"github.com/pharos-lb/pharos/lab/drill/oracle"
	"github.com/pharos-lb/pharos/lab/traffic"
)

// watcher follows the router's next hops for one prefix while a drill runs.
type watcher struct {
	site   Site
	prefix netip.Prefix
	log    *slog.Logger
	offset time.Duration // of the router's clock from ours

	mu      sync.Mutex
	table   fib.Table
	changes []fib.Change
	err     error         // the monitor ended
	news    chan struct{} // closed and made anew on each change, and when the monitor ends
}

func newWatcher(site Site, log *slog.Logger) *watcher {
	vip := site.Target().Addr().Unmap()
	prefix := netip.PrefixFrom(vip, vip.BitLen())
	return &watcher{site: site, prefix: prefix, log: log, table: fib.Table{Prefix: prefix}, news: make(chan struct{})}
}

// start reads the present next hops and follows them until ctx ends; then
// wait returns. The monitor is started first, so that no change falls between.
func (w *watcher) start(ctx context.Context) (wait func(), err error) {
	if !w.site.OneClock() {
		if w.offset, err = clockOffset(ctx, w.site); err != nil {
			return nil, err
		}
	}
	// ip stamps its lines without a zone, and when it gets to read them: nice
	// lets it do so at once on a busy machine, and is harmless where refused.
	cmd := w.site.Router(ctx, "env", "TZ=UTC", "nice", "-n", "-10", "ip", "-ts", "-o", "monitor", "route")
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("watch the router's routes: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch the router's routes: %s: %w", strings.Join(cmd.Args, " "), err)
	}
	if w.site.OneClock() { // so it runs here
		traffic.RunAhead(cmd.Process.Pid)
	}
	initial, err := w.show(ctx)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: its error says only that
		return nil, err
	}
	w.mu.Lock()
	for _, e := range initial {
		w.table.Apply(e)
	}
	w.changes = []fib.Change{{At: time.Now(), Hops: w.table.Hops()}}
	w.mu.Unlock()

	done := make(chan struct{})
	go func() {
		defer close(done)
		// A child of the command that outlives it must not hold us up.
		defer context.AfterFunc(ctx, func() { _ = out.Close() })()
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			w.take(lines.Text())
		}
		err := cmd.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = fmt.Errorf("the watch of the router's routes ended: %s: %w: %s", strings.Join(cmd.Args, " "), errors.Join(err, lines.Err()), bytes.TrimSpace(stderr.Bytes()))
		w.wake()
	}()
	return func() { <-done }, nil
}

// take applies one line of the monitor.
func (w *watcher) take(line string) {
	e, err := fib.ParseMonitor(line, time.UTC)
	if err != nil {
		// Lines of other kinds of route are of no concern; what is missed of
		// ours shows in the comparison at the end.
		w.log.Debug("a line of the route monitor was not understood", "line", line, "err", err)
		return
	}
	e.At = e.At.Add(-w.offset)
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, changed := w.table.Apply(e); changed {
		w.changes = append(w.changes, c)
		w.wake()
	}
}

// wake tells those in await to look again; the caller holds mu.
func (w *watcher) wake() {
	close(w.news)
	w.news = make(chan struct{})
}

// show asks the router for its routes now.
func (w *watcher) show(ctx context.Context) ([]fib.Event, error) {
	family := "-4"
	if w.prefix.Addr().Is6() {
		family = "-6"
	}
	cmd := w.site.Router(ctx, "ip", family, "-j", "route", "show", w.prefix.String())
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask the router for its routes to %s: %s: %w: %s", w.prefix, strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	events, err := fib.ParseRoutes(out, time.Now())
	if err != nil {
		return nil, fmt.Errorf("ask the router for its routes to %s: %w", w.prefix, err)
	}
	return events, nil
}

// hops gives the present next hops as names where known.
func (w *watcher) hops() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names(w.table.Hops())
}

func (w *watcher) names(hops []fib.NextHop) []string {
	known := w.site.NodeNames()
	names := make([]string, 0, len(hops))
	for _, h := range hops {
		name, ok := known[h.Gateway.WithZone("").String()]
		if !ok {
			name = h.String()
		}
		names = append(names, name)
	}
	return names
}

// await returns once the node is among the next hops, or is not, as asked.
func (w *watcher) await(ctx context.Context, node string, present bool) error {
	for {
		w.mu.Lock()
		names, news, ended := w.names(w.table.Hops()), w.news, w.err
		w.mu.Unlock()
		// FRR changes an IPv6 route by deleting it first: wait for the new one.
		if len(names) > 0 && slices.Contains(names, node) == present {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-news:
		case <-ctx.Done():
			verb := "drop"
			if present {
				verb = "take back"
			}
			return fmt.Errorf("waited for the router to %s %s (it has %s): %w", verb, node, strings.Join(names, ", "), context.Cause(ctx))
		}
	}
}

// lastWithout is right after the router last came to be without the node.
func (w *watcher) lastWithout(node string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var at time.Time
	had := false
	for _, c := range w.changes {
		has := slices.Contains(w.names(c.Hops), node)
		if had && !has && len(c.Hops) > 0 {
			at = c.At.Add(time.Nanosecond)
		}
		had = has || had && len(c.Hops) == 0
	}
	return at
}

// finish compares the record with the router's table, before the monitor is
// ended, and gives the record and what is doubtful about it.
func (w *watcher) finish(ctx context.Context) ([]fib.Change, []oracle.Reason) {
	events, err := w.show(ctx)
	final := fib.Table{Prefix: w.prefix}
	for _, e := range events {
		final.Apply(e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	doubt := func(message string) []oracle.Reason {
		return []oracle.Reason{{Code: oracle.RouterMismatch, Message: message}}
	}
	switch {
	case err != nil:
		return w.changes, doubt(err.Error())
	case w.err != nil:
		return w.changes, doubt(w.err.Error())
	case !slices.Equal(final.Hops(), w.table.Hops()):
		return w.changes, doubt(fmt.Sprintf("the router has %v, its record leads to %v: a change went unrecorded", final.Hops(), w.table.Hops()))
	}
	return w.changes, nil
}

// clockOffset measures how far the router's clock is ahead of ours, by the
// quickest of a few questions.
func clockOffset(ctx context.Context, site Site) (time.Duration, error) {
	var best, offset time.Duration
	for range 5 {
		cmd := site.Router(ctx, "date", "+%s%N")
		before := time.Now()
		out, err := cmd.Output()
		took := time.Since(before)
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
			}
			return 0, fmt.Errorf("ask the router for the time: %s: %w", strings.Join(cmd.Args, " "), err)
		}
		there, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("ask the router for the time: %w", err)
		}
		if best == 0 || took < best {
			best, offset = took, time.Unix(0, there).Sub(before.Add(took/2))
		}
	}
	return offset, nil
}
