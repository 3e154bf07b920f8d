// Package traffic is the client's side of a drill: an open-loop prober that
// opens a new connection at every tick of its schedule, whatever became of
// those before, and connections that are held open with exchanges on them.
// What each saw goes into a record (package record), and is judged elsewhere.
//
// All probes run on one thread with one epoll set: beside three nodes, a
// router and their backends on two cores, a goroutine and an *http.Client for
// each would disturb what is measured.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// Config says what to send, and bounds it.
type Config struct {
	Target   netip.AddrPort // of the HTTP probes, and of Held connections by HTTP
	Interval time.Duration  // between two probes; 100µs to 1m
	Timeout  time.Duration  // of one probe, from when it was sent; 1ms to 1m
	Duration time.Duration  // of the schedule; above 0, at most 24h
	Count    int            // of probes at most; 0: as many as Duration has ticks
	// MaxInFlight bounds the open connections, 1 to 16384: a tick beyond it is
	// recorded as NotSent.
	MaxInFlight  int
	Path         string // of the request, begins with /
	Host         string // the Host header; empty: the target's address
	ExpectStatus int    // 200 to 599: any other status is a wrong answer
	NodeHeader   string // header of the answer that names the carrying node; empty: none
	// RequirePeer makes an answer without a "peer" in its JSON body (and
	// without NodeHeader) a wrong one: some other server answered.
	RequirePeer bool
	Held        []HeldConfig
}

// Validate reports every fault at once, each with its field.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if !c.Target.IsValid() || c.Target.Port() == 0 {
		bad("target", "want an address and a port, such as 198.51.100.1:80")
	}
	if c.Interval < 100*time.Microsecond || c.Interval > time.Minute {
		bad("interval", "%v is not within 100µs to 1m", c.Interval)
	}
	if c.Timeout < time.Millisecond || c.Timeout > time.Minute {
		bad("timeout", "%v is not within 1ms to 1m", c.Timeout)
	}
	if c.Duration <= 0 || c.Duration > 24*time.Hour {
		bad("duration", "%v is not within 0 (exclusive) to 24h: traffic is always bounded", c.Duration)
	}
	if c.Count < 0 {
		bad("count", "%d is negative", c.Count)
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > 16384 {
		bad("max_in_flight", "%d is not within 1 to 16384", c.MaxInFlight)
	}
	if c.ExpectStatus < 200 || c.ExpectStatus > 599 {
		bad("expect_status", "%d is not within 200 to 599", c.ExpectStatus)
	}
	checkText(bad, "path", c.Path, "host", c.Host)
	for i, h := range c.Held {
		h.validate(func(field, format string, args ...any) { bad(fmt.Sprintf("held[%d].%s", i, field), format, args...) })
	}
	return errors.Join(errs...)
}

// checkText refuses what would break the request's head.
func checkText(bad func(field, format string, args ...any), pathField, path, hostField, host string) {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \r\n\t") {
		bad(pathField, "%q: want a path that begins with / and has no blanks", path)
	}
	if strings.ContainsAny(host, " \r\n\t/") {
		bad(hostField, "%q: want a host name or address", host)
	}
}

// Prober sends what its Config says, once.
type Prober struct {
	config Config
	log    *slog.Logger
	clock  clock
}

// New checks the configuration; it sends nothing.
func New(c Config, log *slog.Logger) (*Prober, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("probe configuration: %w", err)
	}
	return &Prober{config: c, log: log}, nil
}

// Run sends until the schedule ends or ctx does, waits for what is in flight
// (Timeout at most), and returns. It calls emit for each line of the record,
// Begin first and End last, never twice at once. An error means that no, or no
// whole, record could be made; that ctx ended is none.
func (p *Prober) Run(ctx context.Context, emit func(record.Line)) error {
	p.clock = newClock()
	var mu sync.Mutex
	write := func(l record.Line) {
		mu.Lock()
		defer mu.Unlock()
		emit(l)
	}
	held := 0
	for _, h := range p.config.Held {
		held += h.Count
	}
	write(record.Line{Begin: &record.Begin{
		Target: p.config.Target.String(), Interval: int64(p.config.Interval), Timeout: int64(p.config.Timeout),
		Started: p.clock.now(), Held: held,
	}})

	// The held connections end with the schedule, not the other way round.
	heldCtx, stopHeld := context.WithCancel(ctx)
	defer stopHeld()
	var group errgroup.Group
	slot := 0
	for _, h := range p.config.Held {
		for range h.Count {
			conn := &heldConn{config: h, target: p.config.Target, nodeHeader: p.config.NodeHeader, slot: slot, clock: p.clock, emit: write}
			slot++
			group.Go(func() error { conn.run(heldCtx); return nil })
		}
	}
	l, err := newLoop(p.config, p.clock, write)
	if err != nil {
		stopHeld()
		_ = group.Wait() // its functions return nil
		return err
	}
	why, err := l.run(ctx)
	stopHeld()
	_ = group.Wait()
	if err != nil {
		return err
	}
	write(record.Line{End: &record.End{Ended: p.clock.now(), Sent: l.next, CPU: cpuTime(), Why: why}})
	p.log.Debug("probing ended", "why", why, "sent", l.next)
	return nil
}

// clock gives wall-clock nanoseconds that no step of the wall clock can
// reorder: those at its making plus the monotonic time since.
type clock struct {
	start time.Time
	wall  int64
}

func newClock() clock {
	start := time.Now()
	return clock{start: start, wall: start.UnixNano()}
}

func (c clock) now() int64 { return c.wall + int64(time.Since(c.start)) }

// cpuTime is what this process has used so far, user and system, in ns.
func cpuTime() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
