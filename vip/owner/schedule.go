package owner

import "time"

// A node that takes a VIP tells the link so with a burst of gratuitous
// announcements now and one after 5 s, since any may be lost and switches may
// learn late, and then once a minute.
const (
	burst       = 5
	burstPause  = 20 * time.Millisecond
	secondBurst = 5 * time.Second
	refresh     = time.Minute
)

// Schedule says when to announce a VIP. The zero value announces nothing.
type Schedule struct {
	begun time.Time
	sent  int
}

// Begin starts anew: after a take-over, when a rival was heard, and when a
// partition has healed.
func (s *Schedule) Begin(now time.Time) { s.begun, s.sent = now, 0 }

// Stop ends it.
func (s *Schedule) Stop() { *s = Schedule{} }

// Due says whether to announce now, and counts that as done. Announcements that
// were missed are not made up for.
func (s *Schedule) Due(now time.Time) bool {
	at := s.Next()
	if at.IsZero() || now.Before(at) {
		return false
	}
	s.sent++
	for s.sent > 2*burst && !s.Next().After(now) {
		s.sent++
	}
	return true
}

// Next is when the next announcement is due; zero: never.
func (s *Schedule) Next() time.Time {
	switch {
	case s.begun.IsZero():
		return time.Time{}
	case s.sent < burst:
		return s.begun.Add(time.Duration(s.sent) * burstPause)
	case s.sent < 2*burst:
		return s.begun.Add(secondBurst + time.Duration(s.sent-burst)*burstPause)
	default:
		return s.begun.Add(secondBurst + time.Duration(s.sent-2*burst+1)*refresh)
	}
}
