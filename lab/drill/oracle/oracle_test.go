package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/lab/drill/fib"
	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// The made history: a probe every 2 ms for 8 s, nodes in turn; n2 is killed at
// 1 s, the router drops it 80 ms later; it is started at 4 s, the router takes
// it back at 5 s; recovered at 6 s. Each test plants one fault in it.
const (
	ms       = int64(time.Millisecond)
	interval = 2 * ms
	killAt   = 1000 * ms
	dropAt   = 1080 * ms
	startAt  = 4000 * ms
	backAt   = 5000 * ms
	recAt    = 6000 * ms
	endAt    = 8000 * ms
)

var base = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(ns int64) time.Time { return base.Add(time.Duration(ns)) }

func stamp(ns int64) int64 { return base.UnixNano() + ns }

func hops(nodes ...int) []fib.NextHop {
	var out []fib.NextHop
	for _, n := range nodes {
		out = append(out, fib.NextHop{Gateway: netip.AddrFrom4([4]byte{10, 0, byte(n), 2}), Device: fmt.Sprintf("eth%d", n)})
	}
	return out
}

func good() History {
	h := History{
		Begin:  &record.Begin{Target: "198.51.100.1:80", Interval: interval, Timeout: 1000 * ms, Started: stamp(0)},
		Nodes:  map[string]string{"10.0.1.2": "n1", "10.0.2.2": "n2", "10.0.3.2": "n3"},
		Victim: "n2",
		Steps: []Step{
			{Name: "kill", Began: at(killAt), Done: at(killAt + ms), Effect: Leaves, Abrupt: true},
			{Name: "start", Began: at(startAt), Done: at(startAt + 50*ms), Effect: Returns},
		},
		Recovered: at(recAt),
		Router: []fib.Change{
			{At: at(-500 * ms), Hops: hops(1, 2, 3)}, {At: at(dropAt), Hops: hops(1, 3)}, {At: at(backAt), Hops: hops(1, 2, 3)},
		},
	}
	turn := []string{"10.0.1.2", "10.0.2.2", "10.0.3.2"}
	for n := 0; int64(n)*interval < endAt; n++ {
		due := int64(n) * interval
		nodes := turn
		if due >= killAt && due < backAt {
			nodes = []string{"10.0.1.2", "10.0.3.2"}
		}
		h.Probes = append(h.Probes, record.Probe{
			Sequence: n, Scheduled: stamp(due), Sent: stamp(due) + 1000, Connected: stamp(due) + 200_000, Ended: stamp(due) + ms,
			Outcome: record.OK, Stage: record.Established, Peer: nodes[n%len(nodes)],
		})
	}
	h.End = &record.End{Ended: stamp(endAt + ms), Sent: len(h.Probes), CPU: int64(len(h.Probes)) * 50_000, Why: "stopped"}
	return h
}

// fail makes the probes that are due in [from, to) fail, every so many of them.
func fail(h *History, from, to int64, every int, o record.Outcome, s record.Stage) {
	n := 0
	for i := range h.Probes {
		p := &h.Probes[i]
		if due := p.Scheduled - base.UnixNano(); due < from || due >= to {
			continue
		}
		if n++; n%every != 0 {
			continue
		}
		p.Outcome, p.Stage, p.Peer = o, s, ""
		if s == record.Connecting {
			p.Connected = 0
		}
	}
}

func strict() Limits {
	gap, zero, deviation := 120*time.Millisecond, 0, 20.0
	return Limits{MaxGap: &gap, MaxFailed: &zero, MaxReturnFailed: &zero, MaxCut: &zero, MaxDeviation: &deviation}
}

func codes(reasons []Reason) []Code {
	var out []Code
	for _, r := range reasons {
		if r.Message == "" {
			out = append(out, r.Code+" without a message")
			continue
		}
		out = append(out, r.Code)
	}
	return out
}

