package drill

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// cli is a script for steered: a configuration in a file, and a file "down" while
// which there is no majority.
func cli(t *testing.T) (script string, config, down string) {
	t.Helper()
	dir := t.TempDir()
	config, down = filepath.Join(dir, "config"), filepath.Join(dir, "down")
	if err := os.WriteFile(config, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return `case "$2" in
get) cat ` + config + `;;
apply) [ ! -e ` + down + ` ] || { cat >/dev/null; cat ` + down + ` >&2; exit 1; }; cat >` + config + `;;
status) echo '{"vips": [{"name": "web", "addresses": ["127.0.0.1"], "announcing": false, "reasons": [{"code": "disk_full"}]}]}';;
esac`, config, down
}

func newTestOperator(t *testing.T) (op *operator, config, down string) {
	t.Helper()
	script, config, down := cli(t)
	op, err := newOperator(t.Context(), steered{newFakeSite(t), script})
	if err != nil {
		t.Fatal(err)
	}
	return op, config, down
}

func TestChecksFindWhatIsWrong(t *testing.T) {
	op, _, down := newTestOperator(t)
	plan := Plan{Node: "n2", Parts: []Part{{Node: "n2"}}}
	wrong := func(checks []oracle.Check) (out []string) {
		for _, c := range checks {
			out = append(out, c.Wrong)
			if c.What == "" || c.At.IsZero() {
				t.Errorf("%+v", c)
			}
		}
		return out
	}
	if got := wrong(refusedOnAll(t.Context(), op, plan)); !slices.Equal(got, []string{"it was accepted", "it was accepted", "it was accepted"}) {
		t.Errorf("with a majority: %q", got)
	}
	if !op.changed {
		t.Error("it is forgotten that the configuration was changed")
	}
	if got := wrong(acceptedAgain(t.Context(), op, plan)); !slices.Equal(got, []string{""}) || op.changed {
		t.Errorf("with a majority: %q, still changed: %v", got, op.changed)
	}
	if err := os.WriteFile(down, []byte("no leader: a majority of the members must be up\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := wrong(refusedOnAll(t.Context(), op, plan)); !slices.Equal(got, []string{"", "", ""}) {
		t.Errorf("without a majority: %q", got)
	}
	if err := os.WriteFile(down, []byte("EOF\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := wrong(refusedOnAll(t.Context(), op, plan)); len(got) != 3 || !strings.Contains(got[0], "does not say so") {
		t.Errorf("without a reason: %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := wrong(acceptedByOthers(ctx, op, plan)); len(got) != 1 || got[0] == "" {
		t.Errorf("without a majority, and no time: %q", got)
	}
	if got := wrong(saysWhy("disk_full", false)(t.Context(), op, plan)); !slices.Equal(got, []string{""}) {
		t.Errorf("its status: %q", got)
	}
	for _, tc := range []struct {
		code       string
		announcing bool
	}{{"disk_full", true}, {"probe_failed", false}} {
		if got := wrong(saysWhy(tc.code, tc.announcing)(ctx, op, plan)); len(got) != 1 || got[0] == "" {
			t.Errorf("%+v: %q", tc, got)
		}
	}
}

func TestSaysOfAnotherVIP(t *testing.T) {
	if err := says([]byte(`{"vips": [{"name": "web", "addresses": ["198.51.100.1"]}]}`), "198.51.100.2", "disk_full", false); err == nil || !strings.Contains(err.Error(), "198.51.100.2") {
		t.Errorf("err = %v", err)
	}
}

// stay is a drill that nobody should notice.
func stay() Scenario {
	s := quorumLoss()
	s.Meanwhile, s.Afterwards = nil, nil
	return s
}

func TestADrillThatNobodyNotices(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fault  func(f *fakeFault)
		broken []oracle.Code
		doubts []oracle.Code
	}{
		{name: "and nobody does", fault: func(f *fakeFault) { f.harmless, f.met = true, 7 }},
		{name: "nothing met the fault", fault: func(f *fakeFault) { f.harmless = true }, doubts: []oracle.Code{oracle.FaultNotSeen}},
		{name: "a node leaves", fault: func(f *fakeFault) { f.met = 7 }, broken: []oracle.Code{oracle.TooManyFailed, oracle.HopsChanged, oracle.HopsChanged}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newFakeSite(t)
			tc.fault(&s.fault)
			o := quick()
			o.Hold = quick().Settle
			o.Limits.MaxFailed = limit(0)
			plan := stay()
			plan.Plan = nil // of n2 alone: the fake has one fault
			result, err := Run(t.Context(), s, plan, o, slog.New(slog.DiscardHandler), func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			if got := codesOf(result.Verdict.Broken); !slices.Equal(got, tc.broken) {
				t.Errorf("broken %v", result.Verdict.Broken)
			}
			if got := codesOf(result.Verdict.Invalid); !slices.Equal(got, tc.doubts) {
				t.Errorf("invalid %v", result.Verdict.Invalid)
			}
			if s.fault.reverted != 1 {
				t.Errorf("reverted %d times", s.fault.reverted)
			}
		})
	}
}

func codesOf(reasons []oracle.Reason) (out []oracle.Code) {
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	return out
}

func TestADrillThatPasses(t *testing.T) {
	s := newFakeSite(t)
	s.fault.harmless, s.fault.passes, s.fault.met = true, true, 1
	var told []string
	result, err := Run(t.Context(), s, bgpReset(), quick(), slog.New(slog.DiscardHandler), func(what string) { told = append(told, what) })
	if err != nil {
		t.Fatal(err)
	}
	if v := result.Verdict; len(v.Invalid) > 0 || !v.Back || v.Windows[2].Name != "return" || !v.Windows[2].Observed {
		t.Errorf("invalid %v, back %v, windows %+v", v.Invalid, v.Back, v.Windows)
	}
	if !slices.Contains(told, "the router took n2 back") {
		t.Errorf("told %q", told)
	}
}

// A drill that ends in the middle of a check leaves the configuration as it was.
func TestTheConfigurationIsPutBack(t *testing.T) {
	script, config, _ := cli(t)
	s := steered{newFakeSite(t), script}
	s.fault.harmless, s.fault.met = true, 1
	plan := stay()
	plan.Plan = nil
	ctx, cancel := context.WithCancel(t.Context())
	plan.Meanwhile = func(ctx context.Context, op *operator, p Plan) []oracle.Check {
		checks := refusedOnAll(ctx, op, p)
		cancel()
		return checks
	}
	if _, err := Run(ctx, s, plan, quick(), slog.New(slog.DiscardHandler), func(string) {}); err == nil {
		t.Error("it came to its end")
	}
	if text, err := os.ReadFile(config); err != nil || string(text) != document {
		t.Errorf("left behind, %v:\n%s", err, text)
	}
	if s.fault.reverted != 1 {
		t.Errorf("reverted %d times", s.fault.reverted)
	}
}

// tidy is a site that has something to tidy, and may not be able to.
type tidy struct {
	*fakeSite
	err   error
	calls *int
}

func (s tidy) Tidy(context.Context) error { *s.calls++; return s.err }

func TestWhatAnEarlierDrillLeftIsEndedFirst(t *testing.T) {
	errTidy := errors.New("ss: not found")
	for _, want := range []error{nil, errTidy} {
		s := tidy{newFakeSite(t), want, new(int)}
		if _, err := Run(t.Context(), s, nodeKill(), quick(), slog.New(slog.DiscardHandler), func(string) {}); !errors.Is(err, want) {
			t.Errorf("err = %v, want %v", err, want)
		}
		if broke := s.fault.injected == 1; *s.calls != 1 || broke != (want == nil) {
			t.Errorf("tidied %d times, injected %d times", *s.calls, s.fault.injected)
		}
	}
}
