package bgp

import (
	"context"
	"slices"

	"github.com/pharos-lb/pharos/bgp/bfd"
)

// watch runs BFD until the function that it returns is called.
func (s *Speaker) watch(ctx context.Context) (end func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.bfd.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// lost is told by BFD of a router that cannot be reached any more: what BGP
// would find when the hold time is over.
func (s *Speaker) lost(neighbor string, st bfd.Status) {
	if s.isParting(neighbor) {
		return // nobody here asks
	}
	for _, session := range s.list() {
		if session.params.name == neighbor {
			session.cut("BFD: " + st.Reason)
		}
	}
}

// Sender tells how punctual BFD's packets are.
func (s *Speaker) Sender() bfd.Sender { return s.bfd.Sender() }

// want makes BFD watch the neighbors of a state that ask for it, once it may.
func (s *Speaker) want(state State) error {
	s.watchMu.Lock()
	before := slices.Concat(s.wanted, s.parting)
	s.wanted, s.parting = state.peers(), nil
	for _, n := range state.Neighbors {
		i := slices.IndexFunc(before, func(p bfd.Peer) bool {
			return p.Name == n.Name && (p.Address == n.Address || !p.Address.IsValid())
		})
		elsewhere := slices.ContainsFunc(s.wanted, func(p bfd.Peer) bool { return p.Address == n.Address })
		if n.BFD == nil && i >= 0 && !elsewhere {
			before[i].Address = n.Address
			s.parting = append(s.parting, before[i])
		}
	}
	s.watchMu.Unlock()
	return s.rewatch()
}

// A neighbor that is no longer to be watched still watches us, and routers take
// the end of BFD for the end of BGP, even where it is said to be on purpose
// (FRR 8.4 and BIRD 2.0, against RFC 5882 3.2; BIRD then waits for a minute).
// So a session that is up goes on, for the router alone, until that one ends it.
// What it finds concerns nobody here.

func (s *Speaker) isParting(neighbor string) bool {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	return slices.ContainsFunc(s.parting, func(p bfd.Peer) bool { return p.Name == neighbor })
}

// adoptWatch takes note of a BFD session of the process before: its neighbor may
// be one that is no longer to be watched.
func (s *Speaker) adoptWatch(h bfd.Handover) {
	s.bfd.Adopt([]bfd.Handover{h})
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.wanted = append(s.wanted, bfd.Peer{Name: h.Peer, Config: h.Session.Config})
}

// watchChanged is told by BFD.
func (s *Speaker) watchChanged() {
	s.watchMu.Lock()
	parting := len(s.parting) > 0
	s.watchMu.Unlock()
	if !parting {
		s.notify()
		return
	}
	s.changed() // the router may have ended one
}

// rewatch lets BFD begin with a neighbor when BGP is established with it. FRR
// 8.4 makes its BFD session anew at that moment: one that is up by then fails,
// and BGP with it.
func (s *Speaker) rewatch() error {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	established := map[string]bool{}
	for _, session := range s.list() {
		established[session.params.name] = session.isEstablished()
	}
	s.parting = slices.DeleteFunc(s.parting, func(p bfd.Peer) bool {
		st, known := s.bfd.Status(p.Name)
		return known && st.State != bfd.Up
	})
	peers := slices.Concat(s.wanted, s.parting)
	for i := range peers {
		peers[i].Hold = !established[peers[i].Name]
	}
	if slices.Equal(peers, s.watched) {
		return nil
	}
	s.watched = peers
	return s.bfd.Set(peers)
}

// peers are those neighbors that BFD is to watch.
func (s State) peers() []bfd.Peer {
	var out []bfd.Peer
	for _, n := range s.Neighbors {
		if n.BFD != nil {
			out = append(out, bfd.Peer{Name: n.Name, Address: n.Address, Config: *n.BFD})
		}
	}
	return out
}