func TestARunWithoutLossPasses(t *testing.T) {
	v := Judge(good(), strict())
	if !v.Passed() {
		t.Fatalf("invalid %v, broken %v", v.Invalid, v.Broken)
	}
	if v.Sent != 4000 || v.Answered != 4000 || v.Failed+v.Cut+v.NotSent != 0 || v.LongestGap != 0 || len(v.Outages) != 0 {
		t.Errorf("counts %+v, gap %v", v.Counts, v.LongestGap)
	}
	if v.CPUPerProbe != 50*time.Microsecond || v.MaxLate != time.Microsecond {
		t.Errorf("CPU %v, late %v", v.CPUPerProbe, v.MaxLate)
	}
	if !v.Back || v.FirstCarried != 4*time.Second {
		t.Errorf("back %v at %v, want at 4s", v.Back, v.FirstCarried)
	}
	var names []string
	for _, w := range v.Windows {
		names = append(names, fmt.Sprintf("%s %v %v %d %v %v", w.Name, w.Start, w.Length, w.Sent, w.Converged, w.Observed))
	}
	want := []string{
		"before -1s 1s 500 0s false", "kill 0s 3s 1500 80ms true", "start 3s 2s 1000 1s true", "after 5s 2.001s 1000 0s false",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	router := []Change{
		{At: -1500 * time.Millisecond, NextHops: []string{"n1", "n2", "n3"}},
		{At: 80 * time.Millisecond, NextHops: []string{"n1", "n3"}},
		{At: 4 * time.Second, NextHops: []string{"n1", "n2", "n3"}},
	}
	if diff := cmp.Diff(router, v.Router); diff != "" {
		t.Errorf("router (-want +got):\n%s", diff)
	}
}

// Each rule must be able to say no: one planted fault, one finding.
func TestEachPlantedFaultIsFound(t *testing.T) {
	for _, tc := range []struct {
		name    string
		plant   func(h *History)
		invalid []Code
		broken  []Code
	}{
		{name: "an outage", plant: func(h *History) { fail(h, killAt, killAt+200*ms, 1, record.Refused, record.Connecting) }, broken: []Code{GapTooLong, TooManyFailed}},
		{name: "one failure", plant: func(h *History) { fail(h, killAt, killAt+2*ms, 1, record.TimedOut, record.Established) }, broken: []Code{TooManyFailed}},
		{name: "failures during the return", plant: func(h *History) { fail(h, backAt, backAt+4*ms, 1, record.Refused, record.Connecting) }, broken: []Code{TooManyFailed, TooManyFailedBack}},
		{name: "failures after the return", plant: func(h *History) { fail(h, recAt+ms, recAt+4*ms, 1, record.WrongAnswer, record.Established) }, broken: []Code{TooManyFailed, TooManyFailedBack}},
		{name: "flicker is one long outage", plant: func(h *History) { fail(h, killAt, killAt+400*ms, 100, record.Refused, record.Connecting) }, broken: []Code{GapTooLong, TooManyFailed}},
		{name: "a probe cut by the re-hash", plant: func(h *History) {
			p := &h.Probes[2500] // due at 5000 ms
			p.Connected, p.Ended, p.Outcome, p.Peer = stamp(backAt-ms), stamp(backAt+ms), record.Reset, ""
		}, broken: []Code{TooManyCut}},
		{name: "a held connection cut by the re-hash", plant: func(h *History) {
			h.Held = append(h.Held, record.Held{Connected: stamp(0), Ended: stamp(dropAt + ms), Outcome: record.Reset, Stage: record.Established, Peer: "10.0.1.2"})
		}, broken: []Code{TooManyCut}},
		{name: "a node without its share", plant: func(h *History) {
			for i := range h.Probes {
				if p := &h.Probes[i]; p.Scheduled >= stamp(recAt) && i%4 != 0 {
					p.Peer = "10.0.1.2"
				}
			}
		}, broken: []Code{Uneven}},
		{name: "the victim stays without traffic", plant: func(h *History) {
			for i := range h.Probes {
				if p := &h.Probes[i]; p.Scheduled >= stamp(killAt) && p.Peer == "10.0.2.2" {
					p.Peer = "10.0.1.2"
				}
			}
		}, broken: []Code{Uneven, NotBack}},

		{name: "no end of the record", plant: func(h *History) { h.End = nil }, invalid: []Code{NotWhole}},
		{name: "no beginning of the record", plant: func(h *History) { h.Begin = nil }, invalid: []Code{NotWhole}},
		{name: "a line of the record missing", plant: func(h *History) { h.Probes = slices.Delete(h.Probes, 600, 601) }, invalid: []Code{NotWhole}},
		{name: "a line of the record twice", plant: func(h *History) { h.Probes[601] = h.Probes[600] }, invalid: []Code{NotWhole}},
		{name: "no probes", plant: func(h *History) { h.Probes, h.End.Sent = nil, 0 }, invalid: []Code{NothingSent}},
		{name: "none before the fault", plant: func(h *History) { h.Steps[0].Began = at(-ms) }, invalid: []Code{NotAnswering, VictimIdle}},
		{name: "none answered before the fault", plant: func(h *History) { fail(h, 0, killAt, 1, record.TimedOut, record.Connecting) }, invalid: []Code{NotAnswering, FailingBefore, VictimIdle}},
		{name: "some failed before the fault", plant: func(h *History) { fail(h, 100*ms, 102*ms, 1, record.Refused, record.Connecting) }, invalid: []Code{FailingBefore}},
		{name: "the prober could not send", plant: func(h *History) { fail(h, killAt, killAt+2*ms, 1, record.NotSent, record.Connecting) }, invalid: []Code{ProberFull}},
		{name: "the prober was late", plant: func(h *History) { h.Probes[700].Sent += 101 * ms; h.Probes[700].Ended += 101 * ms }, invalid: []Code{ProberLate}},
		{name: "no router record", plant: func(h *History) { h.Router = nil }, invalid: []Code{NoRouter}},
		{name: "the router never dropped the victim", plant: func(h *History) { h.Router = h.Router[:1] }, invalid: []Code{FaultNotSeen, FaultNotSeen}},
		{name: "the router never took it back", plant: func(h *History) { h.Router = h.Router[:2] }, invalid: []Code{FaultNotSeen}},
		{name: "the route was only replaced", plant: func(h *History) {
			h.Router = []fib.Change{h.Router[0], {At: at(dropAt)}, {At: at(dropAt + 1), Hops: hops(1, 2, 3)}}
		}, invalid: []Code{FaultNotSeen, FaultNotSeen}},
		{name: "another node left", plant: func(h *History) { h.Router[1].Hops = hops(1, 2) }, invalid: []Code{FaultNotSeen, FaultNotSeen}},
		{name: "the router dropped it before the fault", plant: func(h *History) { h.Router[1].At = at(killAt - ms) }, invalid: []Code{FaultNotSeen, VictimIdle}},
		{name: "the victim carried nothing before", plant: func(h *History) {
			for i := range h.Probes {
				if p := &h.Probes[i]; p.Peer == "10.0.2.2" && p.Scheduled < stamp(killAt) {
					p.Peer = "10.0.1.2"
				}
			}
		}, invalid: []Code{VictimIdle}},
		{name: "nobody says who carries", plant: func(h *History) {
			for i := range h.Probes {
				h.Probes[i].Peer = ""
			}
		}, invalid: []Code{VictimIdle}},
		{name: "no traffic after the fault", plant: func(h *History) {
			h.Probes = h.Probes[:500]
			h.End.Sent = 500
		}, invalid: []Code{WindowEmpty, WindowEmpty, WindowEmpty}},
		{name: "the clock was set", plant: func(h *History) { h.Doubts = append(h.Doubts, ClockStep(time.Second)) }, invalid: []Code{ClockStepped}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := good()
			tc.plant(&h)
			v := Judge(h, strict())
			if diff := cmp.Diff(tc.invalid, codes(v.Invalid)); diff != "" {
				t.Errorf("invalid (-want +got):\n%s\n%v", diff, v.Invalid)
			}
			if diff := cmp.Diff(tc.broken, codes(v.Broken)); diff != "" {
				t.Errorf("broken (-want +got):\n%s\n%v", diff, v.Broken)
			}
			if v.Passed() {
				t.Error("passed")
			}
		})
	}
}

