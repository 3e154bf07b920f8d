package shed

import "time"

// push, remove, admitHead and dropOverdue change the queue under the gate's
// lock; the state word is their caller's to write.

func (g *Gate) push(w *Waiter, now time.Duration) {
	if w.place.Load() != nowhere {
		panic("shed: a waiter was queued that waits already")
	}
	w.since = now
	w.prev, w.next = g.tail, nil
	if g.tail == nil {
		g.head = w
	} else {
		g.tail.next = w
	}
	g.tail = w
	w.place.Store(inQueue)
	g.waiting.Add(1)
}

func (g *Gate) remove(w *Waiter) {
	if w.prev == nil {
		g.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		g.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
	g.waiting.Add(-1)
}

func (g *Gate) admitHead() *Waiter {
	w := g.head
	g.remove(w)
	// Last: from here on the owner may claim the slot, and queue w anew.
	w.place.Store(holding)
	return w
}

// dropOverdue takes out whoever waits for the whole timeout already, and
// reports whether there was anybody. Their owners' timers are about to find
// that out; timers are coarse, and a slot is better given to somebody whose
// client still waits.
func (g *Gate) dropOverdue(now time.Duration) (dropped bool) {
	for w := g.head; w != nil && now-w.since >= g.timeout; w = g.head {
		g.remove(w)
		w.place.Store(overdue)
		dropped = true
	}
	return dropped
}

// drain measures the pace at which a queue moves. Guarded by the gate's lock.
type drain struct {
	began time.Duration // of the present measurement
	moved int           // waiters admitted since
	each  time.Duration // between two, as measured last; 0: not yet
}

// drainWindow is how long one measurement lasts at least.
const drainWindow = time.Second

// start is called when the queue begins to fill: the time before says nothing
// about its pace.
func (d *drain) start(now time.Duration) {
	if now-d.began >= drainWindow {
		d.began, d.moved = now, 0
	}
}

func (d *drain) admitted(n int, now time.Duration) {
	d.moved += n
	if elapsed := now - d.began; elapsed >= drainWindow && d.moved > 0 {
		d.each = elapsed / time.Duration(d.moved)
		d.began, d.moved = now, 0
	}
}

// Bounds of what a refused client is told.
const maxRetryAfter = 30

func (d *drain) retryAfter(waiting int, now time.Duration) int {
	if waiting == 0 {
		return 1
	}
	// A queue that has come to a halt since the last measurement counts by how
	// long nobody moved.
	each := max(d.each, (now-d.began)/time.Duration(d.moved+1))
	if each > maxRetryAfter*time.Second/time.Duration(waiting+1) {
		return maxRetryAfter
	}
	return RetryAfter(each * time.Duration(waiting+1))
}
