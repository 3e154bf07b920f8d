package pool

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy/health"
)

// Everything at once, for the race detector: what must hold afterwards is
// that every slot came back, and that the pool finds back to health.
func TestObserveUpdateSelectAndEndAtOnce(t *testing.T) {
	s := Spec{Checked: true, FailOpen: true, Health: health.Config{
		Fall: 2, Rise: 2, MaxFails: 3, FailTimeout: time.Millisecond, SlowStart: time.Second,
		Outlier: &health.Outlier{Consecutive5xx: 3, ConsecutiveErrors: 3, BaseEjection: time.Millisecond, MaxEjection: 5 * time.Millisecond},
	}}
	for i := range 8 {
		s.Servers = append(s.Servers, ServerSpec{Name: strconv.Itoa(i), Address: addr("10.0.0." + strconv.Itoa(i+1) + ":80"), Weight: 1 + i, Backup: i > 5, MaxInFlight: 3})
	}
	var changes sync.Map
	p := New("web", quiet, func() { changes.Store(1, 1) })
	p.Update(s)
	all := slices.Clone(p.Members())
	ctx, cancel := context.WithCancel(t.Context())
	var run, work sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	const rounds = 3000
	for worker := range 4 {
		work.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range rounds {
				sel := p.SelectFrom(p.Persisted([]byte(strconv.Itoa(random.IntN(9)))), 0, Now())
				for server := sel.Next(); server != nil; server = sel.Next() {
					if !p.Begin(server) {
						continue
					}
					server.Connections.Add(1)
					kind := OutcomeKind(random.IntN(int(Cancelled) + 1))
					p.End(server, Outcome{Kind: kind, Status: 200 + random.IntN(2)*300})
					if kind == OK {
						break
					}
				}
			}
		})
	}
	work.Go(func() {
		random := rand.New(rand.NewPCG(7, 1))
		for range rounds {
			p.Observe(all[random.IntN(len(all))].Server, random.IntN(3) > 0, "", time.Unix(1, 0))
		}
	})
	work.Go(func() {
		random := rand.New(rand.NewPCG(8, 1))
		for range rounds / 30 {
			next := s
			next.Checked = random.IntN(4) > 0
			if next.Health.MaxFails = random.IntN(2); random.IntN(2) > 0 {
				next.Health.Outlier = nil
			}
			next.Servers = slices.Clone(s.Servers[:1+random.IntN(len(s.Servers))])
			next.Servers[0].State = []health.Admin{health.InService, health.Draining, health.Maintenance}[random.IntN(3)]
			p.Update(next)
		}
	})
	work.Go(func() {
		for range rounds / 10 {
			_, _ = p.Warning(), p.Tier()
			for _, m := range p.Members() {
				_ = m.Health()
			}
		}
	})
	work.Wait()
	cancel()
	run.Wait()

	p.Update(s)
	for _, m := range append(all, p.Members()...) {
		if n := m.InFlight.Load(); n != 0 {
			t.Errorf("server %s has %d in flight, and nobody there", m.Name, n)
		}
	}
	for range 2 {
		for _, m := range p.Members() {
			p.Observe(m.Server, true, "ok", time.Unix(2, 0))
		}
	}
	p.step(Now() + time.Hour) // ejections are over, trials are due
	for _, m := range p.Members() {
		if p.Begin(m.Server) {
			p.End(m.Server, Outcome{Kind: OK, Status: 200, Now: Now() + time.Hour})
		} else {
			t.Errorf("server %s is stuck: %+v", m.Name, m.Health())
		}
	}
	p.step(Now() + time.Hour)
	for _, m := range p.Members() {
		if !m.Health().Healthy || m.gate.Load() != open {
			t.Errorf("server %s has not found back: %+v, gate %d", m.Name, m.Health(), m.gate.Load())
		}
	}
}
