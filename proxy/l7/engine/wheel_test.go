package engine

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is armed, moved and disarmed: each timer fires once, not before
// its time, and at the latest a tick after.
func TestWheelFiresOnTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWheel()
		var now time.Duration
		type timed struct {
			t     Timer
			due   time.Duration
			armed bool
		}
		timers := make([]*timed, 8)
		for i := range timers {
			x := &timed{}
			x.t.Fire = func() {
				if !x.armed {
					t.Fatalf("timer %d fired unarmed, or twice", i)
				}
				if now < x.due || now > x.due+Tick+time.Second {
					t.Fatalf("timer %d due at %v fired at %v", i, x.due, now)
				}
				x.armed = false
			}
			timers[i] = x
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			x := timers[rapid.IntRange(0, 7).Draw(t, "timer")]
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				d := time.Duration(rapid.IntRange(0, 40000).Draw(t, "ms")) * time.Millisecond
				w.Arm(&x.t, now, d)
				x.due, x.armed = now+d, true
			case 2:
				w.Disarm(&x.t)
				x.armed = false
			}
			step := time.Duration(rapid.IntRange(0, 1000).Draw(t, "pass")) * time.Millisecond
			if next, ok := w.Next(now); ok {
				for i, y := range timers {
					if y.armed && y.due > now && now+next > y.due+Tick {
						t.Fatalf("Next says %v at %v, timer %d is due at %v", next, now, i, y.due)
					}
				}
			}
			now += step
			w.Advance(now)
			for i, y := range timers {
				if y.armed && y.due+Tick < now {
					t.Fatalf("timer %d was due at %v and has not fired at %v", i, y.due, now)
				}
				if y.armed != y.t.Armed() {
					t.Fatalf("timer %d: armed %v, says %v", i, y.armed, y.t.Armed())
				}
			}
		}
	})
}

func TestWheelJumpsOverALongPause(t *testing.T) {
	w := NewWheel()
	fired := 0
	var a, b Timer
	a.Fire = func() { fired++; w.Arm(&b, time.Hour, time.Second) }
	b.Fire = func() { fired++ }
	w.Arm(&a, 0, 20*time.Minute)
	w.Advance(time.Hour)
	if fired != 1 {
		t.Fatalf("%d timers fired after an hour, want 1", fired)
	}
	w.Advance(time.Hour + 2*time.Second)
	if fired != 2 {
		t.Errorf("%d timers fired, want 2", fired)
	}
	if _, ok := w.Next(2 * time.Hour); ok {
		t.Error("Next announces a timer, none is armed")
	}
}

// A timer of a turn stands in the slot that was run last, where Next did not
// look, and counted the turn from now: up to a tick too late.
func TestWheelDoesNotSleepOverATimerOfOneTurn(t *testing.T) {
	w := NewWheel()
	now := 8946 * time.Millisecond
	w.Advance(now)
	timer := &Timer{Fire: func() {}}
	w.Arm(timer, now, 25313*time.Millisecond-now)
	if d, _ := w.Next(now); now+d > 25328*time.Millisecond {
		t.Errorf("Next says %v at %v, the timer's tick is at 25.328s", d, now)
	}
}
