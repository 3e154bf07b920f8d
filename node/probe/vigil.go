package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"syscall"
	"time"
)

const (
	// beatEvery is how often the event loops are asked for an answer, beatLimit
	// how long they may owe it.
	beatEvery = 100 * time.Millisecond
	beatLimit = time.Second
	// lookEvery is how often the disk and the descriptors are looked at.
	lookEvery = time.Second
	// patience is how long an unanswered probe is waited for before another
	// connection is made: a loop that hangs is not to find hundreds of dead ones
	// in its queue, which it could not tell from clients.
	patience = 5 * time.Second
	// overslept is how late the end of a probe's time may be noticed at most:
	// beyond, this process did not get the processor, and cannot tell.
	overslept = 50 * time.Millisecond
	// starved is the share of its time in which a thread of this process waited for
	// a processor, from which on nobody is to blame for being late, for
	// starvedLimit: whoever gets no answer for that long is not served.
	starved      = 0.3
	starvedLimit = time.Second
)

// Config is what a vigil looks after.
type Config struct {
	Door    Door
	Answers Answers
	// Beat asks the event loops for an answer, and tells how long the slowest has
	// owed its; nil: there are none.
	Beat func() time.Duration
	// Dir is a directory on the disk that the node needs; empty: none.
	Dir    string
	Logger *slog.Logger
}

// Vigil keeps probing. Make one with [New], start it with Run.
type Vigil struct {
	config  Config
	ask     func(context.Context, *asker) error
	changes chan struct{}

	waits waits

	mu      sync.Mutex
	state   State
	targets map[Key]Target
	wake    chan struct{} // the targets have changed, or Pause
	paused  bool
}

// New returns a vigil that looks at nothing until Run.
func New(c Config) *Vigil {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Vigil{config: c, waits: waits{read: readWaits}, ask: func(ctx context.Context, a *asker) error { return a.ask(ctx) }, changes: make(chan struct{}, 1), wake: make(chan struct{}, 1), targets: map[Key]Target{}}
}

// Follow has exactly these probed. What is known of those that stay as they are
// is kept.
func (v *Vigil) Follow(targets []Target) {
	next := make(map[Key]Target, len(targets))
	for _, t := range targets {
		next[t.Key] = t
	}
	v.mu.Lock()
	same := maps.Equal(v.targets, next)
	v.targets = next
	v.mu.Unlock()
	if !same {
		v.rouse()
	}
}

// Pause ends probing, or goes on with it. Meanwhile what was found out stands: it
// is for the time in which another process has the same sockets, and would take
// our probes for clients.
func (v *Vigil) Pause(on bool) {
	v.mu.Lock()
	same := v.paused == on
	v.paused = on
	v.mu.Unlock()
	if !same {
		v.rouse()
	}
}

func (v *Vigil) rouse() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// State is what is known now.
func (v *Vigil) State() State {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.state
	s.Targets = maps.Clone(s.Targets)
	return s
}

// Changes receives a value after what a gate depends on has changed. Changes that
// come before it is received are one.
func (v *Vigil) Changes() <-chan struct{} { return v.changes }

// alter changes the state, and tells of it if it matters.
func (v *Vigil) alter(f func(*State) (matters bool)) {
	v.mu.Lock()
	matters := f(&v.state)
	v.mu.Unlock()
	if !matters {
		return
	}
	select {
	case v.changes <- struct{}{}:
	default:
	}
}

