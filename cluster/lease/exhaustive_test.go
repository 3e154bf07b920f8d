package lease

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// small is a world small enough to try every order of events in: two claimants
// and a third voice. Clocks go by steps, at the two ends of what is allowed.
type small struct {
	m     map[string]*Machine // absent: crashed
	now   map[string]time.Duration
	fly   []flight
	left  map[string]int // how often each fault may yet happen
	trace []string
}

var smallRates = map[string]time.Duration{"n1": 900, "n2": 1100, "n3": 1100}

// smallSession is that of a claimant to a member; a break makes the next one.
func (s *small) smallSession(from, to string) Session {
	return Session(from[1]-'0')*100 + Session(to[1]-'0')*10 + Session(2-s.left["break "+from+to])
}

func newSmall() *small {
	s := &small{m: map[string]*Machine{}, now: map[string]time.Duration{}, left: map[string]int{"break n1n3": 1, "crash n1": 1, "step": 4, "give n1": 1}}
	for i, name := range []string{"n1", "n2", "n3"} {
		s.m[name] = New(Setup{Self: name, Life: uint64(i), Chance: func(time.Duration) time.Duration { return 0 }}, 0)
		s.m[name].SetMembers([]string{"n1", "n2", "n3"}, 0)
		s.now[name] = 2 * MaxTerm // it has been quiet for long enough
	}
	for _, name := range []string{"n1", "n2"} {
		s.m[name].SetWant(resource, want, s.now[name])
		s.collect(name)
	}
	return s
}

func (s *small) collect(name string) {
	for _, e := range s.m[name].Take() {
		if e.Message.Kind != Release { // losing one is what matters more
			s.fly = append(s.fly, flight{from: name, to: e.To, session: s.smallSession(name, e.To), msg: e.Message})
		}
	}
}

func (s *small) clone() *small {
	c := &small{m: map[string]*Machine{}, now: maps.Clone(s.now), fly: slices.Clone(s.fly), left: maps.Clone(s.left), trace: slices.Clone(s.trace)}
	for name, m := range s.m {
		copied := *m
		copied.voices, copied.claims, copied.out = map[string]*voice{}, map[string]*claim{}, nil
		for k, v := range m.voices {
			one := *v
			copied.voices[k] = &one
		}
		for k, v := range m.claims {
			one := *v
			one.granted, one.refused, one.sent = maps.Clone(v.granted), maps.Clone(v.refused), slices.Clone(v.sent)
			copied.claims[k] = &one
		}
		c.m[name] = &copied
	}
	return c
}

// next are all worlds that may follow.
func (s *small) next() []*small {
	var out []*small
	add := func(what string, f func(*small)) {
		c := s.clone()
		c.trace = append(c.trace, what)
		f(c)
		out = append(out, c)
	}
	for i, f := range s.fly {
		add(fmt.Sprintf("%s %s->%s", f.msg.Kind, f.from, f.to), func(c *small) {
			c.fly = slices.Delete(c.fly, i, i+1)
			m := c.m[f.to]
			if m == nil {
				return
			}
			if f.ended {
				m.SessionEnded(f.session, c.now[f.to])
			} else {
				m.Receive(f.from, f.session, f.msg, c.now[f.to])
			}
			c.collect(f.to)
		})
	}
	for _, fault := range []string{"step", "break n1n3", "crash n1", "give n1"} {
		if s.left[fault] == 0 || s.m["n1"] == nil && fault != "step" {
			continue
		}
		add(fault, func(c *small) {
			old := c.smallSession("n1", "n3")
			c.left[fault]--
			switch fault {
			case "step":
				for name, rate := range smallRates {
					c.now[name] += 77 * time.Millisecond * rate / 1000
				}
				for _, name := range []string{"n1", "n2"} {
					if m := c.m[name]; m != nil {
						m.Tick(c.now[name])
						c.collect(name)
					}
				}
			case "break n1n3":
				c.m["n1"].PeerLost("n3", c.now["n1"])
				c.collect("n1")
				c.fly = append(c.fly, flight{from: "n1", to: "n3", session: old, ended: true})
			case "crash n1":
				delete(c.m, "n1")
				c.fly = append(c.fly, flight{from: "n1", to: "n3", session: old, ended: true})
			case "give n1":
				c.m["n1"].SetWant(resource, Want{}, c.now["n1"])
				c.collect("n1")
			}
		})
	}
	return out
}

func (s *small) holders() (names []string) {
	for name, m := range s.m {
		if m.State(resource, s.now[name]).Held {
			names = append(names, name)
		}
	}
	return names
}

func TestEveryOrderOfFewEvents(t *testing.T) {
	depth := 6
	if testing.Short() {
		depth = 5
	}
	worlds, held := 0, map[string]bool{}
	var explore func(s *small, depth int)
	explore = func(s *small, depth int) {
		worlds++
		names := s.holders()
		if len(names) > 1 {
			t.Fatalf("%v hold at one time, after %q", names, s.trace)
		}
		for _, name := range names {
			held[name] = true
		}
		if depth > 0 {
			for _, n := range s.next() {
				explore(n, depth-1)
			}
		}
	}
	explore(newSmall(), depth)
	t.Logf("%d worlds", worlds)
	if !held["n1"] || !held["n2"] {
		t.Fatalf("only %v ever held: the events reach too little", held)
	}
}

// n2 tries while n1 already has two voices, with a higher epoch, and gives way: it
// must back n1 then, or the VIP would move when n3, which does not hold it, dies.
func TestAHolderGetsTheVoiceOfOneThatFailedWithAHigherEpoch(t *testing.T) {
	members := []string{"n1", "n2", "n3"}
	now := 2 * MaxTerm
	m := make(map[string]*Machine)
	for _, name := range members {
		m[name] = New(Setup{Self: name, Life: 1, Chance: func(time.Duration) time.Duration { return 0 }}, 0)
		m[name].SetMembers(members, 0)
	}
	now += MaxTerm
	carry := func(from string, hear ...string) {
		for _, e := range m[from].Take() {
			if slices.Contains(hear, e.To) {
				m[e.To].Receive(from, 1, e.Message, now)
			}
		}
	}
	want := Want{Hold: true, Term: 250 * time.Millisecond, Renew: 80 * time.Millisecond, Rank: 2}
	m["n2"].SetWant("web", Want{Hold: true, Term: want.Term, Renew: want.Renew, Rank: 1}, now)
	m["n2"].SetWant("web", Want{}, now) // an attempt, which raises its epochs
	m["n2"].Take()
	m["n1"].SetWant("web", want, now)
	carry("n1", "n3")
	m["n2"].SetWant("web", Want{Hold: true, Term: want.Term, Renew: want.Renew, Rank: 1}, now)
	carry("n2", "n3")
	carry("n3", "n1", "n2")
	if s := m["n1"].State("web", now); !s.Held {
		t.Fatalf("n1 does not hold: %+v", s)
	}
	now += want.Renew
	m["n2"].Tick(now) // finds that it came too late
	m["n2"].Take()
	for range 3 {
		m["n1"].Tick(now)
		carry("n1", "n2", "n3")
		carry("n2", "n1")
		carry("n3", "n1")
		now += want.Renew
	}
	m["n1"].PeerLost("n3", now)
	if s := m["n1"].State("web", now); !s.Held {
		t.Errorf("n1 holds no more when n3 is gone: %+v", s)
	}
}
