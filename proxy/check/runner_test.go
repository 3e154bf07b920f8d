package check

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunnerKeepsItsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var starts []time.Duration
		probe := func(ctx context.Context, _ netip.AddrPort) error {
			starts = append(starts, time.Since(begin))
			switch len(starts) {
			case 2: // runs into its timeout
				<-ctx.Done()
				return ctx.Err()
			case 3:
				return errors.New("status 503")
			case 4:
				time.Sleep(900 * time.Millisecond)
			}
			return nil
		}
		var reasons []string
		done := make(chan struct{})
		r := NewRunner(0)
		waits := []time.Duration{2 * time.Second, 2 * time.Second, 500 * time.Millisecond, 500 * time.Millisecond, time.Hour}
		task := r.Start(Task{Probe: probe, Timeout: time.Second, First: 100 * time.Millisecond, Report: func(res Result) Next {
			reasons = append(reasons, res.Reason)
			if res.OK != (res.Reason == "ok") || !res.At.Equal(time.Now()) {
				t.Errorf("result %+v at %v", res, time.Now())
			}
			if len(reasons) == len(waits) {
				close(done)
			}
			return Next{Wait: waits[len(reasons)-1]}
		}})
		<-done
		task.Stop()
		task.Stop() // a second time does nothing
		r.Wait()
		// From start to start; the fourth took longer than its interval.
		want := []time.Duration{100, 2100, 4100, 4600, 5500}
		for i, s := range starts {
			if s != want[i]*time.Millisecond {
				t.Errorf("check %d began after %v, want %vms", i, s, want[i])
			}
		}
		if got, want := strings.Join(reasons, ","), "ok,timeout,status 503,ok,ok"; got != want {
			t.Errorf("reasons = %s, want %s", got, want)
		}
	})
}

func TestStopDoesNotReportWhatItCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRunner(0)
		task := r.Start(Task{Timeout: time.Hour, Probe: func(ctx context.Context, _ netip.AddrPort) error {
			<-ctx.Done()
			return ctx.Err()
		}, Report: func(Result) Next {
			t.Error("a check that was cut short was reported")
			return Next{}
		}})
		synctest.Wait()
		task.Stop()
		r.Wait()
	})
}

func TestStopBeforeTheFirstCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRunner(0)
		task := r.Start(Task{First: time.Second, Timeout: time.Second, Probe: func(context.Context, netip.AddrPort) error {
			t.Error("a stopped task was run")
			return nil
		}})
		task.Stop()
		r.Wait()
		time.Sleep(time.Minute)
	})
}

// Forty servers that let their checks time out and forty healthy ones, with
// ten slots: never more than ten checks run, and the healthy servers are
// checked on time once it is known who is down.
func TestTheBoundHoldsAndTheDownDoNotCrowdOutTheHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const servers, bound = 40, 10
		var inFlight, most, healthy atomic.Int64
		r := NewRunner(bound)
		probe := func(hangs bool) Probe {
			return func(ctx context.Context, _ netip.AddrPort) error {
				now := inFlight.Add(1)
				defer inFlight.Add(-1)
				for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
				}
				if hangs {
					<-ctx.Done()
					return ctx.Err()
				}
				time.Sleep(time.Millisecond)
				return nil
			}
		}
		var tasks []*Running
		for i := range servers {
			first := time.Duration(i) * time.Second / servers
			tasks = append(tasks,
				r.Start(Task{Probe: probe(true), Timeout: time.Second, First: first, Report: func(res Result) Next { return Next{time.Second, !res.OK} }}),
				r.Start(Task{Probe: probe(false), Timeout: time.Second, First: first, Report: func(res Result) Next {
					healthy.Add(1)
					return Next{time.Second, !res.OK}
				}}))
		}
		time.Sleep(10 * time.Second) // until every one that hangs has been found out
		before := healthy.Load()
		time.Sleep(10 * time.Second)
		if got := healthy.Load() - before; got < 10*servers*9/10 {
			t.Errorf("%d checks of healthy servers in 10 s, want %d", got, 10*servers)
		}
		for _, task := range tasks {
			task.Stop()
		}
		r.Wait()
		if most.Load() != bound {
			t.Errorf("at most %d checks at one time, want %d", most.Load(), bound)
		}
	})
}

func TestStartAndStopAtOnce(t *testing.T) {
	r := NewRunner(4)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				task := r.Start(Task{Timeout: time.Second, Probe: func(context.Context, netip.AddrPort) error { return nil }, Report: func(Result) Next { return Next{} }})
				task.Stop()
			}
		})
	}
	group.Wait()
	r.Wait()
}
