package shed

import "sync/atomic"

// Slot counts what one server has in flight, within its limit. Its zero value
// has no limit. Every method may be called by any goroutine.
type Slot struct {
	taken atomic.Int64
	limit atomic.Int64
}

// TryAcquire takes one, to be given back by Release, unless the limit is
// reached.
func (s *Slot) TryAcquire() bool {
	for {
		n := s.taken.Load()
		if l := s.limit.Load(); l > 0 && n >= l {
			return false
		}
		if s.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives one back. It panics if none is taken.
func (s *Slot) Release() {
	if s.taken.Add(-1) < 0 {
		panic("shed: a server's slot was released that nobody held")
	}
}

// SetLimit changes the limit; 0: none. What is taken above a lower one is not
// revoked. Slow start calls it as the limit rises.
func (s *Slot) SetLimit(n int) { s.limit.Store(int64(max(n, 0))) }

// Limit is the present limit; 0: none.
func (s *Slot) Limit() int { return int(s.limit.Load()) }

// InFlight is the number taken.
func (s *Slot) InFlight() int { return int(s.taken.Load()) }

// Free reports whether TryAcquire would succeed at this moment.
func (s *Slot) Free() bool {
	l := s.limit.Load()
	return l <= 0 || s.taken.Load() < l
}

// Capacity is the limit that the servers of a pool give to its [Gate]: what
// its usable servers may have in flight, and what others still have, since
// their requests hold slots of the gate too. 0: none, for a usable server has
// no limit.
//
// With a gate set to it, somebody who was admitted finds a server with a free
// slot. So it is computed anew when a server comes, goes, or changes its limit
// or health, and when a request on a server that is not usable ends. In between
// a race can still leave one without; that is a [ServersFull].
func Capacity(slots []*Slot, usable func(i int) bool) int {
	sum := 0
	for i, s := range slots {
		switch {
		case !usable(i):
			sum += s.InFlight()
		case s.Limit() == 0:
			return 0
		default:
			sum += s.Limit()
		}
	}
	return sum
}

// Least is the smallest of limits of which 0 means none, and 0 if all are: the
// limit of a gate by configuration, [Capacity] and [Gradient].
func Least(limits ...int) int {
	least := 0
	for _, l := range limits {
		if l > 0 && (least == 0 || l < least) {
			least = l
		}
	}
	return least
}
