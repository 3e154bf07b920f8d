package lease

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world runs machines as processes on clocks that drift, over a network that
// loses, delays and reorders. Its time is the true one.
type world struct {
	now      time.Duration
	names    []string
	procs    map[string]*process
	flying   []flight
	sessions Session
	lives    uint64
	chance   func(int) int // from 0 to below
	cut      map[[2]string]bool
	worst    time.Duration // the longest delay of a message
	lossy    int           // percent
	forgets  bool          // a node's next process does not hear what the one before granted
}

type process struct {
	m     *Machine // nil: it is down
	rate  int64    // of its clock, in thousandths
	base  time.Duration
	by    map[string]Session // the sessions that it asks by, by member
	dead  map[Session]bool   // sessions that ended here
	gone  map[Session]bool   // those of a process before, whose claimants may not know
	since time.Duration
}

type flight struct {
	at       time.Duration
	from, to string
	life     uint64 // of the sender
	session  Session
	msg      Message
	ended    bool // the end of the session rather than a message
}

const resource = "web"

var want = Want{Hold: true, Term: 250 * time.Millisecond, Renew: 80 * time.Millisecond}

func newWorld(n int, chance func(int) int) *world {
	w := &world{procs: map[string]*process{}, chance: chance, cut: map[[2]string]bool{}, worst: 5 * time.Millisecond}
	for i := range n {
		w.names = append(w.names, fmt.Sprintf("n%d", i+1))
	}
	for _, name := range w.names {
		w.procs[name] = &process{rate: 900 + int64(chance(201))}
		w.start(name)
	}
	return w
}

func (w *world) local(p *process) time.Duration {
	return p.base + (w.now-p.since)*time.Duration(p.rate)/1000
}

func (w *world) start(name string) {
	p := w.procs[name]
	w.lives++
	p.base, p.since = time.Duration(w.chance(1000))*time.Millisecond+time.Hour, w.now
	p.m = New(Setup{Self: name, Life: w.lives, Chance: func(below time.Duration) time.Duration {
		return time.Duration(w.chance(int(below/time.Millisecond)+1)) * time.Millisecond
	}}, w.local(p))
	p.m.SetMembers(w.names, w.local(p))
	p.m.SetWant(resource, want, w.local(p))
	p.by, p.dead, p.gone = map[string]Session{}, map[Session]bool{}, map[Session]bool{}
	w.sendFrom(name)
}

// crash ends a process: its sessions end at the others, sooner or later.
func (w *world) crash(name string) {
	p := w.procs[name]
	p.m = nil
	for peer, s := range p.by {
		w.end(name, peer, s)
	}
}

// upgrade has another process of the node, on the same clock, go on where this one
// ends.
func (w *world) upgrade(name string) error {
	p := w.procs[name]
	w.lives++
	next := New(Setup{Self: name, Life: w.lives, Chance: p.m.chance}, w.local(p))
	next.SetMembers(w.names, w.local(p))
	handed := p.m.HandOver(w.local(p))
	if w.forgets {
		handed = fmt.Appendf(nil, `{"view":%d,"quiet":0}`, next.view)
	}
	w.sendFrom(name) // what is given back, to be kept
	asked := p.by
	// What others asked by, and is on its way, reaches nobody.
	for _, other := range w.names {
		if s, ok := w.procs[other].by[name]; ok {
			p.dead[s], p.gone[s] = true, true
			if !w.cut[[2]string{name, other}] {
				w.breakSession(other, name)
			}
		}
	}
	for peer, s := range asked {
		w.end(name, peer, s)
	}
	p.m, p.by = next, map[string]Session{}
	if err := next.Adopt(handed, w.local(p)); err != nil {
		return err
	}
	next.SetWant(resource, want, w.local(p))
	w.sendFrom(name)
	return nil
}

// end puts the end of a session on its way; where the network is cut, it is lost.
func (w *world) end(from, to string, s Session) {
	if !w.cut[[2]string{from, to}] {
		w.flying = append(w.flying, flight{at: w.now + w.delay(), from: from, to: to, session: s, ended: true})
	}
}

// breakSession closes a claimant's session to a member, at the claimant first.
func (w *world) breakSession(name, peer string) {
	p := w.procs[name]
	s, ok := p.by[peer]
	if p.m == nil || !ok {
		return
	}
	delete(p.by, peer)
	p.m.PeerLost(peer, w.local(p))
	w.end(name, peer, s)
	w.sendFrom(name)
}

func (w *world) delay() time.Duration {
	return time.Duration(w.chance(int(w.worst/time.Millisecond)+1)) * time.Millisecond
}