func TestNoLimitIsNotALimit(t *testing.T) {
	h := good()
	fail(&h, killAt, killAt+200*ms, 1, record.Refused, record.Connecting)
	if v := Judge(h, Limits{}); !v.Passed() {
		t.Errorf("invalid %v, broken %v", v.Invalid, v.Broken)
	}
}

// cut is a word for what is proven, not an excuse.
func TestOnlyAProvenCutIsCut(t *testing.T) {
	for _, tc := range []struct {
		name             string
		connected, ended int64
		outcome          record.Outcome
		want             fate
	}{
		{"established before the change, reset after it", backAt - ms, backAt + ms, record.Reset, cut},
		{"the same, but the victim's death explains it", dropAt - ms, dropAt + ms, record.Reset, failed},
		{"established long before the change", backAt - 21*ms, backAt + ms, record.Reset, failed},
		{"reset long after the change", backAt - ms, backAt + 21*ms, record.Reset, failed},
		{"established after the change", backAt + ms, backAt + 2*ms, record.Reset, failed},
		{"established at the very time of the change", backAt, backAt + ms, record.Reset, failed},
		{"reset before the change", backAt - 2*ms, backAt - ms, record.Reset, failed},
		{"never established", -1, backAt + ms, record.Reset, failed},
		{"refused", -1, backAt + ms, record.Refused, failed},
		{"not reset but silent", backAt - ms, backAt + 1000*ms, record.TimedOut, failed},
		{"not reset but closed", backAt - ms, backAt + ms, record.Closed, failed},
		{"open at the start of the router's record alone", -600 * ms, 10 * ms, record.Reset, failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := record.Probe{Ended: stamp(tc.ended), Outcome: tc.outcome, Connected: stamp(tc.connected)}
			if tc.connected == -1 {
				p.Connected = 0
			}
			if got := newJudge(good(), Limits{}).fateOf(p); got != tc.want {
				t.Errorf("fate %d, want %d", got, tc.want)
			}
		})
	}
}

