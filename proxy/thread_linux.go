package proxy

import (
	"bytes"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// thread is that of an event loop, once it has told its name.
type thread struct{ id atomic.Int64 }

// name is called on the loop.
func (t *thread) name() {
	if t.id.Load() == 0 {
		t.id.Store(int64(unix.Gettid()))
	}
}

// waited is how long the thread has been ready to run without running, since it
// began: the second figure of schedstat (Linux,
// Documentation/scheduler/sched-stats.rst). 0 where it is not known.
func (t *thread) waited() time.Duration {
	id := t.id.Load()
	if id == 0 {
		return 0
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/task/%d/schedstat", id), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(fd) }()
	var b [64]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return 0
	}
	return parseSchedstat(b[:n])
}

func parseSchedstat(line []byte) time.Duration {
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return 0
	}
	ns, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}
