package shed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// invariants are those of the state word, at any moment of any interleaving.
func invariants(g *Gate) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.state.Load()
	switch {
	case g.head != nil && room(s):
		return fmt.Errorf("%d wait while %d of %d slots are taken", g.waiting.Load(), taken(s), limit(s))
	case (g.head != nil) != (s&waitingBit != 0):
		return fmt.Errorf("%d wait, the state word says %x", g.waiting.Load(), s)
	}
	return nil
}

// Two owners and one slot: if one is released while the other is about to wait
// for it, and nobody notices, both wait for ever.
func TestGateNoticesAReleaseWhileSomebodyBeginsToWait(t *testing.T) {
	const deadline = time.Minute
	g := NewGate(1, 2, time.Hour)
	lost, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var waited atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			turn := make(chan struct{}, 1)
			w := &Waiter{Wake: func() { turn <- struct{}{} }}
			for range 300_000 {
				if g.Admit(w, 0) == Queued {
					waited.Add(1)
					select {
					case <-turn:
						w.Claim()
					case <-lost.Done():
						t.Errorf("nobody woke a waiter within %v: %d in flight, %d waiting", deadline, g.InFlight(), g.Waiting())
						return
					}
				}
				wake(g.Release(0))
			}
		})
	}
	wg.Wait()
	if err := invariants(g); err != nil {
		t.Error(err)
	}
	t.Logf("%d waited", waited.Load())
}

// Many owners admit, wait, cancel and release while the limit is moved about.
// Whoever waits without canceling must be woken, no more may be inside than the
// highest limit, and all slots come back. A lost wake-up leaves a waiter that
// nobody wakes any more: the test then ends by its deadline.
func TestGateLosesNobodyUnderStress(t *testing.T) {
	const (
		owners   = 16
		rounds   = 3000
		maxLimit = 6
		deadline = time.Minute
	)
	g := NewGate(3, owners, time.Hour)
	var inside, most, admitted, waited, canceled, late atomic.Int64
	enter := func() {
		admitted.Add(1)
		n := inside.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
	}
	leave := func() {
		inside.Add(-1)
		wake(g.Release(0))
	}
	lost, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	stop := make(chan struct{})
	var wg, tuner sync.WaitGroup
	tuner.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		var buffer []*Waiter
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := invariants(g); err != nil {
				t.Error(err)
				return
			}
			// Never 0, which would be no limit.
			buffer = g.SetLimit(1+r.IntN(maxLimit), 0, buffer[:0])
			wake(buffer...)
			runtime.Gosched()
		}
	})
	for i := range owners {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(i)))
			turn := make(chan struct{}, 1)
			w := &Waiter{Wake: func() {
				select {
				case turn <- struct{}{}:
				default:
				}
			}}
			for range rounds {
				switch v := g.Admit(w, 0); v {
				case Admitted:
					enter()
				case Queued:
					waited.Add(1)
					if r.IntN(2) == 0 {
						for range r.IntN(4) {
							runtime.Gosched()
						}
						if g.Cancel(w, 0) != Admitted {
							canceled.Add(1)
							continue
						}
						late.Add(1)
						enter()
						break
					}
					for !w.Claim() { // a wake may be from the round before
						select {
						case <-turn:
						case <-lost.Done():
							t.Errorf("nobody woke a waiter within %v: %d in flight, %d waiting, limit %d", deadline, g.InFlight(), g.Waiting(), g.Limit())
							return
						}
					}
					enter()
				default:
					t.Errorf("Admit = %v with room in the queue for all", v)
					return
				}
				for range r.IntN(3) {
					runtime.Gosched()
				}
				leave()
			}
		})
	}
	wg.Wait()
	close(stop)
	tuner.Wait()
	if n := most.Load(); n > maxLimit {
		t.Errorf("%d were inside at one time, the limit was at most %d", n, maxLimit)
	}
	if g.InFlight() != 0 || g.Waiting() != 0 {
		t.Errorf("in the end %d in flight, %d waiting, want none", g.InFlight(), g.Waiting())
	}
	if waited.Load() == 0 || canceled.Load() == 0 {
		t.Error("nobody waited, or nobody canceled: nothing was tested")
	}
	t.Logf("%d admitted, %d waited, %d canceled, %d admitted while canceling; at most %d inside",
		admitted.Load(), waited.Load(), canceled.Load(), late.Load(), most.Load())
}

// The same with time passing: owners whose timers fire while the gate takes
// them out for their age, admits them, or still has them in its queue.
func TestGateLosesNobodyWhenWaitersGrowOld(t *testing.T) {
	const (
		owners  = 8
		rounds  = 3000
		timeout = 5
	)
	g := NewGate(2, owners, timeout)
	var clock, admitted, timeouts atomic.Int64
	now := func() time.Duration { return time.Duration(clock.Load()) }
	var wg sync.WaitGroup
	for range owners {
		wg.Go(func() {
			w := &Waiter{Wake: func() {}}
			for range rounds {
				began := now()
				v := g.Admit(w, began)
				for v == Queued {
					clock.Add(1)
					runtime.Gosched()
					switch at := now(); {
					case w.Claim():
						v = Admitted
					case at-began >= timeout:
						v = g.Cancel(w, at)
					}
				}
				switch v {
				case Admitted:
					admitted.Add(1)
					clock.Add(1)
					runtime.Gosched()
					wake(g.Release(now()))
				case QueueTimeout:
					timeouts.Add(1)
				default:
					t.Errorf("a waiter ended as %v, want admitted or queue_timeout", v)
					return
				}
			}
		})
	}
	wg.Wait()
	if g.InFlight() != 0 || g.Waiting() != 0 {
		t.Errorf("in the end %d in flight, %d waiting, want none", g.InFlight(), g.Waiting())
	}
	if n := g.Refused(QueueTimeout); int64(n) != timeouts.Load() || n == 0 || admitted.Load() == 0 {
		t.Errorf("%d timeouts were counted, %d seen, %d admitted; want the same, and some of both", n, timeouts.Load(), admitted.Load())
	}
	t.Logf("%d admitted, %d timed out", admitted.Load(), timeouts.Load())
}
