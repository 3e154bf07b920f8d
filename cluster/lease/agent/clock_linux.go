package agent

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads a clock that nobody sets and that goes on while the machine is
// suspended: a lease must not outlive a nap. Go's own monotonic clock stops.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
