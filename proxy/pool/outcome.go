package pool

import (
	"fmt"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// OutcomeKind is how a request or connection ended, as far as it says
// something of the server.
type OutcomeKind uint8

// The kinds.
const (
	OK            OutcomeKind = iota // answered, with any status, or served to its end
	ConnectFailed                    // no connection could be made
	Broken                           // reset, or what came was garbage
	TimedOut                         // connecting or answering took too long
	Cancelled                        // the client's doing, or ours: says nothing of the server
)

// Outcome is how a request or connection went.
type Outcome struct {
	Kind    OutcomeKind
	Status  int           // of the answer, with OK; 0: there is none to a connection
	Latency time.Duration // from the request to the head of its answer; 0: not measured
	Now     time.Duration // as of [Now]; 0: the pool reads the clock, if it needs to
}

// Begin takes a slot of a server for one request or connection, which End
// gives back. It reports false, and takes none, if the server is at its limit,
// or failed and is being tried by another request: try the next. It neither
// allocates nor, but for such a trial, locks.
func (p *Pool) Begin(s *Server) bool {
	if limit := s.limit.Load(); limit == 0 {
		s.InFlight.Add(1)
	} else {
		for {
			n := s.InFlight.Load()
			if n >= limit {
				return false
			}
			if s.InFlight.CompareAndSwap(n, n+1) {
				break
			}
		}
	}
	if s.gate.Load() != open && !p.try(s) {
		s.InFlight.Add(-1)
		return false
	}
	s.load.Begin()
	return true
}

// try lets one request through to a server that failures took out.
func (p *Pool) try(s *Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.gate.Load() {
	case open:
		return true
	case shut:
		return false
	}
	s.gate.Store(shut)
	s.trying = true
	s.passive.Try(Now())
	s.heeds.Store(0)
	p.poke()
	return true
}

// End gives back the slot that Begin took, and learns from the outcome. An
// outcome that changes nothing, above all a success while nothing is held
// against the server, costs neither a lock nor an allocation.
func (p *Pool) End(s *Server, o Outcome) {
	s.load.End()
	s.InFlight.Add(-1)
	if s.aside.Load() {
		p.poke() // see capacity
	}
	if o.Latency > 0 && o.Now > 0 {
		switch {
		case o.Kind == OK && o.Status < 500, o.Kind == TimedOut:
			s.load.Observe(o.Now, o.Latency)
		case o.Kind != Cancelled:
			s.load.Fail(o.Now, o.Latency)
		}
	}
	heeds := s.heeds.Load()
	switch {
	case o.Kind == OK && o.Status < 500:
		if heeds == never {
			return
		}
		if o.Now == 0 {
			o.Now = Now()
		}
		if int64(o.Now) < heeds {
			return
		}
	case o.Kind == Cancelled:
		if heeds != 0 {
			return
		}
	default:
		if !p.view.Load().passive {
			return
		}
		if o.Now == 0 {
			o.Now = Now()
		}
	}
	p.learn(s, o)
}

// learn notes an outcome on the server, and has Run look if it may change who
// takes work.
func (p *Pool) learn(s *Server, o Outcome) {
	c := &p.view.Load().health
	s.mu.Lock()
	defer s.mu.Unlock()
	sign := health.Good
	switch {
	case o.Kind == Cancelled:
		if s.trying { // another request may try it
			s.trying = false
			s.passive.Untry()
			s.gate.CompareAndSwap(shut, oneTry)
			s.settle(c)
			p.poke()
		}
		return
	case o.Kind != OK:
		sign = health.Failure
	case o.Status >= 500:
		sign = health.BadAnswer
	}
	if c.MaxFails > 0 {
		p.learnPassive(s, c, sign, o.Now)
	}
	if c.Outlier != nil {
		s.ejector.Observe(sign)
		due := s.ejector.Due(c.Outlier)
		if due && !s.asked {
			p.poke()
		}
		s.asked = due
	}
	s.settle(c)
}

// learnPassive is learn for failures as nginx counts them, to whom an answer
// of 500 is an answer. The caller holds s.mu.
func (p *Pool) learnPassive(s *Server, c *health.Config, sign health.Sign, now time.Duration) {
	if s.trying {
		// From then on any success counts, as with nginx, and also if now was
		// read a little before the try.
		now = max(now, s.passive.Heeds(c.FailTimeout)+1)
	}
	switch {
	case sign != health.Failure:
		if !s.passive.Succeed(c.FailTimeout, now) {
			return
		}
		p.log.Info("server takes requests again", "server", s.Name, "address", s.Address)
	case s.passive.Fail(c.MaxFails, now):
		s.why = fmt.Sprintf("%d failed requests", s.passive.Fails())
		p.log.Warn("server takes no requests after failures", "server", s.Name, "address", s.Address, "failures", s.passive.Fails(), "for", c.FailTimeout)
	case !s.trying:
		return
	}
	s.trying = false
	p.poke()
}
