package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// audit checks a picker's accounts against the members' records, while nothing
// changes them.
func audit(t interface {
	Helper()
	Errorf(string, ...any)
}, p Picker, members []Member,
) {
	t.Helper()
	switch p := p.(type) {
	case *hashed:
		sum := int64(0)
		for _, m := range members {
			sum += m.Load.InFlight()
		}
		if got := p.inFlight.Load(); got != sum {
			t.Errorf("the hash counts %d in flight, its members %d", got, sum)
		}
	case *leastConn:
		for i, m := range members {
			if got, want := math.Float32frombits(p.costs[i].Load()), float32(m.Load.InFlight())/float32(m.weight()); got != want {
				t.Errorf("member %d has the cost %v, want %v", i, got, want)
			}
		}
		for g := range p.groups {
			lowest, even := uint32(dearest), uint64(0)
			for i := range 1 << p.shift {
				c := p.costs[g<<p.shift+i].Load()
				if c < lowest {
					lowest, even = c, 0
				}
				if c == lowest {
					even++
				}
			}
			n := note(p.groups[g].Load())
			if n.cost() != lowest || n.even() != even || p.costs[g<<p.shift+n.position()].Load() != lowest {
				t.Errorf("group %d notes the cost %v of %d and %d others, its best is %v of %d",
					g, math.Float32frombits(n.cost()), n.position(), n.even()-1, math.Float32frombits(lowest), even)
			}
		}
	}
}

// Requests come and go while members, weights and algorithms change under
// them; nothing that is counted may drift.
func TestCountsStayRightWhilePickersAreReplaced(t *testing.T) {
	const workers, changes, held = 4, 600, 50
	everyone := pool(equal(100)...)
	type view struct {
		picker  Picker
		members []Member
	}
	var current atomic.Pointer[view]
	current.Store(&view{New(Config{Algorithm: LeastConn}, everyone, nil), everyone})
	var serving sync.WaitGroup
	var stop atomic.Bool
	open := make([][]*Load, workers)
	for w := range workers {
		serving.Go(func() {
			for n := 0; !stop.Load(); n++ {
				v := current.Load()
				l := v.members[v.picker.Pick(rand.Uint64(), 0)].Load
				l.Begin()
				open[w] = append(open[w], l)
				if len(open[w]) > held {
					i := n % held
					open[w][i].End()
					open[w][i] = open[w][held]
					open[w] = open[w][:held]
				}
			}
		})
	}
	for i := range changes {
		c := []Config{{Algorithm: LeastConn}, {Algorithm: SourceHash}, {Algorithm: LeastConn}, {Algorithm: RandomTwo}}[i/20%4]
		m := append([]Member(nil), everyone[i/10%7:len(everyone)-i/10%5]...)
		if c.Algorithm != SourceHash { // a table takes the time of many changes
			m[i%len(m)].Weight = 1 + i%256
		}
		current.Store(&view{New(c, m, current.Load().picker), m})
	}
	stop.Store(true)
	serving.Wait()

	want := make(map[*Load]int64)
	for _, loads := range open {
		for _, l := range loads {
			want[l]++
		}
	}
	for i, m := range everyone {
		if got := m.Load.InFlight(); got != want[m.Load] {
			t.Errorf("member %d has %d in flight, want %d", i, got, want[m.Load])
		}
	}
	v := current.Load()
	for _, c := range algorithms {
		p := New(c, v.members, v.picker)
		audit(t, p, v.members)
		v.picker = p
	}
}

// Short bursts on a few servers, since a slip heals with the next change of the
// same server; with and without pickers being replaced under them.
func TestAccountsAreRightAfterConcurrentRequests(t *testing.T) {
	const rounds, workers, requests = 1500, 3, 200
	for _, c := range []Config{{Algorithm: LeastConn}, {Algorithm: SourceHash}} {
		for _, replacements := range []int{0, 20} {
			t.Run(fmt.Sprintf("%s, %d replacements", c.Algorithm, replacements), func(t *testing.T) {
				m := pool(1, 1, 1, 1)
				p := New(c, m, nil)
				for range rounds {
					var all sync.WaitGroup
					for w := range workers {
						all.Go(func() {
							for n := range requests {
								m[n%2].Load.Begin()
								m[(n+w)%4].Load.Begin()
								m[n%2].Load.End()
								m[(n+w)%4].Load.End()
							}
							m[w].Load.Begin()
						})
					}
					all.Go(func() {
						for range replacements {
							p = New(c, m, p)
						}
					})
					all.Wait()
					audit(t, p, m)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

func TestServersThatLeaveLetGoOfThePicker(t *testing.T) {
	for _, c := range []Config{{Algorithm: LeastConn}, {Algorithm: SourceHash}} {
		t.Run(string(c.Algorithm), func(t *testing.T) {
			m := pool(1, 1, 1)
			p := New(c, m, nil)
			m[2].Load.Begin()
			p = New(c, m[:2], p)
			if m[2].Load.seat.Load() != nil {
				t.Error("the record of the server that left still tells the picker")
			}
			audit(t, p, m[:2])
			m[2].Load.End()
			audit(t, p, m[:2])
			m[2].Load.Begin()
			p = New(c, m, p)
			audit(t, p, m)
			New(Config{}, m, p)
			for i := range m {
				if m[i].Load.seat.Load() != nil {
					t.Errorf("member %d's record still tells the picker of before", i)
				}
			}
		})
	}
}
