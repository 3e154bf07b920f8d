package shed

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

// woken collects which waiters were told that their turn has come.
type woken struct{ names []string }

func (q *woken) waiter(name string) *Waiter {
	return &Waiter{Wake: func() { q.names = append(q.names, name) }}
}

func wake(ws ...*Waiter) {
	for _, w := range ws {
		if w != nil {
			w.Wake()
		}
	}
}

func TestAdmitSaysWhyNot(t *testing.T) {
	tests := []struct {
		name         string
		limit, queue int
		before       int // admissions asked for
		wait         bool
		want         Verdict
	}{
		{"below the limit", 2, 0, 1, true, Admitted},
		{"no limit", 0, 0, 10_000, true, Admitted},
		{"at the limit without a queue", 2, 0, 2, true, PoolFull},
		{"at the limit with a queue", 2, 1, 2, true, Queued},
		{"at the limit, cannot wait", 2, 1, 2, false, PoolFull},
		{"queue full", 2, 1, 3, true, QueueFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := NewGate(tt.limit, tt.queue, time.Second)
			for range tt.before {
				g.Admit(&Waiter{}, 0)
			}
			var w *Waiter
			if tt.wait {
				w = &Waiter{}
			}
			got := g.Admit(w, 0)
			if got != tt.want {
				t.Fatalf("Admit = %v, want %v", got, tt.want)
			}
			if got.Refused() != (tt.want == PoolFull || tt.want == QueueFull) {
				t.Errorf("Refused of %v = %v", got, got.Refused())
			}
			if got.Refused() && g.Refused(got) != 1 {
				t.Errorf("%v was counted %d times, want once", got, g.Refused(got))
			}
		})
	}
}

func TestReleaseWakesInOrder(t *testing.T) {
	g := NewGate(1, 3, time.Second)
	var q woken
	a, b, c := q.waiter("a"), q.waiter("b"), q.waiter("c")
	for i, w := range []*Waiter{nil, a, b, c} {
		if v := g.Admit(w, 0); v.Refused() || (v == Admitted) != (i == 0) {
			t.Fatalf("admission %d: %v", i, v)
		}
	}
	if a.Claim() {
		t.Error("a waiter claims a slot before its turn")
	}
	for range 4 {
		wake(g.Release(0))
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(q.names, want) {
		t.Errorf("woken = %v, want %v", q.names, want)
	}
	for _, w := range []*Waiter{a, b, c} {
		if !w.Claim() || w.Claim() {
			t.Error("an admitted waiter does not claim its slot exactly once")
		}
	}
	if g.InFlight() != 0 || g.Waiting() != 0 {
		t.Errorf("in flight %d, waiting %d, want none", g.InFlight(), g.Waiting())
	}
}

func TestNobodyPassesTheQueue(t *testing.T) {
	g := NewGate(1, 5, time.Second)
	g.Admit(nil, 0)
	a := &Waiter{}
	g.Admit(a, 0)
	g.Release(0) // the slot is a's, though a does not know yet
	if v := g.Admit(&Waiter{}, 0); v != Queued {
		t.Errorf("a later one is %v, want queued behind", v)
	}
	if !a.Claim() {
		t.Error("the first in the queue was not admitted")
	}
}

func TestCancelTellsWhatHadHappened(t *testing.T) {
	const timeout = time.Second
	tests := []struct {
		name    string
		release bool
		at      time.Duration
		want    Verdict
	}{
		{"client gone while it waits", false, timeout - 1, Canceled},
		{"waited for the whole timeout", false, timeout, QueueTimeout},
		{"admitted meanwhile", true, timeout - 1, Admitted},
		{"overdue when a slot came free: the slot is kept for others", true, timeout, QueueTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := NewGate(1, 1, timeout)
			g.Admit(nil, 0)
			w := &Waiter{}
			g.Admit(w, 0)
			if tt.release {
				g.Release(tt.at)
			}
			if got := g.Cancel(w, tt.at); got != tt.want {
				t.Fatalf("Cancel = %v, want %v", got, tt.want)
			}
			if w.Claim() {
				t.Error("a wake that comes late finds a slot to claim")
			}
			if again := g.Cancel(w, tt.at); again != Canceled {
				t.Errorf("a second Cancel = %v, want canceled", again)
			}
			want := 1 // the first one's, or the slot that Cancel handed over
			if tt.release && tt.want != Admitted {
				want = 0
			}
			if g.InFlight() != want || g.Waiting() != 0 {
				t.Errorf("in flight %d, waiting %d, want %d and none", g.InFlight(), g.Waiting(), want)
			}
			if v := g.Admit(w, tt.at); (v == Admitted) != (want == 0) {
				t.Errorf("the same waiter anew: %v", v)
			}
		})
	}
}

