package shed

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func newLimitedConnections(clients, limit int) *connections {
	c := newConnections(clients)
	c.limit.Store(int64(limit))
	return c
}

// For any clients, also in a table too small for them: what is open is counted
// exactly, and nobody is refused for others.
func TestConnectionsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 4).Draw(t, "limit")
		c := newLimitedConnections(rapid.SampledFrom([]int{1, 10, 100}).Draw(t, "table"), limit)
		open := map[uint64]int{}
		type held struct {
			key uint64
			at  int
		}
		var all []held
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				n := rapid.Uint64Range(0, 20).Draw(t, "n")
				key := rapid.SampledFrom([]uint64{n, n * 0x9e3779b97f4a7c15}).Draw(t, "key")
				at, o := c.acquire(key)
				switch {
				case o == noEntry:
					if len(open) < setSize || open[key] > 0 {
						t.Fatalf("no entry for key %x while %d have one", key, len(open))
					}
				case o != exceeds && open[key] >= limit, o == exceeds && open[key] < limit:
					t.Fatalf("key %x with %d open, limit %d: %v", key, open[key], limit, o)
				case o == conforms:
					open[key]++
					all = append(all, held{key, at})
				}
			},
			"release": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				h := all[i]
				all = append(all[:i], all[i+1:]...)
				c.release(h.at)
				if open[h.key]--; open[h.key] == 0 {
					delete(open, h.key)
				}
			},
			"": func(t *rapid.T) {
				used := 0
				for i := range c.words {
					if c.words[i].Load() != 0 {
						used++
					}
				}
				if used != len(open) {
					t.Fatalf("%d entries are in use, want one for each of %d clients", used, len(open))
				}
			},
		})
	})
}

// Loops that open and close connections of the same few clients, so that
// entries come and go all the time: no client ever has more than its limit, and
// in the end nothing is left.
func TestConnectionsAreExactUnderStress(t *testing.T) {
	const (
		loops = 8
		limit = 3
		keys  = 4
		steps = 30_000
	)
	c := newLimitedConnections(1, limit)
	var open [keys]atomic.Int64
	var refused, lost atomic.Int64
	var wg sync.WaitGroup
	for l := range loops {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(l)))
			for range steps {
				i := rng.IntN(keys)
				at, o := c.acquire(uint64(i+1) * 0x9e3779b97f4a7c15)
				switch o {
				case exceeds:
					refused.Add(1)
				case noEntry:
					lost.Add(1)
				case conforms:
					if n := open[i].Add(1); n > limit {
						t.Errorf("client %d has %d open, limit %d", i, n, limit)
					}
					if rng.IntN(4) == 0 {
						runtime.Gosched()
					}
					open[i].Add(-1)
					c.release(at)
				}
			}
		})
	}
	wg.Wait()
	for i := range c.words {
		if w := c.words[i].Load(); w != 0 {
			t.Errorf("entry %d is left as %x", i, w)
		}
	}
	for i := range keys {
		for range limit {
			if _, o := c.acquire(uint64(i+1) * 0x9e3779b97f4a7c15); o != conforms {
				t.Errorf("client %d in the end: %v, want its whole limit", i, o)
			}
		}
	}
	t.Logf("%d refused, %d found no entry", refused.Load(), lost.Load())
}

func BenchmarkConnections(b *testing.B) {
	c := newLimitedConnections(100_000, 10)
	b.ReportAllocs()
	var key uint64
	for b.Loop() {
		key += 0x9e3779b97f4a7c15
		at, _ := c.acquire(key)
		c.release(at)
	}
}

func BenchmarkConnectionsParallelOneClient(b *testing.B) {
	c := newLimitedConnections(100_000, 1000)
	c.acquire(1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			at, _ := c.acquire(1)
			c.release(at)
		}
	})
}
