package shed

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRetryBudget(t *testing.T) {
	tests := []struct {
		name     string
		c        Config
		requests int
		want     int // retries allowed at that moment
	}{
		{"a quiet pool may retry the least", Config{RetryBudget: 0.2, RetryMin: 10}, 0, 10},
		{"a share beyond that", Config{RetryBudget: 0.2, RetryMin: 10}, 1000, 210},
		{"defaults", Config{}, 1000, 210},
		{"no retries at all", Config{RetryBudget: -1}, 1000, 0},
		{"every request once more", Config{RetryBudget: 1, RetryMin: 1}, 50, 51},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, now := range []time.Duration{0, unixTime} {
				b := NewRetryBudget(tt.c)
				for range tt.requests {
					b.Request(now)
				}
				got := 0
				for range 3000 {
					if b.Retry(now) {
						got++
					}
				}
				if got != tt.want {
					t.Errorf("at %v: %d retries were allowed, want %d", now, got, tt.want)
				}
			}
		})
	}
}

func TestRetryBudgetForgets(t *testing.T) {
	b := NewRetryBudget(Config{RetryBudget: 0.1, RetryMin: 1})
	for range 100 {
		b.Request(0)
	}
	spend := func(at time.Duration) (n int) {
		for b.Retry(at) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{
		{0, 11},                // 1 free, 10 of 100
		{500 * ms, 0},          // the same second
		{time.Second, 1},       // free
		{9 * time.Second, 1},   // the window still has both requests and retries
		{10 * time.Second, 1},  // both have left it
		{600 * time.Second, 1}, // the ring was not touched for long
	} {
		if got := spend(tt.at); got != tt.want {
			t.Errorf("at %v: %d retries, want %d", tt.at, got, tt.want)
		}
	}
}

func TestRetryBudgetRetunes(t *testing.T) {
	b := NewRetryBudget(Config{RetryBudget: -1})
	for range 100 {
		b.Request(0)
	}
	b.Retune(Config{RetryBudget: 0.5, RetryMin: 1})
	n := 0
	for b.Retry(0) {
		n++
	}
	if n != 51 {
		t.Errorf("%d retries after the change, want 51 of the requests before it", n)
	}
}

// Whatever comes when: the bound that is documented holds.
func TestRetryBudgetBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0.01, 1).Draw(t, "share")
		least := rapid.IntRange(1, 5).Draw(t, "least")
		b := NewRetryBudget(Config{RetryBudget: share, RetryMin: least})
		var requests, retries [400]int // by second
		second := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			second += rapid.SampledFrom([]int{0, 0, 1, 1, 2, 11}).Draw(t, "seconds")
			now := time.Duration(second)*time.Second + time.Duration(rapid.IntRange(0, 999).Draw(t, "ms"))*ms
			for range rapid.IntRange(0, 40).Draw(t, "requests") {
				b.Request(now)
				requests[second]++
			}
			for range rapid.IntRange(0, 40).Draw(t, "retries") {
				free := retries[second] < least
				if !b.Retry(now) {
					if free {
						t.Fatalf("second %d: a retry was refused after %d, %d are always allowed", second, retries[second], least)
					}
					continue
				}
				retries[second]++
				if free {
					continue
				}
				r, n := 0, 0
				for s := max(second-9, 0); s <= second; s++ {
					r += requests[s]
					n += max(retries[s]-least, 0)
				}
				if float64(n) > share*float64(r) {
					t.Fatalf("second %d: allowed %d retries beyond the least, of %d requests with a share of %v", second, n, r, share)
				}
			}
		}
	})
}

func TestRetryBudgetIsNeverExceededUnderStress(t *testing.T) {
	b := NewRetryBudget(Config{RetryBudget: 0.1, RetryMin: 7})
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				b.Request(0)
			}
			for range 1000 {
				if b.Retry(0) {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n > 807 || n < 7 {
		t.Errorf("%d retries of 8000 requests, want at most 807", n)
	}
	for b.Retry(0) {
		allowed.Add(1)
	}
	if n := allowed.Load(); n != 807 {
		t.Errorf("%d retries in the end, want the whole budget of 807", n)
	}
}

func BenchmarkRetryBudgetRequest(b *testing.B) {
	budget := NewRetryBudget(Config{})
	var now time.Duration
	b.ReportAllocs()
	for b.Loop() {
		now += time.Microsecond
		budget.Request(now)
	}
}

func BenchmarkRetryBudgetRequestParallel(b *testing.B) {
	budget := NewRetryBudget(Config{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var now time.Duration
		for pb.Next() {
			now += time.Microsecond
			budget.Request(now)
		}
	})
}

func BenchmarkRetryBudgetRetry(b *testing.B) {
	budget := NewRetryBudget(Config{})
	var now time.Duration
	b.ReportAllocs()
	for b.Loop() {
		now += time.Microsecond
		budget.Retry(now)
	}
}
