package pool

import (
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/sticky"
)

// This file is how sessions stay on their servers.

// Sessions counts what became of sessions since the pool was made. Those that
// stay where they are count nowhere, so that they cost nothing.
type Sessions struct {
	Begun    atomic.Uint64 // clients were given a server
	Moved    atomic.Uint64 // clients were given another one, since theirs was gone
	Unusable atomic.Uint64 // of Begun: clients that had a cookie, forged, too old or malformed
}

// SetJar makes j what keeps clients on their servers; nil: nothing does.
func (p *Pool) SetJar(j *sticky.Jar) { p.jar.Store(j) }

// Jar is what was last set by SetJar. A request goes by one jar to its end.
func (p *Pool) Jar() *sticky.Jar { return p.jar.Load() }

// Persisted returns the server of this name if it may take the work of
// sessions that are bound to it: it is healthy (or everyone is tried, as
// nobody is), also when it is draining or has a weight of 0, but not under
// maintenance. Else nil. It neither locks nor allocates.
func (p *Pool) Persisted(name []byte) *Server {
	v := p.view.Load()
	i, ok := v.names[string(name)]
	if !ok || !v.members[i].persisted {
		return nil
	}
	return v.members[i].Server
}

// SelectFrom is Select for work that is bound to a server (see
// [Pool.Persisted]): that one comes first. It takes nobody's turn unless the
// walk goes on. A nil first is Select.
func (p *Pool) SelectFrom(first *Server, key uint64, now time.Duration) Selection {
	return Selection{view: p.view.Load(), key: key, now: now, preferred: first}
}

// Full reports whether the server is at its limit at this moment: a session
// that finds it so goes elsewhere for once, and is not moved.
func (s *Server) Full() bool {
	limit := s.limit.Load()
	return limit > 0 && s.InFlight.Load() >= limit
}
