package check

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// DefaultInFlight is how many checks a [Runner] runs at one time unless told
// otherwise. 10,000 servers checked every 2 s need 5000 checks a second: at 1
// ms each that is 5 in flight; what fills the bound is servers that let their
// checks time out.
const DefaultInFlight = 1000

// Runner runs checks, a bounded number at one time. A server costs it a timer
// while it waits for its next check, and a goroutine while it is checked: no
// more than one check of a task is in flight.
type Runner struct {
	slots chan struct{}
	// down has half of the slots: servers that let their checks time out must
	// not keep those of the healthy ones waiting.
	down  chan struct{}
	group sync.WaitGroup // one for each task that has not ended
}

// NewRunner returns a Runner that runs inFlight checks at one time; below 2,
// DefaultInFlight. It starts nothing.
func NewRunner(inFlight int) *Runner {
	if inFlight < 2 {
		inFlight = DefaultInFlight
	}
	return &Runner{slots: make(chan struct{}, inFlight), down: make(chan struct{}, inFlight/2)}
}

// Task is the check of one server.
type Task struct {
	Server  netip.AddrPort
	Probe   Probe
	Timeout time.Duration // of one check
	First   time.Duration // until the first check
	// Report takes each result, one after the other, and says when the next
	// check begins.
	Report func(Result) Next
}

// Next says when a server is checked again.
type Next struct {
	Wait time.Duration // from the start of the last check to the start of the next
	Down bool          // the server is down: its checks must not crowd out others'
}

// Result is the outcome of one check.
type Result struct {
	OK     bool
	Reason string    // "ok", or why not
	At     time.Time // when it ended
}

// Running is a task that runs until Stop.
type Running struct {
	runner *Runner
	task   Task

	mu      sync.Mutex
	timer   *time.Timer
	cancel  context.CancelFunc // of the check in flight; else nil
	stopped bool
	down    bool // as the last report said
}

// Start runs a task until it is stopped.
func (r *Runner) Start(t Task) *Running {
	c := &Running{runner: r, task: t}
	r.group.Add(1)
	c.mu.Lock() // the timer may be faster than its assignment
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(t.First, c.check)
	return c
}

// Stop ends the task, and the check in flight with it; its result is not
// reported. It does not wait: a report that has begun may still be under way.
func (c *Running) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.stopped = true
	if c.cancel != nil {
		c.cancel()
	}
	if c.timer.Stop() {
		c.runner.group.Done() // else check ends it
	}
}

// Wait waits until all tasks, which were stopped before, have ended.
func (r *Runner) Wait() { r.group.Wait() }

// check runs once, and sets the timer for the next time.
func (c *Running) check() {
	c.mu.Lock()
	down := c.down
	c.mu.Unlock()
	if down {
		c.runner.down <- struct{}{}
	}
	c.runner.slots <- struct{}{}
	started := time.Now()
	result, ended := c.once()
	<-c.runner.slots
	if down {
		<-c.runner.down
	}
	if !ended {
		c.runner.group.Done()
		return
	}
	next := c.task.Report(result)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		c.runner.group.Done()
		return
	}
	c.down = next.Down
	c.timer.Reset(max(next.Wait-time.Since(started), 0))
}

// once makes one check; ended is false if the task was stopped.
func (c *Running) once() (r Result, ended bool) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return r, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.task.Timeout)
	c.cancel = cancel
	c.mu.Unlock()
	err := c.task.Probe(ctx, c.task.Server)
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	cancel()
	c.cancel = nil
	if c.stopped {
		return r, false
	}
	switch {
	case err == nil:
		return Result{OK: true, Reason: "ok", At: at}, true
	case errors.Is(err, context.DeadlineExceeded):
		return Result{Reason: "timeout", At: at}, true
	}
	return Result{Reason: err.Error(), At: at}, true
}