func TestOverdueWaitersLeaveRoomInTheQueue(t *testing.T) {
	g := NewGate(1, 2, time.Second)
	g.Admit(nil, 0)
	old := [2]Waiter{}
	g.Admit(&old[0], 0)
	g.Admit(&old[1], 0)
	fresh := &Waiter{}
	if v := g.Admit(fresh, time.Second); v != Queued {
		t.Fatalf("Admit = %v, want queued in place of those that are overdue", v)
	}
	if w := g.Release(time.Second); w != fresh {
		t.Error("the slot did not go to the one who still waits")
	}
	for i := range old {
		if v := g.Cancel(&old[i], time.Second); v != QueueTimeout {
			t.Errorf("overdue waiter %d: %v, want queue_timeout", i, v)
		}
	}
	if n := g.Refused(QueueTimeout); n != 2 {
		t.Errorf("%d timeouts were counted, want 2", n)
	}
}

func TestSetLimit(t *testing.T) {
	g := NewGate(1, 10, time.Second)
	var q woken
	g.Admit(nil, 0)
	for _, name := range []string{"a", "b", "c", "d"} {
		g.Admit(q.waiter(name), 0)
	}
	wake(g.SetLimit(3, 0, nil)...)
	if want := []string{"a", "b"}; !slices.Equal(q.names, want) {
		t.Errorf("raised by 2: woken %v, want %v", q.names, want)
	}
	g.SetLimit(1, 0, nil)
	if w := g.Release(0); w != nil {
		t.Error("a slot above the lowered limit was given on")
	}
	wake(g.SetLimit(0, 0, nil)...)
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(q.names, want) {
		t.Errorf("limit lifted: woken %v, want %v", q.names, want)
	}
	if g.Limit() != 0 || g.InFlight() != 4 {
		t.Errorf("limit %d, in flight %d, want none and 4", g.Limit(), g.InFlight())
	}
}

