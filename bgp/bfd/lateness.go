package bfd

import (
	"sync/atomic"
	"time"
)

// LatenessBounds are the upper bounds of Sender.Lateness, in rising order.
var LatenessBounds = [...]time.Duration{
	100 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
	20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
}

// Sender is what the thread that sends has achieved.
type Sender struct {
	Priority Priority // empty before it runs
	// Lateness counts periodic packets by how much later than planned they were
	// sent: each up to the bound of the same index, and not up to the one
	// before. The last count is of those beyond all bounds.
	Lateness [len(LatenessBounds) + 1]uint64
	Sum, Max time.Duration // of the lateness of all of them
	// Unsent counts packets that the kernel did not take; Refused those that
	// were received and dropped, beyond what the socket's filter drops.
	Unsent, Refused uint64
}

// lateness is written by one thread and read by others.
type lateness struct {
	counts          [len(LatenessBounds) + 1]atomic.Uint64
	sum, max        atomic.Int64
	unsent, refused atomic.Uint64
	priority        atomic.Pointer[Priority]
}

func (l *lateness) add(d time.Duration) {
	i := 0
	for i < len(LatenessBounds) && d > LatenessBounds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
	if int64(d) > l.max.Load() {
		l.max.Store(int64(d))
	}
}

func (l *lateness) read() Sender {
	s := Sender{
		Sum: time.Duration(l.sum.Load()), Max: time.Duration(l.max.Load()),
		Unsent: l.unsent.Load(), Refused: l.refused.Load(),
	}
	for i := range l.counts {
		s.Lateness[i] = l.counts[i].Load()
	}
	if p := l.priority.Load(); p != nil {
		s.Priority = *p
	}
	return s
}
