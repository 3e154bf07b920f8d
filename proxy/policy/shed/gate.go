package shed

import (
	"sync"
	"sync/atomic"
	"time"
)

// The state of a Gate is one word, so that whether there is room, and whether
// somebody waits for it, are read and changed together:
//
//	bits 0 to 30   slots that are taken
//	bit  31        somebody waits
//	bits 32 to 62  the limit
//
// Invariants:
//   - While bit 31 is set, the word is written under the lock only; the fast
//     paths, which need no lock, leave it alone.
//   - Bit 31 is set if and only if the queue is not empty (as seen under the
//     lock).
//   - Bit 31 is set only by a compare-and-swap that finds no room, and whoever
//     makes room while it is set gives that room to a waiter: the queue is
//     never non-empty while there is room.
const (
	waitingBit = 1 << 31
	takenMask  = waitingBit - 1
	unlimited  = 1<<31 - 1
)

func taken(s uint64) int { return int(s & takenMask) }
func limit(s uint64) int { return int(s >> 32) }
func room(s uint64) bool { return taken(s) < limit(s) }

func pack(limit, taken int, waiting bool) uint64 {
	s := uint64(limit)<<32 | uint64(taken)
	if waiting {
		s |= waitingBit
	}
	return s
}

// Gate admits requests or connections to a pool: up to a limit at once, and
// lets a bounded number wait for a bounded time, in the order of their coming.
//
// While the limit is not reached and nobody waits, admission and release are
// one compare-and-swap each. On the saturated path they take a lock, which is
// held for a few pointer writes. Every method may be called by any goroutine;
// none blocks for longer than that, or calls anybody back. All times given to
// one Gate must be of one monotonic scale: loops must not each count from their
// own beginning.
type Gate struct {
	state atomic.Uint64
	_     [56]byte // the hot word has a cache line for itself

	mu         sync.Mutex
	head, tail *Waiter
	capacity   int           // waiters at most
	timeout    time.Duration // above 0
	drain      drain

	waiting atomic.Int64 // written under mu
	refused [QueueTimeout + 1]atomic.Uint64
}

// Waiter is one request's place in a queue, meant to be a field of what it
// stands for, so that waiting allocates nothing. It belongs to one goroutine,
// its owner, and is used with one Gate at a time. It must not be copied.
type Waiter struct {
	// Wake tells the owner that its turn has come, by posting to its loop,
	// say. It is set once, before the first Admit, and called by whoever
	// freed the slot: it must not block. It may come late, when the owner has
	// canceled, or even waits again: the owner asks Claim. If the owner can no
	// longer be reached, since its loop has ended, Wake acts for it: it calls
	// Claim, and if that is true releases the slot.
	Wake func()

	next, prev *Waiter       // guarded by the gate's lock
	since      time.Duration // guarded by the gate's lock
	place      atomic.Uint32
}

// The places of a Waiter. Under the gate's lock, and by Claim.
const (
	nowhere uint32 = iota
	inQueue
	holding // admitted; the owner does not know it yet
	overdue // taken out by the gate for its age; the owner's timer is about to fire
)

// Claim reports, once for each admission from the queue, that the waiter holds
// a slot. The owner calls it when it was woken, and goes on only if it is true.
func (w *Waiter) Claim() bool { return w.place.CompareAndSwap(holding, nowhere) }

// NewGate returns a Gate without anybody in it. limit is of slots taken at one
// time, 0: none; queue and timeout as in [Config], after WithDefaults.
func NewGate(limit, queue int, timeout time.Duration) *Gate {
	g := &Gate{capacity: queue, timeout: timeout}
	g.state.Store(pack(orUnlimited(limit), 0, false))
	return g
}

func orUnlimited(n int) int {
	if n <= 0 || n > unlimited {
		return unlimited
	}
	return n
}

// Admit asks for a slot. Admitted: it is taken, and is to be given back by
// Release. Queued: w waits; the owner arms a timer of the queue's timeout, at
// which it calls Cancel, as it does when the client goes away. Others: refused.
// w may be nil for somebody who cannot wait.
func (g *Gate) Admit(w *Waiter, now time.Duration) Verdict {
	for {
		s := g.state.Load()
		if s&waitingBit != 0 || !room(s) {
			return g.admitSaturated(w, now)
		}
		if g.state.CompareAndSwap(s, s+1) {
			return Admitted
		}
	}
}

