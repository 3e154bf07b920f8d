package pool

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// Server is the run-time state of one server. It lives as long as a server of
// this ID, name and address is configured in its pool, across configuration
// changes, and its counters with it. The counters may be touched by anyone at
// any time.
type Server struct {
	ID      string
	Name    string
	Address netip.AddrPort

	// InFlight counts requests or connections being served by it now; see
	// [Pool.Begin] and [Pool.End].
	InFlight atomic.Int64
	// Connections counts requests or connections sent to it since start.
	Connections atomic.Uint64

	relayTLS atomic.Pointer[relayTLS] // nil: none was made yet

	// heeds is the time (as of [Now]) from which a success is worth recording:
	// never, while there is nothing that it would change.
	heeds atomic.Int64
	limit atomic.Int64 // of InFlight; 0: none
	aside atomic.Bool  // takes no work now: what it has is not counted against the others
	load  balance.Load // what the balancing goes by
	gate  atomic.Uint32

	tls    atomic.Pointer[serverTLS] // nil: none was made yet
	logged atomic.Int64              // Unix nanoseconds of the last logged failure
	muted  atomic.Uint64             // failures since that were not

	mu         sync.Mutex // taken after Pool.mu, where both are
	checked    bool       // results of checks count
	machine    health.Machine
	lastCheck  time.Time
	lastReason string
	passive    health.Passive
	ejector    health.Ejector
	why        string // why requests took it out, while they did
	trying     bool   // the one request that tries it is under way
	asked      bool   // its ejection is due, and the pool knows

	// The rest is guarded by Pool.mu.
	cold    bool          // was out, or is new to a serving pool: is to ramp when it takes work
	ramping bool          // its slow start has begun, and not ended
	since   time.Duration // when it began
	mark    uint64        // Connections when its effective weight was last set
}

// never is later than anything.
const never = 1<<63 - 1

// The gates of a server.
const (
	open   uint32 = iota
	oneTry        // failures took it out, and one request may try it
	shut          // that one is under way
)

func newServer(s ServerSpec) *Server {
	server := &Server{ID: s.ID, Name: s.Name, Address: s.Address}
	server.heeds.Store(never)
	return server
}

// Health is what was observed of a server, at one moment.
type Health struct {
	Healthy  bool         // neither checks nor requests speak against it
	State    health.State // what the checks alone say
	Checked  bool         // there was a check, or none is made
	Failures int          // failed checks in a row

	LastCheck time.Time // zero: none yet
	Reason    string    // of the last check; why requests took the server out, while they did

	Ejected time.Duration // until when (as of Now) it is ejected; 0: it is not
}

// Health returns what was observed of the server.
func (s *Server) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{
		Healthy:   (!s.checked || s.machine.State() == health.Healthy) && !s.passive.Out() && !s.ejector.Out(),
		State:     s.machine.State(),
		Checked:   !s.checked || s.machine.Checked(),
		Failures:  s.machine.Failures(),
		LastCheck: s.lastCheck,
		Reason:    s.lastReason,
	}
	switch {
	case s.why != "":
		h.Reason = s.why
	case !h.Checked:
		h.Reason = "not checked yet"
	}
	if s.ejector.Out() {
		h.Ejected = s.ejector.Until()
	}
	return h
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

// standing is what a server may do, as far as was observed.
type standing uint8

const (
	down    standing = iota
	unknown          // waits for its first check
	trial            // failures took it out; one request may try it
	up
)

// stand returns the server's standing, and when it may change by the passing
// of time alone (never, if it may not).
func (s *Server) stand(c *health.Config, now time.Duration) (st standing, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(c) // an outcome may have been noted by the configuration before
	state := s.machine.State()
	switch {
	case s.checked && state == health.Unhealthy:
		return down, never
	case s.ejector.Out():
		return down, s.ejector.Until()
	case s.passive.Out():
		if due := s.passive.Next(c.FailTimeout) + 1; now < due {
			return down, due
		}
		s.trying = false // the one before hangs
		return trial, never
	case s.checked && state == health.Unknown:
		return unknown, never
	}
	return up, never
}

// configure takes over what the configuration says of the server.
func (s *Server) configure(spec *Spec, admin health.Admin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = spec.Checked && admin != health.Maintenance
	if s.checked {
		s.machine.Retune(spec.Health.Fall, spec.Health.Rise)
	} else {
		// Results of checks that no longer run must not outlive them.
		s.machine, s.lastReason, s.lastCheck = health.New(spec.Health.Fall, spec.Health.Rise), "", time.Time{}
	}
	if admin == health.Maintenance {
		s.forget(&health.Config{})
	}
	s.forget(&spec.Health)
}

// forget drops what was noted for policies that are off. The caller holds
// s.mu.
func (s *Server) forget(c *health.Config) {
	if c.MaxFails == 0 {
		s.passive, s.trying = health.Passive{}, false
	}
	if c.Outlier == nil {
		s.ejector, s.asked = health.Ejector{}, false
	}
	s.settle(c)
}

// retire makes what is still observed of a server that left count for nothing.
func (s *Server) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = false
}

// settle brings what depends on the rest up to date. The caller holds s.mu.
func (s *Server) settle(c *health.Config) {
	if !s.passive.Out() && !s.ejector.Out() {
		s.why = ""
	}
	heeds := time.Duration(never)
	if s.passive.Fails() > 0 {
		heeds = s.passive.Heeds(c.FailTimeout)
	}
	if answers, failures := s.ejector.Rows(); answers+failures > 0 || s.trying {
		heeds = 0
	}
	s.heeds.Store(int64(heeds))
}

// setGate lets a server on trial have its one request, if gated; else any.
func (s *Server) setGate(gated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !gated:
		s.gate.Store(open)
	case !s.trying:
		s.gate.Store(oneTry)
	}
}
