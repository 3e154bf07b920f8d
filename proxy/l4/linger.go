package l4

import "time"

// OpenSince is the number of open connections that began before a time.
func (f *Forwarder) OpenSince(before time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for c := range f.conns {
		if c.began.Before(before) {
			n++
		}
	}
	return n
}
