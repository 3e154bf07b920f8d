package traffic

import "golang.org/x/sys/unix"

// RunAhead lets a thread (0: the calling one, which must be locked to its
// goroutine) run before everything without real-time priority, where that is
// allowed, and gives the way back. In a lab, clients and the router's watch
// stand for other machines, and must not wait for the processes that they
// measure; a thread that does so little cannot starve them. Where it is refused
// (without root) nothing changes: lateness is recorded and judged in any case.
func RunAhead(pid int) (restore func()) {
	before, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		return func() {}
	}
	ahead := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(pid, &ahead, 0) != nil {
		return func() {}
	}
	return func() { _ = unix.SchedSetAttr(pid, before, 0) }
}