// Run looks after everything until ctx ends, and returns when nothing of it runs
// any more.
func (v *Vigil) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { every(ctx, beatEvery, v.beat) })
	group.Go(func() { every(ctx, lookEvery, v.look) })
	rounds := make(map[Key]round)
	defer func() {
		for _, r := range rounds {
			r.stop()
		}
	}()
	for {
		v.adjust(ctx, &group, rounds)
		select {
		case <-v.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func every(ctx context.Context, d time.Duration, f func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		f()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// round is the probing of one target.
type round struct {
	target Target
	stop   context.CancelFunc
	ended  chan struct{}
}

// adjust makes the rounds those of the targets.
func (v *Vigil) adjust(ctx context.Context, group *sync.WaitGroup, rounds map[Key]round) {
	v.mu.Lock()
	targets, paused := v.targets, v.paused
	v.mu.Unlock()
	for key, r := range rounds {
		if t, ok := targets[key]; paused || !ok || t != r.target {
			r.stop()
			<-r.ended
			delete(rounds, key)
		}
	}
	v.alter(func(s *State) bool {
		next := make(map[Key]Verdict, len(targets))
		for key := range targets {
			next[key] = s.Targets[key]
		}
		s.Targets = next
		return true
	})
	if paused {
		return
	}
	for key, t := range targets {
		if _, ok := rounds[key]; ok {
			continue
		}
		roundCtx, stop := context.WithCancel(ctx)
		r := round{t, stop, make(chan struct{})}
		rounds[key] = r
		group.Go(func() {
			defer close(r.ended)
			v.run(roundCtx, t)
		})
	}
}

// run probes one target until ctx ends.
func (v *Vigil) run(ctx context.Context, t Target) {
	a := newAsker(t, v.config.Door, v.config.Answers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		pace := v.one(ctx, a)
		timer.Reset(max(0, time.Until(began.Add(pace))))
	}
}

// one makes a probe, and returns how long after its beginning the next one is due.
// While it is not answered, what would be the next ones count as failed.
func (v *Vigil) one(ctx context.Context, a *asker) (pace time.Duration) {
	t := a.target
	askCtx, cancel := context.WithTimeout(ctx, max(patience, t.Timeout))
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- v.ask(askCtx, a) }()
	asked := time.Now()
	began, due := asked, asked.Add(t.Timeout)
	timer := time.NewTimer(t.Timeout)
	defer timer.Stop()
	inTime := true
	pace = t.Interval
	for {
		select {
		case err := <-answered:
			if ctx.Err() == nil && inTime {
				// Without a descriptor nothing can be said of the listener.
				pace = v.note(t, Outcome{Err: err, Late: errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)})
			}
			return pace
		case <-timer.C:
			inTime = false
			now := time.Now()
			if ctx.Err() != nil {
				continue
			}
			late := now.Sub(due) > overslept || now.Sub(asked) < starvedLimit && v.waits.starved(began, now)
			pace = v.note(t, Outcome{Err: fmt.Errorf("no answer within %s", t.Timeout), Late: late})
			began, due = now, now.Add(pace)
			timer.Reset(pace)
		}
	}
}

// note takes an outcome in, and returns when the next one is wanted: twice as soon
// while a failure is in doubt. So a listener that hangs has fallen within three
// intervals, the wait for the first probe included, where three failures count,
// and a timeout is no longer than an interval.
func (v *Vigil) note(t Target, o Outcome) (pace time.Duration) {
	pace = t.Interval
	v.alter(func(s *State) bool {
		was, ok := s.Targets[t.Key]
		if !ok {
			return false // nobody asks any more
		}
		is := was.Step(o, t.Fall)
		s.Targets[t.Key] = is
		if is.Doubted() {
			pace /= 2
		}
		if is.Fallen && !was.Fallen {
			v.config.Logger.Error("a listener does not answer the node's own probe", "listener", t.Listener, "address", t.Address, "error", o.Err)
		}
		return is.Proven != was.Proven || is.Fallen != was.Fallen
	})
	return pace
}

// beat looks after the event loops.
func (v *Vigil) beat() {
	v.waits.note()
	if v.config.Beat == nil {
		return
	}
	owed := v.config.Beat()
	if owed < beatLimit {
		owed = 0
	}
	v.alter(func(s *State) bool {
		matters := (owed > 0) != (s.Owed > 0)
		s.Owed = owed
		return matters
	})
}

// look looks after what can be used up.
func (v *Vigil) look() {
	disk, descriptors := DiskFull(v.config.Dir), DescriptorsUsedUp()
	v.alter(func(s *State) bool {
		matters := disk != s.Disk || descriptors != s.Descriptors
		s.Disk, s.Descriptors = disk, descriptors
		return matters
	})
}
