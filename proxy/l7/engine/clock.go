package engine

import "time"

// began is when the process did: all loops count from there.
var began = time.Now()

// Monotonic is the time of all loops: it never jumps, and is the same on every
// loop of the process. It began at the time of day, so that the clocks of two
// nodes are as near to each other as their times of day were.
func Monotonic() time.Duration {
	return time.Duration(began.UnixNano()) + time.Since(began)
}
