package shed

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// unixTime is what a scale of the Unix time looks like.
const unixTime = 1_800_000_000*time.Second + 999_999_999

func newTunedRates(clients int, rate float64, burst int) *rates {
	r := newRates(clients)
	r.tune(rate, burst)
	return r
}

func TestRateOfOneClient(t *testing.T) {
	type ask struct {
		at   time.Duration
		n    int // requests at that moment
		pass int // of these
		wait time.Duration
	}
	tests := []struct {
		name  string
		rate  float64
		burst int
		asks  []ask
	}{
		{"a burst, then nothing until a token is there", 10, 5, []ask{{0, 8, 5, 100 * ms}, {60 * ms, 1, 0, 40 * ms}, {100 * ms, 2, 1, 100 * ms}}},
		{"at its rate a client never waits", 10, 1, []ask{{0, 1, 1, 0}, {100 * ms, 1, 1, 0}, {200 * ms, 1, 1, 0}}},
		{"a little too fast", 10, 1, []ask{{0, 1, 1, 0}, {99 * ms, 1, 0, 1 * ms}, {100 * ms, 1, 1, 0}}},
		{"a bucket fills up to the burst and no further", 10, 3, []ask{{0, 3, 3, 0}, {time.Hour, 9, 3, 100 * ms}}},
		{"less than one a second", 1. / 60, 1, []ask{{0, 2, 1, time.Minute}, {59 * time.Second, 1, 0, time.Second}, {time.Minute, 1, 1, 0}}},
		{"refusals cost nothing", 1, 1, []ask{{0, 1000, 1, time.Second}, {time.Second, 1, 1, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, start := range []time.Duration{0, unixTime} {
				r := newTunedRates(100, tt.rate, tt.burst)
				for _, a := range tt.asks {
					pass := 0
					var wait time.Duration
					for range a.n {
						o, d := r.take(1, start+a.at)
						if o == conforms {
							pass++
						} else {
							wait = d
						}
					}
					if pass != a.pass || wait != a.wait {
						t.Errorf("at %v after %v: %d of %d passed, wait %v; want %d, %v", a.at, start, pass, a.n, wait, a.pass, a.wait)
					}
				}
			}
		})
	}
}

// For any clients at any times, also in a table far too small for them: a
// client is refused if and only if its own requests say so, and is let in
// uncounted only while the table is full of others' buckets.
func TestNobodyIsRefusedForOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const interval = int64(100 * time.Millisecond)
		burst := rapid.IntRange(1, 4).Draw(t, "burst")
		r := newTunedRates(rapid.SampledFrom([]int{1, 10, 1000}).Draw(t, "table"), 10, burst)
		// Keys that differ in all bits, or in one end only.
		keys := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) uint64 {
			n := rapid.Uint64Range(0, 40).Draw(t, "n")
			return rapid.SampledFrom([]uint64{n, n << 8, n << timeBits, n * 0x9e3779b97f4a7c15}).Draw(t, "key")
		}), 1, 40, func(k uint64) uint64 { return k }).Draw(t, "keys")
		tats := map[uint64]int64{}
		now := int64(1)
		for range rapid.IntRange(1, 300).Draw(t, "requests") {
			now += rapid.SampledFrom([]int64{0, 0, 0, interval / 3, interval}).Draw(t, "passes")
			key := rapid.SampledFrom(keys).Draw(t, "key")
			left := max(tats[key], now) + interval
			want, wantWait := conforms, time.Duration(0)
			if over := left - now - interval*int64(burst); over > 0 {
				want, wantWait = exceeds, time.Duration(over)
			}
			got, wait := r.take(key, time.Duration(now))
			if got == noEntry {
				others := 0
				for k, tat := range tats {
					if tat > now && k != key {
						others++
					}
				}
				if others < setSize || tats[key] > now {
					t.Fatalf("no entry for key %x while %d others have one", key, others)
				}
				continue
			}
			if got != want || wait != wantWait {
				t.Fatalf("key %x at %d: %v, wait %v; want %v, %v", key, now, got, wait, want, wantWait)
			}
			if got == conforms {
				tats[key] = left
			}
		}
	})
}

