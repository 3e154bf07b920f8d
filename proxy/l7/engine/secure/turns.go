package secure

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound the handshakes of a process. Zero fields take their defaults.
type Limits struct {
	// Timeout is how long a handshake may take, from the connection's
	// beginning. Default 10 s.
	Timeout time.Duration
	// Running is how many compute at one time. Default: half of GOMAXPROCS, at
	// least 1. Together with the loops, they should be fewer than GOMAXPROCS,
	// which may well be above the number of cores: a loop that finds none of
	// Go's processors free waits up to 10 ms for one (BenchmarkFlood).
	Running int
	// Begun is how many may be under way; most of them wait for their peers.
	// Each holds a goroutine, about 20 KiB in all. When another one wants to
	// begin, the one that has waited longest for its peer gives way, so that
	// peers that say nothing keep nobody out. Default 4096.
	Begun int
	// Waiting is how many wait for their first turn, in order, with their
	// ClientHello. Beyond it, connections are closed. Default 4096.
	Waiting int
}

func (l Limits) withDefaults() Limits {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	if l.Timeout <= 0 {
		l.Timeout = 10 * time.Second
	}
	set(&l.Running, max(1, runtime.GOMAXPROCS(0)/2))
	set(&l.Begun, 4096)
	set(&l.Waiting, 4096)
	return l
}

// Handshakes runs the handshakes of all loops of a process: each in a
// goroutine, of which a few compute at one time. The others wait for their
// peers, which takes no turn, or for their turn: first those that have begun,
// for which work was done already, and dialled ones; then the others, in
// order. So a flood of clients starves neither the loops nor those that were
// there before.
type Handshakes struct {
	limits Limits
	counts Counts
	open   atomic.Int64

	goroutines sync.WaitGroup
	mu         sync.Mutex
	running    int
	begun      map[*handshake]struct{}
	urgent     list // have begun, or were dialled
	fresh      list // have not begun
	resting    list // have begun and wait for their peers, the longest first
	closed     bool
}

// stage says where a handshake stands with its turns.
type stage uint8

const (
	outside stage = iota // has not asked for a turn, or has left
	queued               // wants its first turn
	started              // has its goroutine
)

// NewHandshakes returns what runs handshakes. It starts nothing. Close it
// after the loops have ended.
func NewHandshakes(l Limits) *Handshakes {
	t := &Handshakes{limits: l.withDefaults(), begun: make(map[*handshake]struct{})}
	t.urgent.of, t.fresh.of, t.resting.of = ofPlace, ofPlace, ofPlace
	return t
}

// Counts counts all handshakes, of accepted and of dialled connections.
func (t *Handshakes) Counts() *Counts { return &t.counts }

// Open is the number of connections whose handshake has not ended, those
// included that have said nothing yet.
func (t *Handshakes) Open() int { return int(t.open.Load()) }

// Close ends all handshakes, and returns when their goroutines have ended.
func (t *Handshakes) Close() {
	t.mu.Lock()
	t.closed = true
	for _, l := range []*list{&t.urgent, &t.fresh} {
		for h := l.first; h != nil; {
			next := h.place.next
			if h.stage == queued {
				l.remove(h)
				h.stage = outside
			}
			h = next
		}
	}
	begun := make([]*handshake, 0, len(t.begun))
	for h := range t.begun {
		begun = append(begun, h)
	}
	t.mu.Unlock()
	for _, h := range begun {
		h.close(errCancelled, false)
	}
	t.goroutines.Wait()
}

// join wants a first turn for h. It reports false if too many wait already.
// idlest, if there is one, should be closed for h to begin.
func (t *Handshakes) join(h *handshake, dialled bool) (ok bool, idlest *handshake) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || !dialled && t.fresh.length >= t.limits.Waiting {
		return false, nil
	}
	h.stage = queued
	if dialled {
		t.urgent.add(h)
	} else {
		t.fresh.add(h)
	}
	t.next()
	if h.stage == queued && len(t.begun) >= t.limits.Begun {
		if idlest = t.resting.first; idlest != nil {
			t.resting.remove(idlest)
		}
	}
	return true, idlest
}

// drop forgets h if it has no goroutine.
func (t *Handshakes) drop(h *handshake) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.stage == queued {
		h.place.in.remove(h)
		h.stage = outside
	}
	return h.stage == outside
}

// ready wants another turn for h.
func (t *Handshakes) ready(h *handshake) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.place.in != nil {
		h.place.in.remove(h)
	}
	t.urgent.add(h)
	t.next()
}

// rest gives h's turn to another one: h waits for its peer.
func (t *Handshakes) rest(h *handshake) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	t.resting.add(h)
	t.next()
}

// leave is the end of h's goroutine.
func (t *Handshakes) leave(h *handshake) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	delete(t.begun, h)
	h.stage = outside
	t.next()
}

// next gives out turns.
func (t *Handshakes) next() {
	for t.running < t.limits.Running {
		h := t.urgent.first
		if h == nil && len(t.begun) < t.limits.Begun {
			h = t.fresh.first
		}
		if h == nil {
			return
		}
		h.place.in.remove(h)
		t.running++
		if h.stage == started {
			h.wake <- struct{}{} // there is room: h waits, or is about to
			continue
		}
		h.stage = started
		t.begun[h] = struct{}{}
		t.goroutines.Go(h.run)
	}
}

// links are a handshake's place in a list.
type links struct {
	prev, next *handshake
	in         *list // nil: in none
}

// list is a queue of handshakes, of which any can be taken out.
type list struct {
	first, last *handshake
	length      int
	of          func(*handshake) *links
}

func ofPlace(h *handshake) *links   { return &h.place }
func ofSilence(h *handshake) *links { return &h.silence }

func (l *list) add(h *handshake) {
	at := l.of(h)
	*at = links{prev: l.last, in: l}
	if l.last != nil {
		l.of(l.last).next = h
	} else {
		l.first = h
	}
	l.last = h
	l.length++
}

func (l *list) remove(h *handshake) {
	at := l.of(h)
	if at.prev != nil {
		l.of(at.prev).next = at.next
	} else {
		l.first = at.next
	}
	if at.next != nil {
		l.of(at.next).prev = at.prev
	} else {
		l.last = at.prev
	}
	*at = links{}
	l.length--
}
