package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var target = Target{
	Key:  Key{"web", netip.MustParseAddrPort("198.51.100.1:80")},
	Kind: HTTP, Interval: 100 * time.Millisecond, Timeout: 100 * time.Millisecond, Fall: 3,
}

// watch runs a vigil on probes that the test answers, until the test ends.
func watch(t *testing.T, c Config, ask func(context.Context, *asker) error) *Vigil {
	v := New(c)
	v.ask = ask
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return v
}

func hang(ctx context.Context, _ *asker) error {
	<-ctx.Done()
	return ctx.Err()
}

// A listener that hangs just after it has passed has fallen three intervals later,
// though no further connection is made than the one that it leaves unanswered.
func TestAListenerThatHangsFallsAfterThreeIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		v := watch(t, Config{}, func(ctx context.Context, a *asker) error {
			if asked.Add(1) == 1 {
				return nil
			}
			return hang(ctx, a)
		})
		v.Follow([]Target{target})
		synctest.Wait()
		if s := v.State().Targets[target.Key]; !s.Proven {
			t.Fatalf("after a pass: %+v", s)
		}
		time.Sleep(3*target.Interval - 1)
		synctest.Wait()
		if s := v.State().Targets[target.Key]; !s.Proven || s.Fallen {
			t.Fatalf("too early: %+v", s)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if s := v.State().Targets[target.Key]; s.Proven || !s.Fallen || s.Why != "no answer within 100ms" {
			t.Fatalf("after three intervals: %+v", s)
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("%d probes were made, want 2", n)
		}
		// Only after patience another connection is tried.
		time.Sleep(patience)
		synctest.Wait()
		if n := asked.Load(); n != 3 {
			t.Errorf("%d probes were made, want 3", n)
		}
	})
}

// A process that waits for a processor is not to blame, for a while; one that does
// not answer though it has one is.
func TestAProcessThatIsStarvedDoesNotFall(t *testing.T) {
	for name, tc := range map[string]struct {
		share     time.Duration // tenths of its time that a thread waits
		fallen    time.Duration // when the listener has fallen, from when it hangs
		notFallen time.Duration // when it has not yet
	}{
		"not starved":      {2, 300 * time.Millisecond, 199 * time.Millisecond},
		"starved for good": {4, 1400 * time.Millisecond, 999 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hanging atomic.Bool
				began := time.Now()
				v := watch(t, Config{}, func(ctx context.Context, a *asker) error {
					if hanging.Load() {
						return hang(ctx, a)
					}
					return nil
				})
				v.waits.mu.Lock()
				v.waits.read = func() map[int]time.Duration {
					return map[int]time.Duration{1: 0, 2: time.Since(began) * tc.share / 10}
				}
				v.waits.kept = nil
				v.waits.mu.Unlock()
				v.Follow([]Target{target})
				time.Sleep(time.Second + target.Interval/2)
				hanging.Store(true)
				time.Sleep(tc.notFallen)
				synctest.Wait()
				if s := v.State().Targets[target.Key]; !s.Proven || s.Fallen {
					t.Fatalf("%s after it began to hang: %+v", tc.notFallen, s)
				}
				time.Sleep(tc.fallen + target.Interval/2 - tc.notFallen)
				synctest.Wait()
				if s := v.State().Targets[target.Key]; s.Proven || !s.Fallen {
					t.Fatalf("%s after it began to hang: %+v", tc.fallen, s)
				}
			})
		})
	}
}

