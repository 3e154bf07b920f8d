package member

import (
	"encoding/binary"
	"time"
)

// An acknowledgement of a heartbeat carries the answering node's wall clock:
// with the round-trip time that gives the offset between the two clocks, off by at most half
// the round trip (RFC 5905, section 8, with one timestamp for both of the
// answerer's).

const clockVersion = 1

func encodeClock(now time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{clockVersion}, uint64(now.UnixNano()))
}

func decodeClock(b []byte) (time.Time, bool) {
	if len(b) != 9 || b[0] != clockVersion {
		return time.Time{}, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b[1:]))), true
}

// sample is one measurement of another node's clock.
type sample struct {
	offset time.Duration // theirs minus ours
	rtt    time.Duration
}

// clockFilter keeps the last few samples; the one with the shortest round trip
// is the best of them (RFC 5905, section 10).
type clockFilter struct {
	samples [8]sample
	n       int // ever taken
}

func (f *clockFilter) add(s sample) {
	f.samples[f.n%len(f.samples)] = s
	f.n++
}

func (f *clockFilter) best() (sample, bool) {
	if f.n == 0 {
		return sample{}, false
	}
	best := f.samples[0]
	for _, s := range f.samples[1:min(f.n, len(f.samples))] {
		if s.rtt < best.rtt {
			best = s
		}
	}
	return best, true
}
