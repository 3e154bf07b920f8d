package pool

import (
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/health"
)

func TestBeginHoldsTheLimit(t *testing.T) {
	p := New("web", quiet, func() {})
	limited := a
	limited.MaxInFlight = 2
	p.Update(spec(false, limited, b))
	s := p.Members()[0].Server
	for range 2 {
		if !p.Begin(s) {
			t.Fatal("refused below the limit")
		}
	}
	if p.Begin(s) {
		t.Error("took a third with a limit of 2")
	}
	p.End(s, Outcome{Kind: Cancelled})
	if !p.Begin(s) {
		t.Error("refused after one ended")
	}
	if n := s.InFlight.Load(); n != 2 {
		t.Errorf("in flight = %d, want 2", n)
	}
	p.Update(spec(false, a, b))
	if !p.Begin(s) {
		t.Error("refused after the limit was lifted")
	}
}

func passive(servers ...ServerSpec) Spec {
	return Spec{FailOpen: true, Health: health.Config{MaxFails: 2, FailTimeout: 10 * time.Second}, Servers: servers}
}

func TestFailuresTakeAServerOutAndOneTryBringsItBack(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		r.send("a", broken)
		r.want("after one failure", "a b")
		r.send("a", Outcome{Kind: ConnectFailed})
		r.want("after two failures", "b")
		if h := r.server("a").Health(); h.Healthy || h.Reason != "2 failed requests" {
			t.Errorf("health = %+v", h)
		}
		r.after(10 * time.Second)
		r.want("at the fail timeout", "b")
		r.after(time.Nanosecond)
		r.want("after it", "a b")
		s := r.server("a")
		if !r.Begin(s) {
			t.Fatal("the one try is refused")
		}
		if r.Begin(s) {
			t.Error("a second request is let through while the first one tries")
		}
		r.after(0)
		r.want("while it is tried", "b")
		r.End(s, good)
		r.after(0)
		r.want("after the try succeeded", "a b")
		for range 2 {
			if !r.send("a", good) {
				t.Error("back, it refuses a request")
			}
		}
		if !s.Health().Healthy || s.Health().Reason != "" {
			t.Errorf("back, its health is %+v", s.Health())
		}
		if n := s.InFlight.Load(); n != 0 {
			t.Errorf("in flight = %d", n)
		}
	})
}

func TestAFailedTryKeepsTheServerOut(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		r.send("a", broken)
		r.send("a", broken)
		r.after(11 * time.Second)
		r.send("a", broken)
		r.want("after the failed try", "b")
		r.after(10 * time.Second)
		r.want("at the fail timeout of the try", "b")
		r.after(time.Nanosecond)
		r.want("after it", "a b")
	})
}

func TestATrySaysNothingIfTheClientCancelled(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		r.send("a", broken)
		r.send("a", broken)
		r.after(11 * time.Second)
		// At once, before anyone looked; and after.
		for _, looked := range []bool{false, true} {
			s := r.server("a")
			if !r.Begin(s) {
				t.Fatalf("the try is refused (looked %v)", looked)
			}
			if looked {
				r.after(0)
			}
			r.End(s, Outcome{Kind: Cancelled})
			r.after(0)
			r.want("after a try that was cancelled", "a b")
		}
		if !r.send("a", good) {
			t.Fatal("another try is refused")
		}
		r.want("after it", "a b")
	})
}

func TestATryThatHangsMakesRoomForAnother(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		r.send("a", broken)
		r.send("a", broken)
		r.after(11 * time.Second)
		s := r.server("a")
		if !r.Begin(s) {
			t.Fatal("the try is refused")
		}
		r.after(10 * time.Second)
		r.want("while the try hangs", "b")
		r.after(time.Second)
		r.want("after another fail timeout", "a b")
		if !r.send("a", good) {
			t.Error("another try is refused")
		}
		r.want("after it succeeded", "a b")
	})
}

func TestAnAnswerOf500IsNoFailureToMaxFails(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		for range 5 {
			r.send("a", bad)
		}
		r.want("after five 503", "a b")
	})
}

func TestTheOnlyServerIsNeverGivenUp(t *testing.T) {
	s := passive(a)
	s.FailOpen = false
	live(t, s, func(r *rig) {
		for range 5 {
			r.send("a", broken)
		}
		r.want("after five failures", "a")
	})
}

// When all are out and everyone is tried, nobody is refused for being on
// trial, and any success after the timeout brings its server back.
func TestFailingOpenHasNoTrials(t *testing.T) {
	live(t, passive(a, b), func(r *rig) {
		for range 2 {
			r.send("a", broken)
			r.send("b", broken)
		}
		if r.Tier() != "fail-open" {
			t.Fatalf("tier = %s", r.Tier())
		}
		r.after(11 * time.Second)
		r.want("after the fail timeout", "a b")
		first, second := r.Begin(r.server("a")), r.Begin(r.server("a"))
		if !first || !second {
			t.Error("a server is refused as on trial, though nobody else takes the work")
		}
		r.End(r.server("a"), good)
		r.after(0)
		if r.Tier() != "primary" {
			t.Errorf("tier after a success = %s", r.Tier())
		}
	})
}

