package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func measured(c Config, members []Member) Picker {
	c.Algorithm = Latency
	return NewRandom(c, members, nil, rand.New(rand.NewPCG(1, 2)).Uint64)
}

func TestPeakEWMA(t *testing.T) {
	type sample struct{ at, latency time.Duration }
	tests := []struct {
		name    string
		samples []sample
		at      time.Duration
		want    time.Duration
	}{
		{"no sample is unknown", nil, time.Hour, 0},
		{"the first sample counts whole", []sample{{time.Second, 20 * ms}}, time.Second, 20 * ms},
		{"a peak counts at once", []sample{{time.Second, 20 * ms}, {time.Second, 300 * ms}}, time.Second, 300 * ms},
		{"a low sample at the same time counts for nothing", []sample{{time.Second, 300 * ms}, {time.Second, 20 * ms}}, time.Second, 300 * ms},
		{"it decays by the time constant", []sample{{0, 100 * ms}}, 10 * time.Second, 36788 * time.Microsecond},
		{"a low sample after the time constant", []sample{{0, 100 * ms}, {10 * time.Second, 10 * ms}}, 10 * time.Second, 43109 * time.Microsecond},
		{"steady samples stay", []sample{{0, 50 * ms}, {5 * time.Second, 50 * ms}, {9 * time.Second, 50 * ms}}, 9 * time.Second, 50 * ms},
		{"after an hour it is unknown", []sample{{0, 100 * ms}}, time.Hour, 0},
		{"a time a little before the last sample", []sample{{time.Second, 20 * ms}}, time.Second - ms, 20 * ms},
		{"no time at all is a nanosecond", []sample{{time.Second, 0}}, time.Second, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := pool(1)
			measured(Config{}, m)
			for _, s := range tt.samples {
				m[0].Load.Observe(s.at, s.latency)
			}
			got := m[0].Load.Latency(tt.at)
			if off := math.Abs(float64(got - tt.want)); off > 0.001*float64(tt.want) {
				t.Errorf("latency = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLatencyDecayIsConfigurable(t *testing.T) {
	m := pool(1)
	measured(Config{LatencyDecay: time.Second}, m)
	m[0].Load.Observe(0, 100*ms)
	if got := m[0].Load.Latency(time.Second).Round(ms); got != 37*ms {
		t.Errorf("after one time constant: %v, want 37ms", got)
	}
}

func TestFailuresDoNotMakeAServerLookQuick(t *testing.T) {
	tests := []struct {
		name          string
		present, took time.Duration
		want          time.Duration
	}{
		{"a quick one doubles", 20 * ms, ms, 40 * ms},
		{"up to a second", 700 * ms, ms, time.Second},
		{"and never down", 3 * time.Second, ms, 3 * time.Second},
		{"a slow one counts as it is", 20 * ms, 5 * time.Second, 5 * time.Second},
		{"unknown stays unknown", 0, ms, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := pool(1)
			measured(Config{}, m)
			if tt.present > 0 {
				m[0].Load.Observe(time.Second, tt.present)
			}
			m[0].Load.Fail(time.Second, tt.took)
			if got := m[0].Load.Latency(time.Second).Round(ms); got != tt.want {
				t.Errorf("latency = %v, want %v", got, tt.want)
			}
		})
	}
}

// The average is always between the samples, and never below a fresh peak.
func TestPeakEWMAStaysWithinItsSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := pool(1)
		measured(Config{}, m)
		now := time.Duration(rapid.Int64Range(0, 1<<60).Draw(t, "start"))
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range rapid.IntRange(1, 30).Draw(t, "samples") {
			now += time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "pause"))
			x := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "latency"))
			least, most = min(least, x), max(most, x)
			m[0].Load.Observe(now, x)
			got := float64(m[0].Load.Latency(now))
			if got < float64(least)*0.9999-1 || got > float64(most)*1.0001+1 {
				t.Fatalf("%v is not between %v and %v", time.Duration(got), least, most)
			}
			if got < float64(x)*0.9999-1 {
				t.Fatalf("%v is below the sample of just now, %v", time.Duration(got), x)
			}
		}
	})
}