func TestTableHoldsTheClientsItWasMadeFor(t *testing.T) {
	const clients = 100_000
	r := newTunedRates(clients, 1, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	keys := make([]uint64, clients)
	lost := 0
	for i := range keys {
		keys[i] = rng.Uint64()
		if o, _ := r.take(keys[i], 0); o == noEntry {
			lost++
		}
	}
	for _, k := range keys {
		if o, _ := r.take(k, 0); o == conforms {
			t.Fatalf("key %x has a second bucket", k)
		}
	}
	if lost > clients/1000 {
		t.Errorf("%d of %d clients found no entry, want at most 0.1 %%", lost, clients)
	}
	t.Logf("%d of %d clients found no entry", lost, clients)
	// All buckets are full again after a second: others can have the entries.
	for range clients {
		if o, _ := r.take(rng.Uint64(), time.Second); o == exceeds {
			t.Fatal("a new client was refused")
		}
	}
}

func TestChangedRateHoldsAtOnce(t *testing.T) {
	r := newTunedRates(10, 1, 1000)
	for range 1000 {
		r.take(7, 0)
	}
	r.tune(10, 5)
	// 1000 s of debt are beyond what the new bucket can owe: it begins full.
	pass := 0
	for range 100 {
		if o, _ := r.take(7, 0); o == conforms {
			pass++
		}
	}
	if pass != 5 {
		t.Errorf("%d passed after the change, want the burst of 5", pass)
	}
	r.tune(0, 0)
	if o, _ := r.take(7, 0); o != conforms {
		t.Error("refused without a limit")
	}
}

// All loops together let exactly the burst pass, of each of many clients who
// come at the same moment to a table in which they share sets.
func TestRateIsExactUnderStress(t *testing.T) {
	const (
		loops = 8
		burst = 20
		keys  = 48
	)
	for round := range 20 {
		r := newTunedRates(keys, 1, burst)
		rng := rand.New(rand.NewPCG(uint64(round), 0))
		key := make([]uint64, keys)
		for i := range key {
			key[i] = rng.Uint64()
		}
		var passed, lost [keys]atomic.Int64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for l := range loops {
			wg.Go(func() {
				<-start
				for n := range burst {
					for i := range keys {
						i := (i + l + n) % keys
						switch o, _ := r.take(key[i], 0); o {
						case conforms:
							passed[i].Add(1)
						case noEntry:
							lost[i].Add(1)
						}
					}
				}
			})
		}
		close(start)
		wg.Wait()
		counted := 0
		for i := range passed {
			if lost[i].Load() > 0 {
				continue // its sets are full
			}
			counted++
			if n := passed[i].Load(); n != burst {
				t.Fatalf("round %d: %d of client %d passed, want the burst of %d", round, n, i, burst)
			}
		}
		if counted < keys-2 {
			t.Errorf("round %d: only %d of %d clients had an entry", round, counted, keys)
		}
	}
}

// With entries that are taken over all the time: nobody passes more often than
// its rate allows, beyond one token for each loop.
func TestRateHoldsWhileEntriesChangeHands(t *testing.T) {
	const (
		loops = 4
		burst = 2
		keys  = 12
		steps = 20_000
	)
	r := newTunedRates(1, 1e9/100, burst) // 100 ns a token, two sets
	var clock atomic.Int64
	var passed [keys]atomic.Int64
	var wg sync.WaitGroup
	for l := range loops {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(l)))
			for range steps {
				i := rng.IntN(keys)
				if o, _ := r.take(uint64(i)*0x9e3779b97f4a7c15, time.Duration(clock.Add(5))); o == conforms {
					passed[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := len(r.sets); n > 1 {
		t.Fatalf("%d sets, want one for entries to change hands", n)
	}
	for i := range passed {
		if most := clock.Load()/100 + burst + loops; passed[i].Load() > most {
			t.Errorf("client %d passed %d times, its rate allows %d", i, passed[i].Load(), most)
		}
	}
}

// benchmarkRates has each client come at its rate, or a little below.
func benchmarkRates(b *testing.B, clients int) {
	r := newTunedRates(100_000, 1000, 1000)
	rng := rand.New(rand.NewPCG(1, 2))
	keys := make([]uint64, clients)
	for i := range keys {
		keys[i] = rng.Uint64()
	}
	var now time.Duration
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i++; i == clients {
			i = 0
		}
		now += time.Duration(float64(2*ms) / float64(clients))
		r.take(keys[i], now)
	}
}

func BenchmarkRateOneClient(b *testing.B)     { benchmarkRates(b, 1) }
func BenchmarkRate100000Clients(b *testing.B) { benchmarkRates(b, 100_000) }

func BenchmarkRateRefused(b *testing.B) {
	r := newTunedRates(100_000, 1, 1)
	b.ReportAllocs()
	for b.Loop() {
		r.take(12345, 1)
	}
}

func BenchmarkRateParallel(b *testing.B) {
	r := newTunedRates(100_000, 1000, 1000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(1, rand.Uint64()))
		var now time.Duration
		for pb.Next() {
			now += 10 * time.Microsecond
			r.take(rng.Uint64N(10_000)*0x9e3779b97f4a7c15, now)
		}
	})
}