// Counts that are wrong would let too many in, or too few, for ever after.
func TestMisuseOfCountsPanics(t *testing.T) {
	tests := []struct {
		name string
		f    func()
	}{
		{"a slot of the gate that nobody holds", func() { NewGate(1, 0, time.Second).Release(0) }},
		{"a slot of a server that nobody holds", func() { new(Slot).Release() }},
		{"a connection that is not counted", func() { newLimitedConnections(1, 1).release(0) }},
		{"a waiter in two places of a queue", func() {
			g := NewGate(1, 2, time.Second)
			w := &Waiter{}
			for range 3 {
				g.Admit(w, 0)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			tt.f()
		})
	}
}

func TestSetQueue(t *testing.T) {
	g := NewGate(1, 0, time.Second)
	g.Admit(nil, 0)
	g.SetQueue(1, 2*time.Second)
	w := &Waiter{}
	if v := g.Admit(w, 0); v != Queued {
		t.Fatalf("with a queue now: %v", v)
	}
	g.SetQueue(0, 3*time.Second)
	if v := g.Admit(&Waiter{}, 0); v != PoolFull {
		t.Errorf("without a queue again: %v, want pool_full", v)
	}
	if g.Release(2500*ms) != w || !w.Claim() {
		t.Error("who was in the queue lost its place with it, or fell under the old timeout")
	}
}

func TestVerdictNames(t *testing.T) {
	want := []string{"admitted", "queued", "canceled", "pool_full", "queue_full", "queue_timeout", "servers_full", "unknown"}
	for i, name := range want {
		if got := Verdict(i).String(); got != name {
			t.Errorf("verdict %d is %q, want %q", i, got, name)
		}
	}
	if n := NewGate(1, 0, time.Second).Refused(ServersFull); n != 0 {
		t.Errorf("a gate counted %d of servers_full, which is its caller's", n)
	}
}

func TestRetryAfterFollowsTheQueue(t *testing.T) {
	g := NewGate(1, 1000, time.Minute)
	if s := g.RetryAfter(0); s != 1 {
		t.Errorf("without a queue: %d s, want 1", s)
	}
	g.Admit(nil, 0)
	now := time.Duration(0)
	for range 39 {
		g.Admit(&Waiter{}, now)
	}
	for range 30 { // 10 a second
		now += 100 * time.Millisecond
		g.Release(now)
	}
	if s := g.RetryAfter(now); s != 1 { // 9 wait, 1 s in all
		t.Errorf("9 waiting at 10 a second: %d s, want 1", s)
	}
	for range 50 {
		g.Admit(&Waiter{}, now)
	}
	if s := g.RetryAfter(now); s != 6 {
		t.Errorf("59 waiting at 10 a second: %d s, want 6", s)
	}
	if s := g.RetryAfter(now + 20*time.Second); s != maxRetryAfter {
		t.Errorf("a queue that has stopped: %d s, want %d", s, maxRetryAfter)
	}
}

// A model of the gate, against which every sequence of calls is held.
func TestGateModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const timeout = 100
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		capacity := rapid.IntRange(0, 4).Draw(t, "queue")
		g := NewGate(limit, capacity, timeout)
		var now time.Duration
		inside := 0
		var queue []*Waiter // those who are neither overdue nor admitted
		since := map[*Waiter]time.Duration{}
		admitted := map[*Waiter]bool{} // not claimed yet
		overdue := map[*Waiter]bool{}
		room := func() bool { return limit == 0 || inside < limit }
		prune := func() { // as the gate does when it looks at its queue
			for len(queue) > 0 && now-since[queue[0]] >= timeout {
				overdue[queue[0]] = true
				queue = queue[1:]
			}
		}
		turn := func() (w *Waiter) {
			if len(queue) > 0 && room() {
				w, queue = queue[0], queue[1:]
				admitted[w] = true
				inside++
			}
			return w
		}
		anyOf := func(t *rapid.T, m map[*Waiter]bool) *Waiter {
			var ws []*Waiter
			for w := range since {
				if m == nil || m[w] {
					ws = append(ws, w)
				}
			}
			if len(ws) == 0 {
				t.Skip()
			}
			// The order of a map is random: choose by age, which is not.
			slices.SortFunc(ws, func(a, b *Waiter) int { return int(since[a] - since[b]) })
			return ws[rapid.IntRange(0, len(ws)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				now++ // makes ages distinct
				w := &Waiter{}
				if rapid.IntRange(0, 9).Draw(t, "waits") == 0 {
					w = nil
				}
				if len(queue) > 0 || !room() {
					prune()
				}
				var want Verdict
				switch {
				case len(queue) == 0 && room():
					want = Admitted
					inside++
				case w == nil || capacity == 0:
					want = PoolFull
				case len(queue) >= capacity:
					want = QueueFull
				default:
					want = Queued
					queue = append(queue, w)
					since[w] = now
				}
				if got := g.Admit(w, now); got != want {
					t.Fatalf("Admit = %v, want %v", got, want)
				}
			},
			"release": func(t *rapid.T) {
				if inside == len(admitted) {
					t.Skip() // nobody who knows of a slot
				}
				prune()
				inside--
				if got, want := g.Release(now), turn(); got != want {
					t.Fatalf("Release woke %p, want %p", got, want)
				}
			},
			"claim": func(t *rapid.T) {
				w := anyOf(t, nil)
				if got := w.Claim(); got != admitted[w] {
					t.Fatalf("Claim = %v, want %v", got, admitted[w])
				}
				if admitted[w] {
					delete(admitted, w)
					delete(since, w)
				}
			},
			"cancel": func(t *rapid.T) {
				w := anyOf(t, nil)
				want := Canceled
				switch {
				case admitted[w]:
					want = Admitted
				case overdue[w] || now-since[w] >= timeout:
					want = QueueTimeout
				}
				if got := g.Cancel(w, now); got != want {
					t.Fatalf("Cancel = %v, want %v", got, want)
				}
				if i := slices.Index(queue, w); i >= 0 {
					queue = slices.Delete(queue, i, i+1)
				}
				delete(admitted, w) // its slot is the caller's, like others'
				delete(overdue, w)
				delete(since, w)
			},
			"limit": func(t *rapid.T) {
				limit = rapid.IntRange(0, 4).Draw(t, "limit")
				prune()
				var want []*Waiter
				for w := turn(); w != nil; w = turn() {
					want = append(want, w)
				}
				if got := g.SetLimit(limit, now, nil); !slices.Equal(got, want) {
					t.Fatalf("SetLimit(%d) woke %d, want %d", limit, len(got), len(want))
				}
			},
			"time": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(1, timeout).Draw(t, "passes"))
			},
			"": func(t *rapid.T) {
				if g.InFlight() != inside || g.Waiting() != len(queue) || g.Limit() != limit {
					t.Fatalf("in flight %d, waiting %d, limit %d; want %d, %d, %d",
						g.InFlight(), g.Waiting(), g.Limit(), inside, len(queue), limit)
				}
				if g.Waiting() > 0 && room() {
					t.Fatalf("%d wait while %d of %d slots are taken", g.Waiting(), inside, limit)
				}
			},
		})
	})
}

