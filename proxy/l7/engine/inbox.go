package engine

import (
	"sync"
	"sync/atomic"
)

// Inbox is what other goroutines post to a loop. All but Post is the loop's.
type Inbox struct {
	// Wake makes a loop that sleeps go on. It is called by whoever posts, and
	// never after End. Set it before the first Post.
	Wake func()

	asleep  atomic.Bool // a post must wake
	waiting atomic.Bool // something was posted

	mu     sync.Mutex
	posted []func()
	ended  bool
}

// Post has f run on the loop, soon; false when the loop has ended.
func (b *Inbox) Post(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return false
	}
	b.posted = append(b.posted, f)
	b.waiting.Store(true)
	if b.asleep.Swap(false) {
		b.Wake() // under the lock: End may be followed by closing what wakes
	}
	return true
}

// Sleep is called before the loop waits, and reports whether it must not, since
// something was posted. What is posted from then on wakes it, until Awake.
func (b *Inbox) Sleep() (stay bool) {
	b.asleep.Store(true)
	return b.waiting.Load()
}

// Awake is called when the wait is over.
func (b *Inbox) Awake() { b.asleep.Store(false) }

// Run runs what was posted; what is posted meanwhile waits for the next call.
func (b *Inbox) Run() {
	if !b.waiting.Load() {
		return
	}
	b.mu.Lock()
	posted := b.posted
	b.posted = nil
	b.waiting.Store(false)
	b.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// End takes nothing more, and runs what was posted before: whoever posted it
// waits for it.
func (b *Inbox) End() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.Run()
}
