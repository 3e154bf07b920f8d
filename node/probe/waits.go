package probe

import (
	"sync"
	"time"
)

// waitsKept bounds how far back waits reaches, in beats.
const waitsKept = 20

// waits is how long the event loops have waited for a processor, lately. A loop
// that hangs does not wait for one; a loop of a machine that has more to do than
// it can waits, and will answer.
type waits struct {
	read func(into []time.Duration) []time.Duration // nil: nothing is known

	mu   sync.Mutex
	kept []reading // the oldest first
}

type reading struct {
	at    time.Time
	loops []time.Duration
}

// note takes a reading.
func (w *waits) note() {
	if w.read == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var loops []time.Duration
	if len(w.kept) == waitsKept {
		loops = w.kept[0].loops[:0]
		w.kept = append(w.kept[:0], w.kept[1:]...)
	}
	w.kept = append(w.kept, reading{time.Now(), w.read(loops)})
}

// since is how long the loop that waited longest has waited since then; 0 where
// that is not known.
func (w *waits) since(then time.Time) (longest time.Duration) {
	if w.read == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// The reading of before then, or the oldest one.
	i := len(w.kept) - 1
	for i > 0 && w.kept[i].at.After(then) {
		i--
	}
	if i < 0 {
		return 0
	}
	before := w.kept[i].loops
	for n, now := range w.read(nil) {
		if n < len(before) {
			longest = max(longest, now-before[n])
		}
	}
	return longest
}