func (w *world) sendFrom(name string) {
	p := w.procs[name]
	for _, e := range p.m.Take() {
		if e.Message.Kind == Ask || e.Message.Kind == Release {
			if p.by[e.To] == 0 {
				w.sessions++
				p.by[e.To] = w.sessions
			}
		}
		if w.cut[[2]string{name, e.To}] || w.chance(100) < w.lossy {
			continue
		}
		w.flying = append(w.flying, flight{at: w.now + w.delay(), from: name, to: e.To, session: p.by[e.To], life: p.m.life, msg: e.Message})
	}
}

func (w *world) arrive(f flight) {
	p := w.procs[f.to]
	if p.gone[f.session] && !w.cut[[2]string{f.to, f.from}] && w.procs[f.from].by[f.to] == f.session {
		w.breakSession(f.from, f.to) // it hears that there is no such session
	}
	if p.m == nil || p.dead[f.session] && f.msg.Kind != Grant && f.msg.Kind != Refuse {
		return
	}
	switch {
	case f.ended:
		p.dead[f.session] = true
		p.m.SessionEnded(f.session, w.local(p))
	default:
		p.m.Receive(f.from, f.session, f.msg, w.local(p))
	}
	p.m.Tick(w.local(p))
	w.sendFrom(f.to)
}

// run lets time pass, and gives an error once two hold at one time.
func (w *world) run(d time.Duration) error {
	for end := w.now + d; w.now < end; w.now += time.Millisecond {
		var due []flight
		w.flying = slices.DeleteFunc(w.flying, func(f flight) bool {
			if f.at <= w.now {
				due = append(due, f)
			}
			return f.at <= w.now
		})
		for len(due) > 0 {
			i := w.chance(len(due))
			f := due[i]
			due = slices.Delete(due, i, i+1)
			w.arrive(f)
			if err := w.check(); err != nil {
				return err
			}
		}
		for _, name := range w.names {
			if p := w.procs[name]; p.m != nil && p.m.Next(w.local(p)) <= w.local(p) {
				p.m.Tick(w.local(p))
				p.m.Tick(w.local(p)) // the first may have given up, to begin anew at once
				w.sendFrom(name)
				if p.m.Next(w.local(p)) <= w.local(p) {
					return fmt.Errorf("at %s %s has still something to do when it is done", w.now, name)
				}
			}
		}
		if err := w.check(); err != nil {
			return err
		}
	}
	return nil
}

// holders are those who would answer for the resource now.
func (w *world) holders() (names []string, epochs []uint64) {
	for _, name := range w.names {
		if p := w.procs[name]; p.m != nil {
			if s := p.m.State(resource, w.local(p)); s.Held {
				names, epochs = append(names, name), append(epochs, s.Epoch)
			}
		}
	}
	return names, epochs
}

func (w *world) check() error {
	if names, epochs := w.holders(); len(names) > 1 {
		return fmt.Errorf("at %s %v hold at one time, epochs %v", w.now, names, epochs)
	}
	return nil
}

func TestNeverTwoHoldersAndAHealthyMajorityHasOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A generator of our own from one drawn seed: rapid's is too slow for each
		// of a hundred thousand choices, and the seed says all.
		state := rapid.Uint64().Draw(t, "seed") | 1
		chance := func(n int) int {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			return int(state>>11) % max(n, 1)
		}
		w := newWorld(rapid.SampledFrom([]int{1, 2, 3, 3, 3, 4, 5}).Draw(t, "nodes"), chance)
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(w.run(3 * time.Second))
		epoch, held := uint64(0), 0
		for range rapid.IntRange(1, 12).Draw(t, "faults") {
			a, b := w.names[chance(len(w.names))], w.names[chance(len(w.names))]
			if names, _ := w.holders(); len(names) > 0 && chance(2) == 0 {
				a = names[0]
			}
			switch chance(9) {
			case 0, 1:
				if w.procs[a].m != nil {
					w.crash(a)
				}
			case 2:
				if w.procs[a].m == nil {
					w.start(a)
				}
			case 3:
				w.breakSession(a, b)
			case 4:
				w.cut[[2]string{a, b}] = true // one way
			case 5:
				for _, c := range w.names {
					w.cut[[2]string{a, c}], w.cut[[2]string{c, a}] = true, true
				}
			case 6:
				clear(w.cut)
			case 7:
				w.worst, w.lossy = time.Duration(chance(400))*time.Millisecond, chance(40)
			case 8:
				if w.procs[a].m != nil {
					must(w.upgrade(a))
				}
			}
			must(w.run(time.Duration(chance(600)) * time.Millisecond))
			if names, epochs := w.holders(); len(names) == 1 {
				held++
				if epochs[0] < epoch && w.lives == uint64(len(w.names)) {
					t.Fatalf("epoch %d follows %d", epochs[0], epoch)
				}
				epoch = epochs[0]
			}
		}
		// Heal a majority, and it has a holder.
		clear(w.cut)
		w.worst, w.lossy = 5*time.Millisecond, 0
		for i, name := range w.names {
			if w.procs[name].m == nil && i <= len(w.names)/2 {
				w.start(name)
			}
		}
		must(w.run(5 * time.Second))
		if names, _ := w.holders(); len(names) != 1 {
			t.Fatalf("a healthy majority has the holders %v", names)
		}
	})
}

