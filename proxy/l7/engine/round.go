package engine

// This file is what loops on the kernel's sockets do at the end of a round.

// Failures are handlers that are to be told that their connections have failed:
// when that was found out, they may have been in the middle of their own work.
type Failures struct{ list []failure }

type failure struct {
	handler Handler
	err     error
}

// Add notes one.
func (f *Failures) Add(h Handler, err error) { f.list = append(f.list, failure{h, err}) }

// Empty reports whether there are none.
func (f *Failures) Empty() bool { return len(f.list) == 0 }

// Drop forgets all of them.
func (f *Failures) Drop() { f.list = nil }

// Tell tells them, those included that are added meanwhile.
func (f *Failures) Tell() {
	for i := 0; i < len(f.list); i++ {
		next := f.list[i]
		f.list[i] = failure{}
		next.handler.Closed(next.err)
	}
	f.list = f.list[:0]
}

// Again are connections that have more to read than one turn allows: others
// have theirs first.
type Again[C interface{ Again() }] struct{ list []C }

// Add gives c another turn.
func (a *Again[C]) Add(c C) { a.list = append(a.list, c) }

// Empty reports whether nobody waits.
func (a *Again[C]) Empty() bool { return len(a.list) == 0 }

// Run calls Again of everyone; those that are added meanwhile wait for the next
// call.
func (a *Again[C]) Run() {
	n := len(a.list)
	for i := range n {
		a.list[i].Again()
	}
	k := copy(a.list, a.list[n:])
	clear(a.list[k:])
	a.list = a.list[:k]
}

// Spares are the buffers that unsent bytes are copied into, kept to be used
// again.
type Spares struct{ list [][]byte }

const (
	spareSize  = 16 << 10  // of a new one
	spareMost  = 64        // are kept
	spareLimit = 128 << 10 // larger ones are not
)

// Take returns an empty one.
func (s *Spares) Take() []byte {
	if n := len(s.list); n > 0 {
		b := s.list[n-1]
		s.list = s.list[:n-1]
		return b
	}
	return make([]byte, 0, spareSize)
}

// Give takes one back; b may be nil.
func (s *Spares) Give(b []byte) {
	if b != nil && len(s.list) < spareMost && cap(b) <= spareLimit {
		s.list = append(s.list, b[:0])
	}
}
