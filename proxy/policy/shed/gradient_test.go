package shed

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// proxyTo sends requests to a station under a gate that follows a gradient.
type proxyTo struct {
	w        *world
	server   *station
	gate     *Gate
	gradient *Gradient
	served   int
	latency  time.Duration // sum of requests served
	ahead    time.Duration // its clock
}

func newProxyTo(w *world, server *station, a Adaptive, queue int) *proxyTo {
	p := &proxyTo{w: w, server: server, gradient: NewGradient(a)}
	p.gate = NewGate(p.gradient.Limit(), queue, 100*ms)
	return p
}

func (p *proxyTo) request() {
	w := &Waiter{}
	w.Wake = func() {
		if w.Claim() {
			p.send()
		}
	}
	switch p.gate.Admit(w, p.w.now) {
	case Admitted:
		p.send()
	case Queued:
		p.w.after(100*ms, func() {
			if p.gate.Cancel(w, p.w.now) == Admitted {
				p.send()
			}
		})
	}
}

func (p *proxyTo) send() {
	began := p.w.now
	p.server.serve(func() {
		took := p.w.now - began
		p.served++
		p.latency += took
		if l, closed := p.gradient.Sample(took, p.gate.InFlight(), p.w.now+p.ahead); closed {
			wake(p.gate.SetLimit(l, p.w.now, nil)...)
		}
		wake(p.gate.Release(p.w.now))
	})
}

// figures of a span of time.
type figures struct {
	limit   float64 // mean, looked at every 100 ms
	rate    float64 // served a second
	latency time.Duration
}

func (p *proxyTo) watch(d time.Duration) (f figures) {
	p.served, p.latency = 0, 0
	n := 0.
	for end := p.w.now + d; p.w.now < end; n++ {
		p.w.run(p.w.now + 100*ms)
		f.limit += float64(p.gradient.Limit())
	}
	f.limit /= n
	f.rate = float64(p.served) / d.Seconds()
	f.latency = p.latency / time.Duration(max(p.served, 1))
	return f
}

// within checks that a figure is between two bounds, both stated.
func within[T float64 | time.Duration](t *testing.T, what string, got, least, most T) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: %v, want %v to %v", what, got, least, most)
	}
}

// Under twice the load that the servers can bear, the limit settles a little
// above what they can work on at one time, so that they are busy and queue
// little. Without a limit, latency would grow for as long as the load lasts.
func TestGradientFindsTheKnee(t *testing.T) {
	tests := []struct {
		name    string
		workers int
		service time.Duration
		a       Adaptive
	}{
		{"many workers", 200, 50 * ms, Adaptive{}},
		{"few workers", 20, 20 * ms, Adaptive{Min: 3}},
		{"slow requests", 100, time.Second, Adaptive{}},
		{"a narrow tolerance", 40, 50 * ms, Adaptive{Tolerance: 1.1}},
		{"a wide tolerance", 40, 50 * ms, Adaptive{Tolerance: 2.5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			s := &station{w: w, workers: tt.workers, service: tt.service}
			p := newProxyTo(w, s, tt.a, 100)
			w.arrivals(func() float64 { return 2 * s.capacity() }, p.request)
			p.watch(20*time.Second + 20*tt.service)
			f := p.watch(30 * time.Second)
			t.Logf("limit %.0f, served a second %.0f of %.0f, latency %v", f.limit, f.rate, s.capacity(), f.latency)
			tolerance := tt.a.withDefaults().Tolerance
			within(t, "limit", f.limit, 0.7*float64(tt.workers), 1.4*tolerance*float64(tt.workers))
			within(t, "served a second", f.rate, 0.8*s.capacity(), 1.1*s.capacity())
			within(t, "latency", f.latency, tt.service*9/10, time.Duration(1.5*tolerance*float64(tt.service)))
		})
	}
}

