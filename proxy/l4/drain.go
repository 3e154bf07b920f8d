package l4

import (
	"context"
	"time"
)

// Open is the number of connections being served.
func (f *Forwarder) Open() int { return int(f.open.Load()) }

// OpenSince is the number of open connections that began before a time. It
// must not be called on a loop.
func (f *Forwarder) OpenSince(before time.Time) int {
	_, older := f.visit(func(w *crew) (all, older int) { return w.count(before) })
	return older
}

// Drain waits until all connections have ended or ctx ends, cuts the rest by
// reset, and returns how many it cut: all of them, and those that began before
// a given time. Acceptors must be stopped before. It must not be called on a
// loop.
func (f *Forwarder) Drain(ctx context.Context, since time.Time) (cut, older int) {
	// Connections may be on their way from one loop to another.
	f.visit(func(*crew) (int, int) { return 0, 0 })
	for f.open.Load() > 0 {
		select {
		case <-f.empty:
			continue
		case <-ctx.Done():
		}
		return f.visit(func(w *crew) (cut, older int) {
			cut, older = w.count(since)
			for len(w.relays) > 0 {
				w.relays[len(w.relays)-1].cut(cutOff)
			}
			w.flush()
			return cut, older
		})
	}
	f.visit(func(w *crew) (int, int) { w.flush(); return 0, 0 })
	return 0, 0
}

func (w *crew) count(before time.Time) (all, older int) {
	for _, r := range w.relays {
		if r.began.Before(before) {
			older++
		}
	}
	return len(w.relays), older
}

// visit calls look on every loop that has not ended, and adds up the answers.
func (f *Forwarder) visit(look func(*crew) (int, int)) (a, b int) {
	type answer struct{ a, b int }
	answers := make(chan answer, len(f.crews))
	waiting := 0
	for loop, w := range f.crews {
		if loop.Post(func() {
			a, b := look(w)
			answers <- answer{a, b}
		}) {
			waiting++
		}
	}
	for range waiting {
		n := <-answers
		a, b = a+n.a, b+n.b
	}
	return a, b
}
