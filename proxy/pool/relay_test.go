package pool

import (
	"testing"
	"time"
)

// A connection may last for hours: that it stands is what brings its server
// back, not its end.
func TestAStandingConnectionBringsAServerBack(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		r.send("a", broken)
		r.send("a", broken)
		r.want("after two failures", "b")
		r.after(11 * time.Second)
		s := r.server("a")
		if !r.Begin(s) {
			t.Fatal("the one try is refused")
		}
		r.after(0)
		r.want("while it is tried", "b")
		r.Stood(s, time.Millisecond, Now())
		r.after(0)
		r.want("once the connection stands", "a b")
		if !r.Begin(s) {
			t.Error("another connection is refused")
		}
		r.End(s, Outcome{Kind: Cancelled})
		r.End(s, Outcome{Kind: Cancelled})
		r.after(0)
		r.want("after they ended", "a b")
		if n := s.InFlight.Load(); n != 0 {
			t.Errorf("in flight = %d", n)
		}
	})
}

// A server that takes connections and breaks each is still found out.
func TestAStandingConnectionEndsNoRow(t *testing.T) {
	live(t, outliers(a, b), func(r *rig) {
		for range 2 {
			s := r.server("a")
			if !r.Begin(s) {
				t.Fatal("refused")
			}
			r.Stood(s, time.Millisecond, Now())
			r.End(s, broken)
			r.after(0)
		}
		r.want("after two broken connections in a row", "b")
	})
}

func TestStoodCostsNothingWhileAllIsWell(t *testing.T) {
	p := New("web", quiet, func() {})
	p.Update(passive(a, b))
	s := p.Members()[0].Server
	s.mu.Lock() // whoever takes it hangs, and the test with it
	defer s.mu.Unlock()
	if n := testing.AllocsPerRun(100, func() { p.Stood(s, time.Millisecond, Now()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