// The servers lose half of their workers, get them back, become twice as slow,
// and as fast as before: each time the limit follows within a minute.
func TestGradientFollowsTheServers(t *testing.T) {
	w := newWorld(2)
	s := &station{w: w, workers: 40, service: 50 * ms}
	p := newProxyTo(w, s, Adaptive{}, 100)
	w.arrivals(func() float64 { return 1200 }, p.request)
	steps := []struct {
		name    string
		workers int
		service time.Duration
	}{
		{"at first", 40, 50 * ms},
		{"half of the workers", 20, 50 * ms},
		{"all of the workers", 40, 50 * ms},
		{"twice as slow: the minimum does not come back", 40, 100 * ms},
		{"as fast as before", 40, 50 * ms},
		{"five times as slow", 40, 250 * ms},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			s.workers, s.service = step.workers, step.service
			p.watch(60 * time.Second)
			f := p.watch(30 * time.Second)
			t.Logf("limit %.0f, served a second %.0f of %.0f, latency %v", f.limit, f.rate, s.capacity(), f.latency)
			within(t, "limit", f.limit, 0.7*float64(step.workers), 2.2*float64(step.workers))
			within(t, "served a second", f.rate, 0.8*s.capacity(), 1.1*s.capacity())
			within(t, "latency", f.latency, step.service*9/10, step.service*22/10)
		})
	}
}

// Three nodes share the servers, and each sees the others' queue. With clocks
// that agree as NTP lets them, they don't talk each other into ever longer
// queues, however long the overload lasts.
func TestNodesDoNotRaiseEachOthersBaseline(t *testing.T) {
	for _, skew := range []time.Duration{0, 200 * ms} {
		t.Run("clocks apart by "+skew.String(), func(t *testing.T) {
			w := newWorld(3)
			s := &station{w: w, workers: 40, service: 50 * ms}
			var nodes []*proxyTo
			for i := range 3 {
				p := newProxyTo(w, s, Adaptive{Min: 4}, 40)
				p.ahead = time.Duration(i) * skew
				nodes = append(nodes, p)
				w.arrivals(func() float64 { return 480 }, p.request)
			}
			w.run(10 * time.Minute)
			for _, p := range nodes {
				p.served, p.latency = 0, 0
			}
			w.run(13 * time.Minute)
			served, latency := 0, time.Duration(0)
			for _, p := range nodes {
				served += p.served
				latency += p.latency
			}
			rate, mean := float64(served)/180, latency/time.Duration(served)
			t.Logf("served a second %.0f of %.0f, latency %v", rate, s.capacity(), mean)
			within(t, "served a second", rate, 0.8*s.capacity(), 1.1*s.capacity())
			within(t, "latency", mean, 45*ms, 120*ms)
		})
	}
}

func TestUnusedLimitDoesNotGrow(t *testing.T) {
	w := newWorld(4)
	s := &station{w: w, workers: 100, service: 50 * ms}
	p := newProxyTo(w, s, Adaptive{}, 0)
	w.arrivals(func() float64 { return 600 }, p.request) // 30 in flight, rarely 50
	p.watch(2 * time.Minute)
	f := p.watch(time.Minute)
	within(t, "limit", f.limit, 35, 120)
	within(t, "served a second", f.rate, 560, 640)
}

// Whatever is measured, the limit is within its bounds, and a probe ends.
func TestGradientStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Adaptive{
			Min:       rapid.IntRange(1, 50).Draw(t, "min"),
			Tolerance: rapid.Float64Range(1, 3).Draw(t, "tolerance"),
		}
		a.Max = rapid.IntRange(a.Min, 200).Draw(t, "max")
		g := NewGradient(a)
		now := time.Duration(0)
		for range rapid.IntRange(1, 40).Draw(t, "spans") {
			latency := time.Duration(rapid.Int64Range(-5, int64(time.Minute)).Draw(t, "latency"))
			every := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "every"))
			share := rapid.Float64Range(0, 2).Draw(t, "in flight")
			for range rapid.IntRange(1, 200).Draw(t, "samples") {
				now += every
				l, _ := g.Sample(latency, int(share*float64(g.Limit())), now)
				if l < a.Min || l > a.Max || l != g.Limit() {
					t.Fatalf("limit %d (%d), want %d to %d", l, g.Limit(), a.Min, a.Max)
				}
			}
		}
		if g.control.probe == 0 {
			return
		}
		g.Sample(time.Second, 1, now+time.Hour)
		if g.control.probe != 0 {
			t.Fatal("a probe goes on after an hour without samples")
		}
	})
}

