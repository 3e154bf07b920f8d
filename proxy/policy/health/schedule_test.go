package health

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWaitFollowsTheState(t *testing.T) {
	c := Config{Fall: 2, Rise: 2, Interval: 10 * time.Second, FastInterval: time.Second, DownInterval: time.Minute}.WithDefaults()
	tests := []struct {
		name    string
		results string // + and -
		want    time.Duration
	}{
		{"not checked yet", "", 10 * time.Second},
		{"healthy", "+", 10 * time.Second},
		{"healthy, a failure counted", "+-", time.Second},
		{"healthy, the failure forgotten", "+-+", 10 * time.Second},
		{"unknown, a failure counted", "-", time.Second},
		{"unhealthy", "--", time.Minute},
		{"unhealthy, a success counted", "--+", time.Second},
		{"unhealthy, the success forgotten", "--+-", time.Minute},
		{"healthy again", "--++", 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := New(c.Fall, c.Rise)
			for _, r := range tt.results {
				m.Observe(r == '+')
			}
			if got := c.Wait(&m, 0.5); got != tt.want {
				t.Errorf("wait = %v, want %v", got, tt.want)
			}
			if low, high := c.Wait(&m, 0), c.Wait(&m, 1); low != tt.want*9/10 || high != tt.want*11/10 {
				t.Errorf("jitter = %v to %v, want ±10%% of %v", low, high, tt.want)
			}
		})
	}
}

func TestFirstKeepsToItsWindow(t *testing.T) {
	tests := []struct {
		name     string
		n        int
		interval time.Duration
		window   time.Duration
	}{
		{"few are ready early", 10, 2 * time.Second, 100 * time.Millisecond},
		{"a short interval bounds the window", 10, 10 * time.Millisecond, 10 * time.Millisecond},
		{"many come at 5000 a second", 10_000, time.Minute, 2 * time.Second},
		{"no more than an interval", 10_000, time.Second, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slot := tt.window / time.Duration(tt.n)
			for i := range tt.n {
				low, high := First(i, tt.n, tt.interval, 0), First(i, tt.n, tt.interval, 1)
				if off := low - slot*time.Duration(i); off < -time.Microsecond || off > time.Microsecond || high-low > slot+time.Microsecond {
					t.Fatalf("check %d begins within %v to %v, want slots of %v", i, low, high, slot)
				}
			}
		})
	}
}

// 10,000 checks that begin together: whatever the interval, no twentieth of
// an interval sees more than 1.5 times its share of them, from the first
// round on. (Spread by chance alone, a share of 500 strays by less than 1.3
// times, once in 10^9.)
func TestTenThousandChecksDoNotBurst(t *testing.T) {
	const checks, rounds, bins = 10_000, 6, 20
	rapid.Check(t, func(t *rapid.T) {
		// At 5000 a second, 10,000 fill an interval of up to 2 s; a longer one
		// keeps its checks within the first 2 s at that rate.
		interval := rapid.SampledFrom([]time.Duration{50 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, time.Minute}).Draw(t, "interval")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		c := Config{Interval: interval}.WithDefaults()
		m := New(c.Fall, c.Rise)
		m.Observe(true)
		filled := min(interval, 2*time.Second)
		bin := filled / bins
		arrivals := map[time.Duration]int{}
		for i := range checks {
			at := First(i, checks, interval, random.Float64())
			if at > filled {
				t.Fatalf("the first check of %d begins after %v, want at most %v", i, at, filled)
			}
			for range rounds {
				arrivals[at/bin]++
				at += c.Wait(&m, random.Float64())
			}
		}
		for at, n := range arrivals {
			if n > checks/bins*3/2 {
				t.Fatalf("%d checks within %v after %v, want at most %d", n, bin, bin*at, checks/bins*3/2)
			}
		}
	})
}