func TestOutages(t *testing.T) {
	for _, tc := range []struct {
		name string
		due  []int64 // ms of failing probes
		want []Outage
	}{
		{name: "none"},
		{name: "a single failure lasts one interval", due: []int64{1010}, want: []Outage{{Start: 10 * time.Millisecond, Length: 2 * time.Millisecond, Failed: 1}}},
		{name: "a run, with answers between", due: []int64{1010, 1012, 1050}, want: []Outage{{Start: 10 * time.Millisecond, Length: 42 * time.Millisecond, Failed: 3}}},
		{name: "498 ms apart is one", due: []int64{1010, 1508}, want: []Outage{{Start: 10 * time.Millisecond, Length: 500 * time.Millisecond, Failed: 2}}},
		{name: "500 ms apart is two", due: []int64{1010, 1510}, want: []Outage{
			{Start: 10 * time.Millisecond, Length: 2 * time.Millisecond, Failed: 1}, {Start: 510 * time.Millisecond, Length: 2 * time.Millisecond, Failed: 1},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := good()
			for _, due := range tc.due {
				fail(&h, due*ms, due*ms+interval, 1, record.Refused, record.Connecting)
			}
			slices.Reverse(h.Probes) // the order in which they ended is not that in which they were due
			v := Judge(h, Limits{})
			if diff := cmp.Diff(tc.want, v.Outages); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var longest time.Duration
			for _, o := range tc.want {
				longest = max(longest, o.Length)
			}
			if v.LongestGap != longest || v.Windows[1].LongestGap != longest || v.Windows[2].LongestGap != 0 {
				t.Errorf("longest gap %v, of the kill's window %v, want %v", v.LongestGap, v.Windows[1].LongestGap, longest)
			}
		})
	}
}

func TestAProbeUnderWayAtTheFaultIsTheFaults(t *testing.T) {
	h := good()
	p := &h.Probes[499] // due at 998 ms, answered at 999
	p.Outcome, p.Ended = record.Reset, stamp(killAt+ms)
	v := Judge(h, Limits{})
	if len(v.Invalid) != 0 || v.Windows[0].Failed != 0 || v.Windows[1].Failed != 1 {
		t.Errorf("invalid %v, failed before %d, after the kill %d", v.Invalid, v.Windows[0].Failed, v.Windows[1].Failed)
	}
	if v.Windows[0].LongestGap != 0 || v.Windows[1].LongestGap != 2*time.Millisecond {
		t.Errorf("its gap is counted before the fault: %v, after: %v", v.Windows[0].LongestGap, v.Windows[1].LongestGap)
	}
	if v.FirstFailure != -2*time.Millisecond {
		t.Errorf("first failure at %v, want when it was due, -2ms", v.FirstFailure)
	}
}

// FRR deletes an IPv6 route before it writes the changed one.
func TestARouteThatIsDeletedFirstConvergesWithTheNextOne(t *testing.T) {
	h := good()
	h.Router = []fib.Change{h.Router[0], {At: at(dropAt)}, {At: at(dropAt + ms), Hops: hops(1, 3)}, {At: at(backAt)}, {At: at(backAt + ms), Hops: hops(1, 2, 3)}}
	v := Judge(h, strict())
	if !v.Passed() || v.Windows[1].Converged != 81*time.Millisecond || v.Windows[2].Converged != 1001*time.Millisecond {
		t.Errorf("invalid %v, broken %v, converged after %v and %v", v.Invalid, v.Broken, v.Windows[1].Converged, v.Windows[2].Converged)
	}
}

