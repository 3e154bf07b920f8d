// Package clock is the time that limits, checks and event loops share.
package clock

import "time"

// began is when the process did.
var began = time.Now()

// Now is a monotonic time: it never jumps, and is the same everywhere in the
// process. It began at the time of day, so that the clocks of two nodes are as
// near to each other as their times of day were.
func Now() time.Duration {
	return time.Duration(began.UnixNano()) + time.Since(began)
}