// With fail-open off a pool whose servers are all out must find back by
// trials.
func TestFailingClosedTriesAgain(t *testing.T) {
	s := passive(a, b)
	s.FailOpen = false
	live(t, s, func(r *rig) {
		for range 2 {
			r.send("a", broken)
			r.send("b", broken)
		}
		r.want("all out", "")
		r.after(11 * time.Second)
		r.want("after the fail timeout", "a b")
		r.send("a", good)
		r.want("after a success", "a b")
		if !r.send("a", good) {
			t.Error("refused after the success")
		}
	})
}

func outliers(servers ...ServerSpec) Spec {
	return Spec{FailOpen: true, Health: health.Config{Outlier: &health.Outlier{Consecutive5xx: 3, ConsecutiveErrors: 2}}, Servers: servers}
}

func TestRowsEjectAServerForATime(t *testing.T) {
	live(t, outliers(a, b), func(r *rig) {
		r.send("a", bad)
		r.send("a", bad)
		r.send("a", good)
		r.send("a", bad)
		r.send("a", bad)
		r.want("a good answer ended the row", "a b")
		r.send("a", bad)
		r.want("after three bad ones in a row", "b")
		if h := r.server("a").Health(); h.Healthy || h.Reason != "ejected: 3 answers of 5xx and 0 errors in a row" || h.Ejected != Now()+30*time.Second {
			t.Errorf("health = %+v", h)
		}
		r.after(30*time.Second - 1)
		r.want("before its time", "b")
		r.after(1)
		r.want("at its time", "a b")
		if h := r.server("a").Health(); !h.Healthy || h.Ejected != 0 || h.Reason != "" {
			t.Errorf("health after it = %+v", h)
		}
		r.send("a", broken)
		r.send("a", Outcome{Kind: TimedOut})
		r.after(30 * time.Second)
		r.want("the second ejection is longer", "b")
		r.after(30 * time.Second)
		r.want("and ends", "a b")
	})
}

func TestNoMoreThanTheShareIsEjected(t *testing.T) {
	d := ServerSpec{Name: "d", Address: addr("10.0.0.4:80"), Weight: 1}
	primary := c
	primary.Backup = false
	s := outliers(a, b, primary, d)
	live(t, s, func(r *rig) {
		for _, n := range []string{"a", "b", "c", "d"} {
			r.send(n, broken)
			r.send(n, broken)
		}
		r.want("all four break", "c d")
		r.send("c", broken) // refused before, asked anew: must not spin
		r.after(30 * time.Second)
		r.want("their time over, the others' turn comes", "a b")
	})
}

func TestTheOutliersOfARemovedPolicyAreBack(t *testing.T) {
	live(t, outliers(a, b), func(r *rig) {
		r.send("a", broken)
		r.send("a", broken)
		r.want("ejected", "b")
		r.Update(Spec{FailOpen: true, Servers: []ServerSpec{a, b}})
		r.want("after the policy was removed", "a b")
		if h := r.server("a").Health(); !h.Healthy || h.Reason != "" {
			t.Errorf("health = %+v", h)
		}
	})
}

func TestOutcomesThatChangeNothingCostNothing(t *testing.T) {
	p := New("web", quiet, func() {})
	s := passive(a, b)
	s.Health.Outlier = &health.Outlier{}
	p.Update(s)
	server := p.Members()[0].Server
	now := Now()
	p.End(server, broken)
	p.End(server, Outcome{Kind: OK, Status: 200}) // ends the row; the failure still counts for MaxFails
	server.mu.Lock()                              // whoever takes it hangs, and the test with it
	defer server.mu.Unlock()
	for name, o := range map[string]Outcome{
		"a success within the fail timeout": {Kind: OK, Status: 200, Now: now},
		"a served connection":               {Kind: OK, Now: now},
		"the client's end":                  {Kind: Cancelled},
	} {
		if n := testing.AllocsPerRun(100, func() {
			p.Begin(server)
			p.End(server, o)
		}); n != 0 {
			t.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}

func TestFailuresDoNotAllocate(t *testing.T) {
	p := New("web", quiet, func() {})
	s := passive(a, b)
	s.Health.MaxFails = 1 << 19
	s.Health.Outlier = &health.Outlier{Consecutive5xx: 1 << 19, ConsecutiveErrors: 1 << 19}
	p.Update(s)
	server := p.Members()[0].Server
	for name, o := range map[string]Outcome{"a failure": broken, "a bad answer": bad, "a success that ends a row": good} {
		if n := testing.AllocsPerRun(1000, func() {
			p.Begin(server)
			p.End(server, o)
		}); n != 0 {
			t.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}

func BenchmarkBeginEnd(b *testing.B) {
	for _, bb := range []struct {
		name string
		prep []Outcome
		o    Outcome
	}{
		{"success", nil, good},
		{"success, a failure counted", []Outcome{broken, good}, good},
		{"failure", nil, broken},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := New("web", quiet, func() {})
			s := passive(a, ServerSpec{Name: "b", Address: addr("10.0.0.2:80"), Weight: 1})
			s.Health.MaxFails, s.Health.FailTimeout = 1_000_000, 24*time.Hour
			s.Health.Outlier = &health.Outlier{Consecutive5xx: -1, ConsecutiveErrors: 1_000_000}
			p.Update(s)
			server := p.Members()[0].Server
			for _, o := range bb.prep {
				p.End(server, o)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Begin(server)
				p.End(server, bb.o)
			}
		})
	}
}
