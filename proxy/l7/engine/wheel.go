package engine

import "time"

// Tick is the resolution of a Wheel.
const Tick = 16 * time.Millisecond

const wheelSlots = 1024 // 16 s for a turn; longer timers wait for several

// Wheel is a hashed timer wheel (Varghese and Lauck, 1987): arming and
// disarming take constant time whatever the number of timers. Engines embed
// it; it knows no clock.
type Wheel struct {
	slots [wheelSlots]Timer // heads of circular lists
	now   int64             // ticks that were run
	count int
}

// NewWheel returns a wheel whose time is 0.
func NewWheel() *Wheel {
	w := &Wheel{}
	for i := range w.slots {
		s := &w.slots[i]
		s.prev, s.next = s, s
	}
	return w
}

// Arm makes t fire when Advance passes now+d.
func (w *Wheel) Arm(t *Timer, now, d time.Duration) {
	w.Disarm(t)
	t.at = now + max(d, 0)
	// Rounded up, and never into a slot that was run: not too early, and not
	// a turn late.
	tick := max(int64((t.at+Tick-1)/Tick), w.now+1)
	head := &w.slots[tick%wheelSlots]
	t.prev, t.next = head.prev, head
	head.prev.next = t
	head.prev = t
	w.count++
}

// Disarm takes t out.
func (w *Wheel) Disarm(t *Timer) {
	if t.next == nil {
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.prev, t.next = nil, nil
	w.count--
}

// Advance fires what is due at now. Fire may arm and disarm any timer.
func (w *Wheel) Advance(now time.Duration) {
	target := int64(now / Tick)
	if target-w.now > wheelSlots {
		// A turn and more at once: each slot is to be looked at once.
		w.now = target - wheelSlots
	}
	for w.now < target {
		w.now++
		head := &w.slots[w.now%wheelSlots]
		// Taken out as a whole: what Fire arms into this slot is for a later
		// turn, and what it disarms must not be fired.
		var due Timer
		due.prev, due.next = &due, &due
		for t := head.next; t != head; {
			next := t.next
			if t.at <= now {
				t.prev.next, t.next.prev = t.next, t.prev
				t.prev, t.next = due.prev, &due
				due.prev.next = t
				due.prev = t
			}
			t = next
		}
		for due.next != &due {
			t := due.next
			w.Disarm(t)
			t.Fire()
		}
	}
}

// Next is how long Advance has nothing to do, at most a full turn; false when
// no timer is armed.
func (w *Wheel) Next(now time.Duration) (time.Duration, bool) {
	if w.count == 0 {
		return 0, false
	}
	for i := int64(1); i < wheelSlots; i++ {
		head := &w.slots[(w.now+i)%wheelSlots]
		if head.next != head {
			return max(time.Duration(w.now+i)*Tick-now, 0), true
		}
	}
	// From the tick that was run last, not from now, which may be within the
	// next one: a timer of just a turn is due then.
	return max(time.Duration(w.now+wheelSlots)*Tick-now, 0), true
}
