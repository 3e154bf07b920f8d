package bfd

import "golang.org/x/sys/unix"

// Priority is how the thread that sends is scheduled.
type Priority string

// From best to worst.
const (
	RealTime Priority = "real-time" // SCHED_FIFO: it runs before all ordinary threads
	Nice     Priority = "nice"      // the kernel prefers it to others
	Ordinary Priority = "ordinary"  // more is not allowed to this process
)

// realTimePriority is above that of ordinary work, and below that of the
// kernel's own threads, which have 50 and more.
const realTimePriority = 10

// raisePriority raises the calling thread's priority as far as is allowed
// (CAP_SYS_NICE, or RLIMIT_RTPRIO and RLIMIT_NICE). No thread that it starts
// has it.
func raisePriority() Priority {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: realTimePriority, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
	if err == nil {
		return RealTime
	}
	// The kernel may round an ordinary thread's timers up by 50 µs.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for _, nice := range []int{-20, -10, -5} {
		if unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice) == nil {
			return Nice
		}
	}
	return Ordinary
}
