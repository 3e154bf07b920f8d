package shed

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestSlot(t *testing.T) {
	var s Slot
	for range 1000 {
		if !s.TryAcquire() {
			t.Fatal("refused without a limit")
		}
	}
	s.SetLimit(999)
	s.Release()
	if s.Free() || s.TryAcquire() {
		t.Error("took one at the limit")
	}
	s.Release()
	if !s.Free() || !s.TryAcquire() {
		t.Error("refused below the limit")
	}
	s.SetLimit(-1)
	if s.Limit() != 0 || s.InFlight() != 999 || !s.TryAcquire() {
		t.Errorf("limit %d, in flight %d; want none and 999", s.Limit(), s.InFlight())
	}
}

func TestSlotIsExactUnderStress(t *testing.T) {
	const limit = 3
	var s Slot
	s.SetLimit(limit)
	var inside atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				if !s.TryAcquire() {
					continue
				}
				if n := inside.Add(1); n > limit {
					t.Errorf("%d inside, limit %d", n, limit)
				}
				inside.Add(-1)
				s.Release()
			}
		})
	}
	wg.Wait()
	if s.InFlight() != 0 {
		t.Errorf("in flight %d in the end, want 0", s.InFlight())
	}
}

func TestCapacity(t *testing.T) {
	type server struct {
		limit, inFlight int
		usable          bool
	}
	tests := []struct {
		name    string
		servers []server
		want    int
	}{
		{"sum of usable ones", []server{{10, 3, true}, {20, 0, true}}, 30},
		{"what hangs on a failed one has slots of the gate", []server{{10, 3, true}, {20, 7, false}}, 17},
		{"one without a limit is enough for all", []server{{10, 3, true}, {0, 0, true}}, 0},
		{"a failed one without a limit is not", []server{{10, 3, true}, {0, 4, false}}, 14},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slots := make([]*Slot, len(tt.servers))
			for i, s := range tt.servers {
				slots[i] = &Slot{}
				for range s.inFlight {
					slots[i].TryAcquire()
				}
				slots[i].SetLimit(s.limit)
			}
			if got := Capacity(slots, func(i int) bool { return tt.servers[i].usable }); got != tt.want {
				t.Errorf("Capacity = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestLeast(t *testing.T) {
	for _, tt := range []struct {
		limits []int
		want   int
	}{{nil, 0}, {[]int{0, 0}, 0}, {[]int{0, 7, 5}, 5}, {[]int{3, 0}, 3}} {
		if got := Least(tt.limits...); got != tt.want {
			t.Errorf("Least(%v) = %d, want %d", tt.limits, got, tt.want)
		}
	}
}

func BenchmarkSlot(b *testing.B) {
	var s Slot
	s.SetLimit(100)
	b.ReportAllocs()
	for b.Loop() {
		s.TryAcquire()
		s.Release()
	}
}

func BenchmarkSlotParallel(b *testing.B) {
	var s Slot
	s.SetLimit(100)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.TryAcquire()
			s.Release()
		}
	})
}