func TestGateDoesNotAllocate(t *testing.T) {
	g := NewGate(2, 2, time.Second)
	w := &Waiter{Wake: func() {}}
	if n := testing.AllocsPerRun(1000, func() {
		g.Admit(nil, 0)
		g.Admit(nil, 0)
		g.Admit(w, 0)
		g.Admit(nil, 0)
		g.Release(0).Wake()
		w.Claim()
		g.Admit(w, 0)
		g.Cancel(w, 0)
		g.Release(0)
		g.Release(0)
	}); n != 0 {
		t.Errorf("admission allocates %v times, want 0", n)
	}
}

func BenchmarkGateFree(b *testing.B) {
	g := NewGate(1000, 1000, time.Second)
	w := &Waiter{}
	b.ReportAllocs()
	for b.Loop() {
		g.Admit(w, 0)
		g.Release(0)
	}
}

func BenchmarkGateFreeParallel(b *testing.B) {
	g := NewGate(1000, 1000, time.Second)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		w := &Waiter{}
		for pb.Next() {
			g.Admit(w, 0)
			g.Release(0)
		}
	})
}

func BenchmarkGateQueued(b *testing.B) {
	g := NewGate(1, 10, time.Second)
	g.Admit(nil, 0)
	w := &Waiter{}
	b.ReportAllocs()
	for b.Loop() {
		g.Admit(w, 0)
		g.Release(0).Claim()
	}
}

func BenchmarkGateRefused(b *testing.B) {
	g := NewGate(1, 1, time.Second)
	g.Admit(nil, 0)
	g.Admit(&Waiter{}, 0)
	w := &Waiter{}
	b.ReportAllocs()
	for b.Loop() {
		g.Admit(w, 0)
	}
}