func TestTheWaitsOfThreadsAreRead(t *testing.T) {
	for line, want := range map[string]time.Duration{"1299329 9359631 22\n": 9359631, "": -1, "7": -1, "a b c": -1} {
		if got, ok := parseSchedstat([]byte(line)); ok != (want >= 0) || ok && got != want {
			t.Errorf("schedstat %q: %s, %v; want %s", line, got, ok, want)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if waits := readWaits(); len(waits) < 2 {
		t.Errorf("waits of %d threads: %v", len(waits), waits)
	} else if _, ok := waits[unix.Gettid()]; !ok {
		t.Errorf("this thread is not in %v", waits)
	}
}

func TestProbesComeAtTheirIntervalAndRecoveryIsOnePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		var asked atomic.Int64
		failing.Store(true)
		v := watch(t, Config{}, func(context.Context, *asker) error {
			asked.Add(1)
			if failing.Load() {
				return errors.New("connection refused")
			}
			return nil
		})
		v.Follow([]Target{target})
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if n := asked.Load(); n != 12 {
			t.Errorf("%d probes in a second, want 12: the second and the third come early", n)
		}
		if s := v.State().Targets[target.Key]; !s.Fallen {
			t.Errorf("%+v", s)
		}
		<-v.Changes()
		failing.Store(false)
		<-v.Changes() // the pass tells of itself
		if s := v.State().Targets[target.Key]; !s.Proven || s.Fallen {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatIsPausedOrNotFollowedIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		v := watch(t, Config{}, func(context.Context, *asker) error { asked.Add(1); return nil })
		v.Follow([]Target{target})
		synctest.Wait()
		v.Pause(true)
		synctest.Wait()
		before := asked.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := asked.Load(); n != before {
			t.Errorf("%d probes while paused", n-before)
		}
		if !v.State().Targets[target.Key].Proven {
			t.Error("what was known is forgotten")
		}
		v.Pause(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if asked.Load() == before {
			t.Error("it does not go on")
		}
		v.Follow(nil)
		synctest.Wait()
		if s := v.State(); len(s.Targets) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestALoopThatOwesAnAnswerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var owed atomic.Int64
		v := watch(t, Config{Beat: func() time.Duration { return time.Duration(owed.Load()) }}, nil)
		synctest.Wait()
		owed.Store(int64(beatLimit - 1))
		time.Sleep(2 * beatEvery)
		synctest.Wait()
		if s := v.State(); s.Owed != 0 {
			t.Errorf("owed %s: too early", s.Owed)
		}
		owed.Store(int64(beatLimit))
		time.Sleep(2 * beatEvery)
		synctest.Wait()
		if s := v.State(); s.Owed != beatLimit {
			t.Errorf("owed %s", s.Owed)
		}
		owed.Store(0)
		time.Sleep(2 * beatEvery)
		synctest.Wait()
		if s := v.State(); s.Owed != 0 {
			t.Errorf("still owed %s", s.Owed)
		}
	})
}

// doors remembers which ports are announced.
type doors struct {
	mu   sync.Mutex
	open map[uint16]Kind
	ever int
}

func (d *doors) Expect(k Kind, port uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[port], d.ever = k, d.ever+1
}

func (d *doors) Forget(_ Kind, port uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, port)
}

func (d *doors) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ever
}

func (d *doors) expects(a net.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.open[a.(*net.TCPAddr).AddrPort().Port()]
	return ok
}

// A listener whose process lives, and whose kernel takes connections, but that
// nobody accepts from, is what a probe is for. It is one connection all the time.
func TestAListenerThatNobodyAcceptsFrom(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			ln, err := net.Listen("tcp", address)
			if err != nil {
				t.Skip(err)
			}
			defer func() { _ = ln.Close() }()
			d := &doors{open: map[uint16]Kind{}}
			v := New(Config{Door: d, Answers: Answers{Word: "served\n"}})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = v.Run(ctx) }()
			defer func() { cancel(); <-done }()
			hung := Target{Key: Key{"tcp", ln.Addr().(*net.TCPAddr).AddrPort()}, Kind: Stream, Interval: 20 * time.Millisecond, Timeout: 20 * time.Millisecond, Fall: 3}
			v.Follow([]Target{hung})
			await(t, v, "it has fallen", func(s State) bool { return s.Targets[hung.Key].Fallen })
			if n := d.count(); n != 1 {
				t.Errorf("%d connections wait in the queue", n)
			}
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if !d.expects(c.RemoteAddr()) {
				t.Error("the probe's port was not announced")
			}
			_, _ = fmt.Fprint(c, "served\n")
			_ = c.Close()
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = fmt.Fprint(c, "served\n")
					_ = c.Close()
				}
			}()
			await(t, v, "it is proven", func(s State) bool { return s.Targets[hung.Key].Proven })
		})
	}
}

func TestSomebodyElseOnTheAddressDoesNotPass(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprint(c, "SSH-2.0-OpenSSH\r\n")
			_ = c.Close()
		}
	}()
	d := &doors{open: map[uint16]Kind{}}
	a := newAsker(Target{Key: Key{"tcp", ln.Addr().(*net.TCPAddr).AddrPort()}, Kind: Stream, Timeout: time.Minute}, d, Answers{Word: "served\n"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.ask(ctx); !errors.Is(err, errAnswer) {
		t.Errorf("error %v, want %v", err, errAnswer)
	}
	if len(d.open) != 0 {
		t.Errorf("ports that are announced still: %v", d.open)
	}
}

// await waits for a state.
func await(t *testing.T, v *Vigil, what string, ok func(State) bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !ok(v.State()) {
		select {
		case <-v.Changes():
		case <-limit:
			t.Fatalf("waited in vain: %s: %+v", what, v.State())
		}
	}
}
