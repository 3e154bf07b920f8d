package l7

// Older is the number of requests in flight that began before the last Mark.
func (s *Server) Older() int {
	counts := make(chan int, len(s.loops))
	waiting := 0
	for _, l := range s.loops {
		if l.Post(func() { counts <- s.workers[l].older() }) {
			waiting++
		}
	}
	n := 0
	for range waiting {
		n += <-counts
	}
	return n
}

func (w *worker) older() int {
	n := 0
	for _, s := range w.sessions {
		s.exchanges(func(x *exchange) {
			if x.generation != w.generation.Load() {
				n++
			}
		})
	}
	return n
}
