package pool

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// slow is a checked pool with a slow start of 100 s, of equal servers that
// are healthy.
func slow(t *testing.T, servers int, f func(r *rig)) {
	t.Helper()
	s := Spec{Checked: true, FailOpen: true, Health: health.Config{Fall: 1, Rise: 1, SlowStart: 100 * time.Second}}
	for i := range servers {
		one := a
		one.Name, one.Address, one.MaxInFlight = strconv.Itoa(i), addr("10.0.0."+strconv.Itoa(i+1)+":80"), 50
		s.Servers = append(s.Servers, one)
	}
	live(t, s, func(r *rig) {
		for _, m := range r.Members() {
			r.check(m.Name, true)
		}
		f(r)
	})
}

func (r *rig) check(name string, ok bool) {
	r.t.Helper()
	r.Observe(r.server(name), ok, "", time.Now())
	r.after(0)
}

// request sends one where it belongs, and says where that was.
func (r *rig) request() string {
	r.t.Helper()
	sel := r.Select(0, Now())
	s := sel.Next()
	if s == nil || !r.send(s.Name, good) {
		r.t.Fatal("nobody takes the request")
	}
	return s.Name
}

func (r *rig) wantWeights(what string, want ...float64) {
	r.t.Helper()
	for i, m := range r.Members() {
		if math.Abs(m.Effective-want[i]) > 1e-9 {
			r.t.Errorf("%s: effective weight of %s = %v, want %v", what, m.Name, m.Effective, want[i])
		}
	}
}

func TestARecoveredServerRampsUp(t *testing.T) {
	slow(t, 3, func(r *rig) {
		r.wantWeights("at start nobody ramps", 1, 1, 1)
		r.check("2", false)
		r.wantWeights("down", 1, 1, 0)
		r.check("2", true)
		r.wantWeights("back", 1, 1, 0.1)
		counts := map[string]int{}
		for range 210 {
			counts[r.request()]++
		}
		if counts["0"] != 100 || counts["1"] != 100 || counts["2"] != 10 {
			t.Errorf("of 210 requests went %v, want a tenth of a share to 2", counts)
		}
		s := r.server("2")
		for range 5 {
			if !r.Begin(s) {
				t.Fatal("refused below a tenth of the limit")
			}
		}
		if r.Begin(s) {
			t.Error("takes a sixth request at once, with a limit of 50 and a factor of a tenth")
		}
		for range 5 {
			r.End(s, good)
		}
		for i := 1; i <= 100; i++ {
			r.after(time.Second)
			r.send("2", good)
		}
		r.wantWeights("after the slow start", 1, 1, 1)
		if r.view.Load().ramping {
			t.Error("the ramp has not ended")
		}
	})
}

func TestRampsChangeThePoolAtMostOnceASecond(t *testing.T) {
	slow(t, 3, func(r *rig) {
		r.check("2", false)
		r.check("2", true)
		views := 0
		last := r.view.Load()
		for range 10_000 { // of 10 ms: 100 s
			r.after(10 * time.Millisecond)
			r.send("2", good)
			r.check("0", true)
			r.poke() // whatever else there is to look at
			if v := r.view.Load(); v != last {
				views, last = views+1, v
			}
		}
		if views < 95 || views > 100 {
			t.Errorf("%d views in 100 s, want one a second", views)
		}
		views = 0
		for range 1000 {
			r.after(time.Second)
			if v := r.view.Load(); v != last {
				views, last = views+1, v
			}
		}
		if views > 1 {
			t.Errorf("%d views after the ramp, want at most the one that ended it", views)
		}
	})
}

