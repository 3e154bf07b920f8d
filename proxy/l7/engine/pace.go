package engine

import "time"

// Pace decides when a loop should wait for several events instead of one.
//
// Each wait costs two switches of the processor and a system call; under load
// one wait for several events saves most of that, and delays each by less
// than it would have waited in the loop's queue anyhow. When little goes on,
// the delay would be all that one sees. So a loop waits for more only while
// many different connections receive something within a millisecond: one
// client that asks again and again as fast as it can is served without any
// delay, and so are a few.
type Pace struct {
	window uint32
	began  time.Duration
	active int // connections that received something in this window
	batch  int
}

const (
	// BatchWait is how long a loop may wait for more events than one. Measured
	// best at 50 us; with 20 us half of the gain is lost.
	BatchWait = 50 * time.Microsecond

	paceWindow  = time.Millisecond
	paceMinimum = 16 // active connections in a window
	paceShare   = 4  // of the active connections are waited for: one in so many
	paceMaximum = 32 // events waited for
)

// Seen notes that a connection received something; mark is a field of the
// connection's for Pace's use.
func (p *Pace) Seen(mark *uint32) {
	if m := p.window + 1; *mark != m {
		*mark = m
		p.active++
	}
}

// Batch returns how many events are worth waiting for, 0: don't. It is to be
// called in every round, with the loop's time.
func (p *Pace) Batch(now time.Duration) int {
	elapsed := now - p.began
	if elapsed < paceWindow {
		return p.batch
	}
	rate := int(time.Duration(p.active) * paceWindow / elapsed)
	p.batch = 0
	if rate >= paceMinimum {
		p.batch = min(rate/paceShare, paceMaximum)
	}
	p.window++
	p.began, p.active = now, 0
	return p.batch
}
