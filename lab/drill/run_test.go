package drill

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

func quick() Options {
	o := DefaultOptions()
	o.Node = "n2"
	o.Before, o.Settle, o.After = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	o.Limits.MaxLate = 10 * time.Second // the test's machine may be busy; that is not what is tested
	return o
}

func runDrill(t *testing.T, ctx context.Context, s *fakeSite, o Options) (Result, []string, error) {
	t.Helper()
	var told []string
	result, err := Run(ctx, s, nodeKill(), o, slog.New(slog.DiscardHandler), func(what string) { told = append(told, what) })
	return result, told, err
}

func TestRunMeasuresTheOutage(t *testing.T) {
	s := newFakeSite(t)
	result, told, err := runDrill(t, t.Context(), s, quick())
	if err != nil {
		t.Fatal(err)
	}
	v := result.Verdict
	if len(v.Invalid) > 0 {
		t.Fatalf("invalid: %v", v.Invalid)
	}
	if v.Failed == 0 || v.Windows[0].Failed != 0 || v.Windows[1].Failed != v.Failed || v.LongestGap <= 0 || v.LongestGap > v.Windows[1].Length {
		t.Errorf("%d failed, %d before, %d after the kill, gap %v: want some, all after the kill", v.Failed, v.Windows[0].Failed, v.Windows[1].Failed, v.LongestGap)
	}
	if !v.Back || !v.Windows[1].Observed || v.Windows[1].Converged < s.fault.detects {
		t.Errorf("back %v; converged %v after %v, want at least %v", v.Back, v.Windows[1].Observed, v.Windows[1].Converged, s.fault.detects)
	}
	want := []string{"traffic runs: a new connection every 2ms", "kill n2", "the router dropped n2", "start n2", "the router took n2 back"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if s.fault.injected != 1 || s.fault.reverted != 1 {
		t.Errorf("injected %d times, reverted %d times", s.fault.injected, s.fault.reverted)
	}
}

func TestRunSeesANodeThatDrawsTrafficBeforeItServes(t *testing.T) {
	s := newFakeSite(t)
	s.fault.startsDead = true
	o := quick()
	o.Limits.MaxReturnFailed = limit(0)
	result, _, err := runDrill(t, t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	var codes []oracle.Code
	for _, r := range result.Verdict.Broken {
		codes = append(codes, r.Code)
	}
	if diff := cmp.Diff([]oracle.Code{oracle.TooManyFailedBack, oracle.NotBack}, codes); diff != "" {
		t.Errorf("broken (-want +got):\n%s\ninvalid: %v", diff, result.Verdict.Invalid)
	}
}

func TestRunDoubtsARouterRecordThatMissedSomething(t *testing.T) {
	s := newFakeSite(t)
	router := newWatcher(s, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := router.start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.fault.deafIp = true
	s.route("n1", "n3")
	if _, doubts := router.finish(ctx); len(doubts) != 1 || doubts[0].Code != oracle.RouterMismatch {
		t.Errorf("doubts %v", doubts)
	}
	cancel()
	wait()
	if _, doubts := router.finish(t.Context()); len(doubts) != 1 || !strings.Contains(doubts[0].Message, "watch of the router's routes ended") {
		t.Errorf("doubts after the monitor ended: %v", doubts)
	}
}

// brokenProber is a site whose prober cannot run.
type brokenProber struct{ *fakeSite }

func (b brokenProber) Prober(ctx context.Context, _ ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", "echo no such container >&2; exit 7")
}

// brokenRouter is a site whose router cannot be asked.
type brokenRouter struct{ *fakeSite }

func (b brokenRouter) Router(ctx context.Context, _ ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", "echo connection refused >&2; exit 255")
}

func TestRunThatCannotEndLeavesNothingBroken(t *testing.T) {
	errInject := errors.New("permission denied")
	for _, tc := range []struct {
		name     string
		options  func(o *Options)
		fault    func(f *fakeFault)
		site     func(s *fakeSite) Site
		hops     []string
		is       error
		says     string
		injected int
	}{
		{name: "unknown node", options: func(o *Options) { o.Node = "n9" }, is: ErrNoNode, says: "fake has n1, n2, n3"},
		{name: "bad options", options: func(o *Options) { o.Interval = 0 }, says: "interval: 0s is not within"},
		{name: "the node is away already", hops: []string{"n1", "n3"}, says: "want n2 among two at least"},
		{name: "the node is the only one", hops: []string{"n2"}, says: "want n2 among two at least"},
		{name: "the prober cannot run", site: func(s *fakeSite) Site { return brokenProber{s} }, says: "no such container"},
		{name: "the router cannot be asked", site: func(s *fakeSite) Site { return brokenRouter{s} }, says: "connection refused"},
		{name: "inject fails", fault: func(f *fakeFault) { f.injectErr = errInject }, is: errInject, injected: 1},
		{name: "the router never drops the node", options: func(o *Options) { o.Leave = time.Second }, fault: func(f *fakeFault) { f.neverDrops = true }, says: "waited for the router to drop n2 (it has n1, n2, n3): not within 1s", injected: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fake := newFakeSite(t)
			var s Site = fake
			if tc.site != nil {
				s = tc.site(fake)
			}
			if tc.fault != nil {
				tc.fault(&fake.fault)
			}
			if tc.hops != nil {
				fake.route(tc.hops...)
			}
			o := quick()
			if tc.options != nil {
				tc.options(&o)
			}
			_, err := Run(t.Context(), s, nodeKill(), o, slog.New(slog.DiscardHandler), func(string) {})
			if err == nil || !strings.Contains(err.Error(), tc.says) || (tc.is != nil && !errors.Is(err, tc.is)) {
				t.Errorf("err = %v, want %v %q", err, tc.is, tc.says)
			}
			if fake.fault.injected != tc.injected || fake.fault.reverted != tc.injected {
				t.Errorf("injected %d times, reverted %d times; want %d each", fake.fault.injected, fake.fault.reverted, tc.injected)
			}
		})
	}
}

func TestAnInterruptReverts(t *testing.T) {
	s := newFakeSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, s, nodeKill(), quick(), slog.New(slog.DiscardHandler), func(what string) {
		if what == "the router dropped n2" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || s.fault.reverted != 1 {
		t.Errorf("reverted %d times, err = %v", s.fault.reverted, err)
	}
}

func TestSpreadSendsSoManyAndJudges(t *testing.T) {
	s := newFakeSite(t)
	o := quick()
	o.Limits.MaxDeviation, o.Limits.MaxFailed = limit(20.0), limit(0)
	result, err := Spread(t.Context(), s, 100, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if v := result.Verdict; !v.Passed() || v.Sent != 100 || len(v.Windows) != 1 || len(v.Windows[0].Spread.Shares) != fakeNodes {
		t.Errorf("sent %d, %+v, invalid %v, broken %v", v.Sent, v.Windows, v.Invalid, v.Broken)
	}

	s.route("n1", "n2", "n3") // n3 carries nothing from here on
	s.mu.Lock()
	s.hops = []string{"n1", "n2"}
	s.mu.Unlock()
	result, err = Spread(t.Context(), s, 100, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if v := result.Verdict; len(v.Broken) != 1 || v.Broken[0].Code != oracle.Uneven {
		t.Errorf("with a next hop that carries nothing: invalid %v, broken %v", v.Invalid, v.Broken)
	}
}

func TestFind(t *testing.T) {
	for _, s := range Scenarios() {
		if got, err := Find(s.Name); err != nil || got.Name != s.Name || s.Summary == "" || s.Story == "" || s.Inject == "" || (s.Revert == "") != (s.Name == "bgp-reset") {
			t.Errorf("%s: %+v, %v", s.Name, got, err)
		}
	}
	if _, err := Find("earthquake"); !errors.Is(err, ErrNoScenario) || !strings.Contains(err.Error(), "node-kill, drain, node-restart, listener-hang") {
		t.Errorf("err = %v", err)
	}
}

func TestClockOffset(t *testing.T) {
	s := newFakeSite(t)
	offset, err := clockOffset(t.Context(), aheadRouter{s})
	if err != nil {
		t.Fatal(err)
	}
	// The bound is only wide enough to tell an hour from none on a slow machine.
	if offset < 59*time.Minute || offset > 61*time.Minute {
		t.Errorf("offset %v, want about an hour", offset)
	}
}

// aheadRouter is a site whose router's clock is an hour ahead.
type aheadRouter struct{ *fakeSite }

func (a aheadRouter) Router(ctx context.Context, _ ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", "echo $(( $(date +%s) + 3600 ))000000000")
}