func TestWithoutDriftMarginTwoWouldHold(t *testing.T) {
	// The model must be able to see what it looks for: a claimant whose clock is
	// slower than agreed holds longer than the others know.
	found := false
	for seed := range 50 {
		state := uint64(seed)*2654435761 + 88172645463325252
		w := newWorld(3, func(n int) int {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			return int(state>>11) % max(n, 1)
		})
		_ = w.run(3 * time.Second)
		names, _ := w.holders()
		if len(names) != 1 {
			t.Fatalf("seed %d: holders %v", seed, names)
		}
		p := w.procs[names[0]]
		p.base, p.since, p.rate = w.local(p), w.now, 500
		for _, c := range w.names {
			w.cut[[2]string{names[0], c}], w.cut[[2]string{c, names[0]}] = true, true
		}
		found = found || w.run(time.Second) != nil
	}
	if !found {
		t.Fatal("no run found two holders where there must be some")
	}
}

func TestWithoutWhatWasGrantedTwoWouldHold(t *testing.T) {
	for seed := range 200 {
		state := uint64(seed)*2654435761 + 88172645463325252
		w := newWorld(3, func(n int) int {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			return int(state>>11) % max(n, 1)
		})
		w.forgets = true
		_ = w.run(3 * time.Second)
		names, _ := w.holders()
		if len(names) != 1 {
			t.Fatalf("seed %d: holders %v", seed, names)
		}
		// The holder cannot tell those who have forgotten that it has their voices.
		for _, c := range w.names {
			w.cut[[2]string{names[0], c}], w.cut[[2]string{c, names[0]}] = true, true
		}
		for _, c := range w.names {
			if c != names[0] {
				_ = w.upgrade(c)
			}
		}
		if w.run(time.Second) != nil {
			return
		}
	}
	t.Fatal("no run found two holders where there must be some")
}

func TestTakeOverTimes(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(*world, string)
		most  time.Duration
	}{
		"killed process": {func(w *world, n string) { w.crash(n) }, 150 * time.Millisecond},
		"silent loss": {func(w *world, n string) {
			for _, c := range w.names {
				w.cut[[2]string{n, c}], w.cut[[2]string{c, n}] = true, true
			}
		}, 400 * time.Millisecond},
		"upgraded, and nothing adopted": {func(w *world, n string) {
			p := w.procs[n]
			p.m.HandOver(w.local(p))
			w.sendFrom(n)
			w.crash(n)
		}, keepFor * 115 / 100},
		"given back": {func(w *world, n string) {
			p := w.procs[n]
			p.m.SetWant(resource, Want{}, w.local(p))
			w.sendFrom(n)
		}, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var worst time.Duration
			for seed := range 200 {
				state := uint64(seed+1) * 0x9E3779B97F4A7C15
				w := newWorld(3, func(n int) int {
					state ^= state << 13
					state ^= state >> 7
					state ^= state << 17
					return int(state>>11) % max(n, 1)
				})
				if err := w.run(3*time.Second + time.Duration(seed)*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				names, _ := w.holders()
				if len(names) != 1 {
					t.Fatalf("seed %d: holders %v", seed, names)
				}
				test.fault(w, names[0])
				at := w.now
				for {
					if err := w.run(time.Millisecond); err != nil {
						t.Fatal(err)
					}
					if now, _ := w.holders(); len(now) == 1 && now[0] != names[0] {
						break
					}
					if w.now-at > 5*time.Second {
						t.Fatalf("seed %d: nobody took over", seed)
					}
				}
				worst = max(worst, w.now-at)
			}
			t.Logf("worst of 200, in the model's time: %s", worst)
			if worst > test.most {
				t.Fatalf("took %s, want at most %s", worst, test.most)
			}
		})
	}
}