// A probe lowers the limit. If the requests stop in the middle of it, the next
// ones, whenever they come, end it.
func TestProbeWithoutRequestsIsGivenUp(t *testing.T) {
	g := NewGradient(Adaptive{Max: 100})
	now := unixTime
	for range 20 * 1000 {
		if now += ms; g.control.probe > 0 {
			break
		}
		g.Sample(10*ms, g.Limit(), now)
	}
	if g.control.probe == 0 || g.Limit() >= int(g.control.limit) {
		t.Fatalf("limit %d without a probe, after 20 s at the limit", g.Limit())
	}
	baseline := g.control.baseline
	g.Sample(time.Second, 1, now+time.Hour)
	if g.control.probe > 0 || g.Limit() != int(g.control.limit) || g.control.baseline != baseline {
		t.Errorf("limit %d of %v, baseline %v (before: %v): the probe goes on, or learned from nothing",
			g.Limit(), g.control.limit, g.control.baseline, baseline)
	}
}

func TestFewLongPollsMoveTheLatencyLittle(t *testing.T) {
	g := NewGradient(Adaptive{})
	g.ends.Store(int64(time.Hour))
	for i := range 1000 {
		d := 50 * ms
		if i%50 == 0 {
			d = 30 * time.Second
		}
		g.Sample(d, 1, 0)
	}
	w := g.window.Load()
	mean := time.Duration(antilogarithm(float64(w&(1<<sumBits-1)) / float64(w>>sumBits)))
	within(t, "mean of 50 ms with 2 % of 30 s", mean, 50*ms, 60*ms)
}

func TestLogarithm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(1).Draw(t, "d"))
		back := antilogarithm(float64(logarithm(d)))
		if math.Abs(back/float64(d)-1) > 1./256 {
			t.Fatalf("%d came back as %.0f", d, back)
		}
		if d > 1 && logarithm(d) < logarithm(d-1) {
			t.Fatalf("the logarithm falls at %d", d)
		}
	})
	for _, d := range []time.Duration{-1, 0, 1} {
		if l := logarithm(d); l != 0 {
			t.Errorf("logarithm(%d) = %d, want 0", d, l)
		}
	}
}

func TestRetunedBoundsHoldAfterAWindow(t *testing.T) {
	g := NewGradient(Adaptive{Min: 50})
	g.Retune(Adaptive{Min: 5, Max: 20})
	now := time.Duration(0)
	for range 500 {
		now += 10 * ms
		g.Sample(10*ms, 20, now)
	}
	if l := g.Limit(); l != 20 {
		t.Errorf("limit %d, want the new maximum of 20, which is used", l)
	}
}

func TestGradientUnderStress(t *testing.T) {
	a := Adaptive{Min: 5, Max: 100}
	g := NewGradient(a)
	var clock, closed atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range 20_000 {
				now := time.Duration(clock.Add(int64(100 * time.Microsecond)))
				l, c := g.Sample(time.Duration(r.IntN(int(100*ms))), r.IntN(100), now)
				if l < a.Min || l > a.Max {
					t.Errorf("limit %d, want %d to %d", l, a.Min, a.Max)
				}
				if c {
					closed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// 16 s, in windows of 100 ms to 400 ms, but for a probe.
	if n := closed.Load(); n < 16 || n > 160 {
		t.Errorf("%d windows were closed, want about one each 150 ms", n)
	}
}

func TestSampleDoesNotAllocate(t *testing.T) {
	g := NewGradient(Adaptive{})
	var now time.Duration
	if n := testing.AllocsPerRun(10_000, func() {
		now += ms
		g.Sample(10*ms, 10, now)
	}); n != 0 {
		t.Errorf("a sample allocates %v times, want 0", n)
	}
}

func BenchmarkGradientSample(b *testing.B) {
	g := NewGradient(Adaptive{})
	var now time.Duration
	b.ReportAllocs()
	for b.Loop() {
		now += 10 * time.Microsecond
		g.Sample(10*ms, 10, now)
	}
}

func BenchmarkGradientSampleParallel(b *testing.B) {
	g := NewGradient(Adaptive{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var now time.Duration
		for pb.Next() {
			now += 10 * time.Microsecond
			g.Sample(10*ms, 10, now)
		}
	})
}