// Requests that are rarer than the changes of the factors: the layout waits
// for the ramping server's turn. So the server gets one at least in as many
// requests as its share says, and half as many more where the layout changed
// between. (Without the wait, one of two servers got none in 40.)
func TestRareRequestsDoNotStarveARampingServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := New("web", quiet, func() {})
		s := Spec{Checked: true, FailOpen: true, Health: health.Config{
			Fall: 1, Rise: 1, SlowStart: time.Duration(rapid.IntRange(100, 3000).Draw(t, "slow start")) * time.Second,
		}}
		sum := 0
		for i, w := range rapid.SliceOfN(rapid.IntRange(1, 20), 2, 6).Draw(t, "weights") {
			one := a
			one.Name, one.Address, one.Weight = strconv.Itoa(i), addr("10.0.0."+strconv.Itoa(i+1)+":80"), w
			s.Servers = append(s.Servers, one)
			sum += w
		}
		now := Now()
		check := func(m Member, ok bool) {
			p.Observe(m.Server, ok, "", time.Unix(1, 0))
			p.step(now)
		}
		p.Update(s)
		for _, m := range p.Members() {
			check(m, true)
		}
		ramping := p.Members()[0]
		check(ramping, false)
		check(ramping, true)
		share := (10*(sum-ramping.Weight)+ramping.Weight)/ramping.Weight + 1 // one in so many, at a tenth
		gap := time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds between two requests")) * time.Second
		waited := 0
		for end := now + s.Health.SlowStart; now < end; {
			now += gap
			p.step(now)
			sel := p.Select(0, Now())
			server := sel.Next()
			server.Connections.Add(1)
			if waited++; server == ramping.Server {
				waited = 0
			}
			if 2*waited > 3*share+2 {
				t.Fatalf("%d requests in a row, and none for the ramping server, whose share is one in %d at least", waited, share)
			}
		}
	})
}

func TestServersThatRampTogetherTakeTheWholeWork(t *testing.T) {
	slow(t, 3, func(r *rig) {
		for _, n := range []string{"0", "1", "2"} {
			r.check(n, false)
		}
		for _, n := range []string{"0", "1", "2"} {
			r.check(n, true)
		}
		r.wantWeights("all recover at one time", 1, 1, 1)
		for range 50 {
			if !r.Begin(r.server("0")) {
				t.Fatal("refused below the limit, though nobody is warm")
			}
		}
		for range 50 {
			r.End(r.server("0"), good)
		}
		r.check("2", false)
		r.after(45 * time.Second)
		r.check("2", true)
		r.wantWeights("one comes later", 1, 1, 0.1/(0.1+0.9*0.45))
	})
}

func TestTheLastWarmServerLeaves(t *testing.T) {
	slow(t, 3, func(r *rig) {
		r.check("1", false)
		r.check("2", false)
		r.check("1", true)
		r.check("2", true)
		r.wantWeights("two ramp beside a warm one", 1, 0.1, 0.1)
		r.check("0", false)
		r.wantWeights("the warm one fails", 0, 1, 1)
	})
}

func TestAServerThatJoinsWarmOnesRamps(t *testing.T) {
	slow(t, 2, func(r *rig) {
		s := r.spec
		joins := a
		joins.Name, joins.Address = "2", addr("10.0.0.3:80")
		s.Servers = append(slices.Clone(s.Servers), joins)
		r.Update(s)
		r.wantWeights("not checked yet", 1, 1, 0)
		r.check("2", true)
		r.wantWeights("checked", 1, 1, 0.1)
		s.Servers = slices.Clone(s.Servers)
		s.Servers[0].State = health.Draining
		r.Update(s)
		s.Servers = slices.Clone(s.Servers)
		s.Servers[0].State = health.InService
		s.Servers[1].State = health.Maintenance
		r.Update(s)
		r.wantWeights("one is back from draining, one under maintenance", 1, 0, 0.1)
		s.Servers = slices.Clone(s.Servers)
		s.Servers[1].State = health.InService
		r.Update(s)
		r.check("1", true)
		r.wantWeights("back from maintenance", 1, 0.1, 0.1)
	})
}

func TestAnEjectedServerRampsWhenItIsBack(t *testing.T) {
	s := outliers(a, b)
	s.Health.SlowStart = 100 * time.Second
	live(t, s, func(r *rig) {
		r.send("a", broken)
		r.send("a", broken)
		r.after(30 * time.Second)
		if e := r.member("a").Effective; e != 0.1 {
			t.Errorf("effective weight = %v, want 0.1", e)
		}
	})
}

func TestTheEndOfARampWaitsForNobody(t *testing.T) {
	slow(t, 3, func(r *rig) {
		r.check("1", false)
		r.check("2", false)
		r.check("1", true)
		r.after(50 * time.Second)
		r.check("2", true)
		r.after(51 * time.Second) // without a single request
		r.wantWeights("the first one's ramp is over", 1, 1, 0.55)
	})
}
