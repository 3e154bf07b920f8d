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
	s.wanted = state.peers()
	s.watchMu.Unlock()
	return s.rewatch()
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
	peers := slices.Clone(s.wanted)
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