func (g *Gate) admitSaturated(w *Waiter, now time.Duration) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.head != nil && g.dropOverdue(now) && g.head == nil {
		g.state.Store(g.state.Load() &^ waitingBit)
	}
	for {
		s := g.state.Load()
		switch {
		case g.head == nil && room(s):
			if g.state.CompareAndSwap(s, s+1) {
				return Admitted
			}
			continue
		case w == nil || g.capacity <= 0:
			g.refused[PoolFull].Add(1)
			return PoolFull
		case int(g.waiting.Load()) >= g.capacity:
			g.refused[QueueFull].Add(1)
			return QueueFull
		case g.head == nil && !g.state.CompareAndSwap(s, s|waitingBit):
			continue // a slot may have been freed
		}
		if g.head == nil {
			g.drain.start(now)
		}
		g.push(w, now)
		return Queued
	}
}

// Release gives a slot back. If it was somebody's turn, that waiter is
// returned, admitted already: the caller calls its Wake. It panics if no slot
// is taken, for the count is worthless then.
func (g *Gate) Release(now time.Duration) *Waiter {
	for {
		s := g.state.Load()
		if taken(s) == 0 {
			panic("shed: a slot of the gate was released that nobody held")
		}
		if s&waitingBit != 0 {
			if w, done := g.releaseSaturated(now); done {
				return w
			}
			continue
		}
		if g.state.CompareAndSwap(s, s-1) {
			return nil
		}
	}
}

// releaseSaturated is not done when the queue was empty after all.
func (g *Gate) releaseSaturated(now time.Duration) (w *Waiter, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.head == nil {
		return nil, false
	}
	g.dropOverdue(now)
	s := g.state.Load()
	n := taken(s) - 1
	if g.head != nil && n < limit(s) {
		w = g.admitHead()
		g.drain.admitted(1, now)
		n++
	}
	g.state.Store(pack(limit(s), n, g.head != nil))
	return w, true
}

// Cancel takes w out of the queue: its client has gone, or it waited long
// enough. Admitted: its turn had come meanwhile, and the slot is the caller's,
// to be used or released. QueueTimeout: it waited for the whole timeout.
// Canceled: neither. Only w's owner may call it; a Wake that is still on its
// way finds nothing to Claim.
func (g *Gate) Cancel(w *Waiter, now time.Duration) Verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch w.place.Load() {
	case holding:
		w.place.Store(nowhere)
		return Admitted
	case inQueue:
		g.remove(w)
		w.place.Store(nowhere)
		if g.head == nil {
			g.state.Store(g.state.Load() &^ waitingBit)
		}
		if now-w.since < g.timeout {
			return Canceled
		}
	case overdue:
		w.place.Store(nowhere)
	default:
		return Canceled
	}
	g.refused[QueueTimeout].Add(1)
	return QueueTimeout
}

// SetLimit changes the limit; 0: none. Slots that are taken above a lower one
// are not revoked. The waiters that a higher one lets in are appended to woken
// and returned, admitted already: the caller calls their Wake.
func (g *Gate) SetLimit(n int, now time.Duration, woken []*Waiter) []*Waiter {
	n = orUnlimited(n)
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.head == nil {
		s := g.state.Load()
		if g.state.CompareAndSwap(s, pack(n, taken(s), false)) {
			return woken
		}
	}
	g.dropOverdue(now)
	inside, before := taken(g.state.Load()), len(woken)
	for ; g.head != nil && inside < n; inside++ {
		woken = append(woken, g.admitHead())
	}
	g.drain.admitted(len(woken)-before, now)
	g.state.Store(pack(n, inside, g.head != nil))
	return woken
}

// SetQueue changes how many may wait and for how long. Those who wait already
// are left where they are, and fall under the new timeout.
func (g *Gate) SetQueue(queue int, timeout time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.capacity, g.timeout = queue, timeout
}

// RetryAfter is the number of seconds after which a client that was refused
// may well be admitted: how long the queue takes to drain at its recent pace, 1
// to 30.
func (g *Gate) RetryAfter(now time.Duration) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drain.retryAfter(int(g.waiting.Load()), now)
}

// InFlight is the number of slots taken.
func (g *Gate) InFlight() int { return taken(g.state.Load()) }

// Limit is the present limit; 0: none.
func (g *Gate) Limit() int {
	if n := limit(g.state.Load()); n != unlimited {
		return n
	}
	return 0
}

// Waiting is the number of waiters in the queue.
func (g *Gate) Waiting() int { return int(g.waiting.Load()) }

// Refused counts the refusals for one reason since the start.
func (g *Gate) Refused(reason Verdict) uint64 {
	if int(reason) >= len(g.refused) {
		return 0
	}
	return g.refused[reason].Load()
}
