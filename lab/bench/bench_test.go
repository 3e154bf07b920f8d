package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseWrk(t *testing.T) {
	const out = `Running 2s test @ http://198.51.100.1:8080/small
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   617.00us  300.00us   5.00ms   80.00%
  Latency Distribution
     50%  610.00us
     75%    0.80ms
     90%    1.00ms
     99%    2.36ms
  186000 requests in 2.00s, 50.00MB read
  Socket errors: connect 1, read 7, write 2, timeout 3
  Non-2xx or 3xx responses: 4
Requests/sec:  93000.00
`
	want := Sample{Units: 186000, Failed: 17, Took: 2 * time.Second, P50: 610 * time.Microsecond, P99: 2360 * time.Microsecond}
	got, err := parseWrk(out, false)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	if got, _ := parseWrk(out, true); got.Failed != 10 {
		t.Errorf("%d failed with a connection each, want 10: the server's closing is no failure", got.Failed)
	}
	if _, err := parseWrk("unable to connect", false); err == nil {
		t.Error("a run that failed was read")
	}
}

func TestParseH2load(t *testing.T) {
	const out = `starting benchmark...
Main benchmark duration is started for thread #0.

finished in 2.00s, 45804.00 req/s, 8.00MB/s
requests: 91608 total, 91700 started, 91608 done, 91605 succeeded, 1 failed, 1 errored, 1 timeout
status codes: 91605 2xx, 0 3xx, 0 4xx, 3 5xx
`
	want := Sample{Units: 91608, Failed: 3, Took: 2 * time.Second}
	got, err := parseH2load(out)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	if _, err := parseH2load("finished in 1s, 0 req/s"); err == nil {
		t.Error("a run that counted nothing was read")
	}
}

func TestPercentiles(t *testing.T) {
	var log strings.Builder
	for i := range 101 {
		log.WriteString("1700000000000000\t200\t" + strings.Repeat("1", i/100) + "10\n")
	}
	p50, p99, err := percentiles([]byte(log.String() + "17000"))
	if p50 != 10*time.Microsecond || p99 != 10*time.Microsecond || err != nil {
		t.Errorf("%v, %v, %v", p50, p99, err)
	}
	if _, _, err := percentiles(nil); err == nil {
		t.Error("an empty log was read")
	}
	if _, _, err := percentiles([]byte("1 200 x\n")); err == nil {
		t.Error("no number was read")
	}
}

func TestJudge(t *testing.T) {
	haproxy := Result{Proxy: "haproxy", CPU: 100, P50: 10 * time.Millisecond, P99: 20 * time.Millisecond}
	tests := []struct {
		name string
		c    benchCase
		ours Result
		want []string
	}{
		{"all is well", benchCase{limit: 1, p50: 1.25, p99: time.Second, idle: 1}, Result{CPU: 100, P50: 12 * time.Millisecond, P99: 20 * time.Millisecond, Memory: 8192}, nil},
		{"too much CPU time", benchCase{limit: 0.9}, Result{CPU: 91}, []string{"0.91 times HAProxy's CPU time, at most 0.90 is wanted"}},
		{"failures", benchCase{unit: "calls"}, Result{Failed: 2, Why: "reset"}, []string{"2 calls failed: reset"}},
		{"slow", benchCase{p50: 1.25}, Result{P50: 13 * time.Millisecond}, []string{"half within 13ms, HAProxy has 10ms, and 1.25 times that is wanted"}},
		{"a long tail", benchCase{p99: 25 * time.Millisecond}, Result{P99: 26 * time.Millisecond}, []string{"99 % within 26ms, 25ms is wanted", "99 % within 26ms, HAProxy has 20ms"}},
		{"memory", benchCase{idle: 1}, Result{Memory: 8193}, []string{"8193 bytes for each connection, 8192 are wanted"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.ours.Proxy = "pharos"
			o := Outcome{Results: []Result{tt.ours, haproxy}}
			o.judge(tt.c)
			if diff := cmp.Diff(tt.want, o.Faults); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheMiddleTurnCounts(t *testing.T) {
	got := middle("x", []Sample{{Units: 1, CPU: 9}, {Units: 2, CPU: 2, Failed: 1, Why: "a"}, {Units: 1, CPU: 5, Took: time.Second, Failed: 2}})
	want := Result{Proxy: "x", CPU: 5, Rate: 1, Failed: 3, Why: "a", Units: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
