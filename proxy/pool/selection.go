package pool

import (
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// maxAttempts bounds how many servers are tried for one request or
// connection, so that a large pool that is down as a whole costs a client a
// bounded time.
const maxAttempts = 16

// Selection walks the servers that one request or connection may go to. It is
// a value bound to the generation of the pool at its making: take one per
// attempt to be served, don't keep it.
type Selection struct {
	view      *view
	key       uint64
	now       time.Duration
	preferred *Server // returned first; nil: nobody is
	place     int     // of the next one in the walk
	first     int     // position in choice.Active where the walk begins
	tried     int
}

// Select makes the choice for one request or connection; key is its hash, for
// algorithms that hash, else 0: see [Pool.Key]. now is as of [Now]. It neither
// locks nor allocates.
func (p *Pool) Select(key uint64, now time.Duration) Selection {
	return Selection{view: p.view.Load(), key: key, now: now}
}

// Key is the hash of a request for Select, 0 if the pool is not balanced by a
// hash. For work that is no request, it is balance.AddrKey's.
func (p *Pool) Key(r policy.Request) uint64 { return p.view.Load().keyer.Key(r) }

// Next returns the next server to try: first the one whose turn it is, then
// the others of the active tier, then the spare ones; nil when all (at most
// 16) have been returned. A nil first answer means that no server may take
// work.
func (s *Selection) Next() *Server {
	if s.view == nil || s.tried >= maxAttempts {
		return nil
	}
	s.tried++
	if s.tried == 1 && s.preferred != nil {
		return s.preferred
	}
	next := s.walk()
	if next != nil && next == s.preferred {
		next = s.walk()
	}
	return next
}

// walk goes round the active servers from the one that was picked, then
// through the spare ones.
func (s *Selection) walk() *Server {
	active, spare := s.view.choice.Active, s.view.choice.Spare
	if s.place == 0 {
		s.first = -1
		if s.view.picker != nil {
			s.first = s.view.picker.Pick(s.key, s.now)
		}
	}
	if s.first < 0 {
		return nil
	}
	i := s.place
	s.place++
	switch {
	case i < len(active):
		return s.view.members[active[(s.first+i)%len(active)]].Server
	case i-len(active) < len(spare):
		return s.view.members[spare[i-len(active)]].Server
	}
	return nil
}
