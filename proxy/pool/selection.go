package pool

// maxAttempts bounds how many servers are tried for one request or
// connection, so that a large pool that is down as a whole costs a client a
// bounded time.
const maxAttempts = 16

// Selection walks the servers that one request or connection may go to. It is
// a value bound to the generation of the pool at its making: take one per
// attempt to be served, don't keep it.
type Selection struct {
	view  *view
	first int // position in choice.Active
	tried int
}

// Select makes the choice for one request or connection. It neither locks nor
// allocates.
func (p *Pool) Select() Selection {
	v := p.view.Load()
	return Selection{view: v, first: v.picker.Pick(0, 0)}
}

// Next returns the next server to try: first the one whose turn it is, then
// the others of the active tier, then the spare ones; nil when all (at most
// 16) have been returned. A nil first answer means that no server may take
// work.
func (s *Selection) Next() *Server {
	if s.view == nil || s.first < 0 || s.tried >= maxAttempts {
		return nil
	}
	active, spare := s.view.choice.Active, s.view.choice.Spare
	i := s.tried
	s.tried++
	switch {
	case i < len(active):
		return s.view.members[active[(s.first+i)%len(active)]].Server
	case i-len(active) < len(spare):
		return s.view.members[spare[i-len(active)]].Server
	}
	return nil
}
