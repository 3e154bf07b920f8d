package shed

import (
	"math/rand/v2"
	"time"
)

// world is a discrete-event simulation: virtual time, and things that happen
// at an instant of it, in the order of these and then of their planning. With
// one seed it always runs the same.
type world struct {
	now    time.Duration
	events events
	seq    int
	rng    *rand.Rand
}

func newWorld(seed uint64) *world {
	return &world{rng: rand.New(rand.NewPCG(seed, 0))}
}

// after plans f for d from now.
func (w *world) after(d time.Duration, f func()) {
	w.seq++
	w.events.push(event{w.now + d, w.seq, f})
}

// run lets time pass until the instant end.
func (w *world) run(end time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= end {
		e := w.events.pop()
		w.now = e.at
		e.f()
	}
	w.now = end
}

// exponential is a random duration of that mean.
func (w *world) exponential(mean time.Duration) time.Duration {
	return time.Duration(w.rng.ExpFloat64() * float64(mean))
}

// arrivals calls f as a Poisson process of rate(now) a second, until the end.
func (w *world) arrivals(rate func() float64, f func()) {
	w.after(w.exponential(time.Duration(float64(time.Second)/rate())), func() {
		f()
		w.arrivals(rate, f)
	})
}

type event struct {
	at  time.Duration
	seq int
	f   func()
}

func (e event) before(o event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

// events is a binary heap; container/heap would box each event.
type events []event

func (h *events) push(e event) {
	*h = append(*h, e)
	q := *h
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q[i].before(q[parent]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
}

func (h *events) pop() event {
	q := *h
	first, last := q[0], len(q)-1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q[c+1].before(q[c]) {
			c++
		}
		if !q[c].before(q[i]) {
			break
		}
		q[i], q[c] = q[c], q[i]
		i = c
	}
	*h = q
	return first
}

// station is a server: workers that take requests from one queue in order. It
// knows nothing of clients that have given up.
type station struct {
	w       *world
	workers int
	service time.Duration // mean, of an exponential distribution
	// burden slows all work down as requests pile up (memory, garbage
	// collection, locks, caches gone cold): by this share for each worker's
	// worth of requests in the queue, up to twice the time.
	burden float64

	busy  int
	queue []func()
	done  int // requests served
}

// serve calls finished when the request was worked on.
func (s *station) serve(finished func()) {
	if s.busy >= s.workers {
		s.queue = append(s.queue, finished)
		return
	}
	s.work(finished)
}

func (s *station) work(finished func()) {
	s.busy++
	slower := min(1+s.burden*float64(len(s.queue))/float64(s.workers), 2)
	s.w.after(time.Duration(float64(s.w.exponential(s.service))*slower), func() {
		s.busy--
		s.done++
		if len(s.queue) > 0 {
			next := s.queue[0]
			s.queue = s.queue[1:]
			s.work(next)
		}
		finished()
	})
}

// capacity is how many requests a second it serves, unburdened.
func (s *station) capacity() float64 { return float64(s.workers) / s.service.Seconds() }