func TestFailuresAreCountedByKind(t *testing.T) {
	h := good()
	fail(&h, killAt, killAt+10*ms, 1, record.Refused, record.Connecting)
	fail(&h, killAt+10*ms, killAt+14*ms, 1, record.Reset, record.Established)
	v := Judge(h, Limits{})
	want := []Kind{{Outcome: record.Refused, Stage: record.Connecting, Count: 5}, {Outcome: record.Reset, Stage: record.Established, Count: 2}}
	if diff := cmp.Diff(want, v.By); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		name     string
		carried  map[string]int
		expected []string
		want     float64
		shares   int
	}{
		{"even", map[string]int{"n1": 10, "n2": 10}, []string{"n1", "n2"}, 0, 2},
		{"a fifth too much", map[string]int{"n1": 12, "n2": 8}, []string{"n1", "n2"}, 20, 2},
		{"a next hop without traffic", map[string]int{"n1": 10, "n2": 10}, []string{"n1", "n2", "n3"}, 100, 3},
		{"one that is no next hop", map[string]int{"n1": 10, "n2": 10}, []string{"n1"}, 0, 2},
		{"nothing", nil, []string{"n1"}, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := spreadOf(tc.carried, tc.expected)
			if d := s.Deviation - tc.want; d > 1e-9 || d < -1e-9 || len(s.Shares) != tc.shares {
				t.Errorf("%+v, want a deviation of %v over %d", s, tc.want, tc.shares)
			}
		})
	}
}

func TestLatencyCountsFromWhenAProbeWasDue(t *testing.T) {
	h := good()
	for i := range h.Probes[:500] {
		if i%50 == 0 { // 2 %: sent late, answered at once
			h.Probes[i].Sent += 30 * ms
			h.Probes[i].Ended = h.Probes[i].Sent + ms
		}
	}
	l := Judge(h, Limits{}).Windows[0].Latency
	if l.P50 != time.Millisecond || l.P99 < 30*time.Millisecond || l.Max < l.P99 {
		t.Errorf("%+v", l)
	}
}

func TestPercentile(t *testing.T) {
	for _, tc := range []struct{ n, percent, want int }{{1, 50, 1}, {2, 50, 1}, {100, 99, 99}, {101, 99, 100}, {10, 100, 10}, {0, 50, 0}} {
		var sorted []int
		for i := range tc.n {
			sorted = append(sorted, i+1)
		}
		if got := Percentile(sorted, tc.percent); got != tc.want {
			t.Errorf("p%d of 1..%d = %d, want %d", tc.percent, tc.n, got, tc.want)
		}
	}
}

func TestHeldConnectionsByNode(t *testing.T) {
	h := good()
	life := func(peer string, connected, ended int64, o record.Outcome) {
		l := record.Held{Connected: stamp(connected), Ended: stamp(ended), Outcome: o, Stage: record.Established, Peer: peer}
		if connected < 0 {
			l.Connected, l.Stage = 0, record.Connecting
		}
		h.Held = append(h.Held, l)
	}
	life("10.0.1.2", 0, endAt, record.OK)
	life("10.0.1.2", 0, dropAt+5*ms, record.Reset)
	life("10.0.1.2", 0, dropAt+500*ms, record.Reset)
	h.Held[2].Asked = stamp(dropAt + 300*ms)     // so the change did not harm it
	life("10.0.2.2", 0, killAt+ms, record.Reset) // by its node's death, before the router changed anything
	life("10.0.2.2", 0, dropAt+ms, record.Reset) // by the same, seen late
	life("", 0, dropAt+ms, record.Reset)         // by the same, for all that is known
	life("10.0.2.2", 0, killAt+ms, record.Finished)
	life("", -1, killAt+200*ms, record.Refused)
	v := Judge(h, Limits{})
	want := []HeldNode{{Refused: 1, Broken: 1}, {Node: "n1", Alive: 1, Cut: 1, Broken: 1}, {Node: "n2", Broken: 2, Finished: 1}}
	if diff := cmp.Diff(want, v.Held); diff != "" || v.HeldCut != 1 {
		t.Errorf("%d cut; (-want +got):\n%s", v.HeldCut, diff)
	}
}

// Without steps (the measurement of the spread) the whole run is one window.
func TestWithoutSteps(t *testing.T) {
	h := good()
	h.Steps, h.Victim, h.Recovered = nil, "", time.Time{}
	h.Router = h.Router[:1]
	deviation := 20.0
	if v := Judge(h, Limits{MaxDeviation: &deviation}); len(v.Invalid) != 0 || len(v.Broken) != 1 || v.Broken[0].Code != Uneven {
		t.Errorf("n2 was away for half of it: invalid %v, broken %v", v.Invalid, v.Broken)
	}
}
