package pool

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// Server is the run-time state of one server. It lives as long as a server of
// this name and address is configured in its pool, across configuration
// changes, and its counters with it. The counters may be touched by anyone at
// any time.
type Server struct {
	Name    string
	Address netip.AddrPort

	// InFlight counts requests or connections being served by it now.
	InFlight atomic.Int64
	// Connections counts requests or connections sent to it since start.
	Connections atomic.Uint64

	logged atomic.Int64  // Unix nanoseconds of the last logged failure
	muted  atomic.Uint64 // failures since that were not

	mu         sync.Mutex
	machine    health.Machine
	lastCheck  time.Time
	lastReason string
}

// Health is what the checks say of a server at one moment.
type Health struct {
	State     health.State
	Failures  int       // consecutive
	Checked   bool      // at least one result
	LastCheck time.Time // zero: none yet
	Reason    string    // of the last check
}

// Health returns what the checks say of the server.
func (s *Server) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Health{s.machine.State(), s.machine.Failures(), s.machine.Checked(), s.lastCheck, s.lastReason}
}

// logEvery bounds how often a server's failures are logged: under load a dead
// or broken server would else fill the log until its checks take it out.
const logEvery = time.Second

// LogFailure says whether to log a failure of the server that happened now,
// and how many were not logged since the last one that was.
func (s *Server) LogFailure(now time.Time) (muted uint64, log bool) {
	last := s.logged.Load()
	if now.UnixNano()-last < int64(logEvery) || !s.logged.CompareAndSwap(last, now.UnixNano()) {
		s.muted.Add(1)
		return 0, false
	}
	return s.muted.Swap(0), true
}

func (s *Server) observe(ok bool, reason string, at time.Time) (before, after health.State, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, first = s.machine.State(), !s.machine.Checked()
	s.machine.Observe(ok)
	s.lastCheck, s.lastReason = at, reason
	return before, s.machine.State(), first
}
