package probe

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// waitsKept bounds how far back waits reaches, in beats.
const waitsKept = 20

// waits is how long the threads of this process have waited for a processor,
// lately. All of them, not the event loops' alone: a loop may be ready to run, and
// lack what another thread holds that does not get to run (a P of Go's scheduler).
// When the loops hang, no thread waits; on a machine that has more to do than it
// can, some do.
type waits struct {
	read func() map[int]time.Duration // by thread, since it began

	mu   sync.Mutex
	kept []reading // the oldest first
}

type reading struct {
	at      time.Time
	threads map[int]time.Duration
}

// note takes a reading.
func (w *waits) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kept) == waitsKept {
		w.kept = append(w.kept[:0], w.kept[1:]...)
	}
	w.kept = append(w.kept, reading{time.Now(), w.read()})
}

// starved reports whether a thread has waited for a processor for so much of the
// time from then to now that this process cannot be judged by it.
func (w *waits) starved(then, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The reading of before then, or the oldest one.
	i := len(w.kept) - 1
	for i > 0 && w.kept[i].at.After(then) {
		i--
	}
	if i < 0 {
		return false
	}
	most := time.Duration(starved * float64(now.Sub(then)))
	for id, waited := range w.read() {
		// A thread that is not in the reading of before has begun since.
		if waited-w.kept[i].threads[id] >= most {
			return true
		}
	}
	return false
}

// readWaits reads how long each thread of this process has been ready to run
// without running: the second figure of its schedstat (Linux,
// Documentation/scheduler/sched-stats.rst). What cannot be read is left out.
func readWaits() map[int]time.Duration {
	const tasks = "/proc/self/task"
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return nil
	}
	out := make(map[int]time.Duration, len(entries))
	var b [64]byte
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.Open(tasks+"/"+e.Name()+"/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // it has ended
		}
		if n, err := unix.Read(fd, b[:]); err == nil {
			if waited, ok := parseSchedstat(b[:n]); ok {
				out[id] = waited
			}
		}
		_ = unix.Close(fd)
	}
	return out
}

func parseSchedstat(line []byte) (waited time.Duration, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return 0, false
	}
	ns, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return time.Duration(ns), err == nil
}