func TestNothingIsMeasuredUnlessTheAlgorithmNeedsIt(t *testing.T) {
	m := pool(1)
	p := measured(Config{}, m)
	m[0].Load.Observe(0, ms)
	New(Config{Algorithm: RandomTwo}, m, p)
	m[0].Load.Observe(0, time.Second)
	if got := m[0].Load.Latency(0); got > ms {
		t.Errorf("latency = %v was measured under another algorithm", got)
	}
}

// closedLoop serves requests by a fixed number of clients, each of which asks
// again as soon as it was answered, in virtual time. It returns how many each
// server answered.
func closedLoop(p Picker, m []Member, clients, requests int, answer func(server int, now time.Duration) time.Duration) []int {
	type call struct {
		server      int
		begun, ends time.Duration
	}
	counts := make([]int, len(m))
	var open []call
	now := time.Duration(0)
	ask := func() {
		i := p.Pick(0, now)
		m[i].Load.Begin()
		counts[i]++
		open = append(open, call{i, now, now + answer(i, now)})
	}
	for range clients {
		ask()
	}
	for range requests {
		first := 0
		for j := range open {
			if open[j].ends < open[first].ends {
				first = j
			}
		}
		c := open[first]
		open[first] = open[len(open)-1]
		open = open[:len(open)-1]
		now = c.ends
		m[c.server].Load.Observe(now, now-c.begun)
		m[c.server].Load.End()
		ask()
	}
	return counts
}

func TestSlowServersGetLess(t *testing.T) {
	m := pool(equal(10)...)
	counts := closedLoop(measured(Config{}, m), m, 40, 20_000, func(server int, _ time.Duration) time.Duration {
		if server == 4 {
			return 100 * ms
		}
		return time.Duration(9+server%3) * ms
	})
	for i, n := range counts {
		switch {
		case i == 4 && n > 1000:
			t.Errorf("the slow server got %d of 20,000, want at most half an even share", n)
		case i != 4 && (n < 1400 || n > 3000):
			t.Errorf("server %d got %d of 20,000, want about 2,200", i, n)
		}
	}
}

// A server that just came has no samples. It must neither be left out nor
// take everything before its first answer.
func TestNewServersAreNeitherStarvedNorFlooded(t *testing.T) {
	m := pool(equal(10)...)
	p := measured(Config{}, m)
	for i := range 9 {
		for range 4 {
			m[i].Load.Begin()
		}
		m[i].Load.Observe(0, time.Duration(5+i)*ms)
	}
	most := int64(0)
	for range 1000 { // all servers answer in turn, but for the new one
		i := p.Pick(0, time.Second)
		m[i].Load.Begin()
		if i < 9 {
			m[i].Load.End()
		}
		most = max(most, m[9].Load.InFlight())
	}
	if most < 3 || most > 8 {
		t.Errorf("the new server got %d before its first answer, want about the 4 that others have", most)
	}
}

func TestAServerThatWasSlowIsTriedAgain(t *testing.T) {
	m := pool(equal(4)...)
	recovered := 20 * time.Second
	late := 0
	p := measured(Config{LatencyDecay: 2 * time.Second}, m)
	closedLoop(p, m, 8, 60_000, func(server int, now time.Duration) time.Duration {
		if server == 2 && now < recovered {
			return 400 * ms
		}
		if server == 2 && now > recovered+10*time.Second {
			late++
		}
		return 5 * ms
	})
	if late == 0 {
		t.Fatal("the server that recovered gets nothing")
	}
	if l := m[2].Load.Latency(37 * time.Second); l > 20*ms {
		t.Errorf("latency of the server that recovered = %v, want about 5ms", l)
	}
}

func TestWeightsCountAgainstLatency(t *testing.T) {
	m := pool(3, 1)
	counts := closedLoop(measured(Config{}, m), m, 40, 20_000, func(int, time.Duration) time.Duration { return 10 * ms })
	if counts[0] < 14_000 || counts[0] > 16_000 {
		t.Errorf("weight 3 of 4 got %d of 20,000, want about 15,000", counts[0])
	}
}
