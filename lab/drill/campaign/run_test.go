package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pharos-lb/pharos/lab/arpwatch"
	"github.com/pharos-lb/pharos/lab/drill/oracle/holders"
	"github.com/pharos-lb/pharos/lab/fault"
)

// TestMain makes the test binary the sniffer of the fake site, too.
func TestMain(m *testing.M) {
	if file := os.Getenv("CAMPAIGN_TEST_SNIFFER"); file != "" {
		if err := fakeSniffer(file, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// fakeSniffer "hears" what a file says: one line for each address, with the
// nodes that answer for it. One that is new announces itself, unless a line
// "deaf" says that nothing is heard.
func fakeSniffer(file string, args []string) error {
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = io.Copy(io.Discard, os.Stdin) }()
	emit := func(l arpwatch.Line) {
		text, _ := arpwatch.Append(nil, l)
		_, _ = os.Stdout.Write(text)
	}
	emit(arpwatch.Line{Begin: &arpwatch.Begin{At: time.Now()}})
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	known := map[string]string{}
	end := arpwatch.End{Asked: 1}
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-ticker.C:
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				words := strings.Fields(line)
				if words[0] == "lost" {
					end.Lost = 7
					continue
				}
				address := netip.MustParseAddr(words[0])
				for _, node := range words[1:] {
					kind := arpwatch.Answer
					if !slices.Contains(strings.Fields(known[words[0]]), node) {
						kind = arpwatch.Announcement
					}
					end.Claims++
					emit(arpwatch.Line{Claim: &arpwatch.Claim{At: time.Now(), Port: node, Address: address, MAC: macOf(node), Kind: kind}})
				}
				known[words[0]] = strings.Join(words[1:], " ")
			}
		}
	}
	end.At = time.Now()
	emit(arpwatch.Line{End: &end})
	return nil
}

func macOf(node string) arpwatch.MAC { return arpwatch.MAC{2, 0, 0, 0, 0, node[1] - '0'} }

// fakeSite is a cluster whose VIPs are held as a test says.
type fakeSite struct {
	t         *testing.T
	file      string
	holders   map[string][]string // by address
	inject    func(*fakeSite, Fault)
	lost      bool
	restored  int
	strictErr error
}

var fakeAddresses = []netip.Addr{netip.MustParseAddr("10.0.50.100"), netip.MustParseAddr("2001:db8:50::100")}

func newFakeSite(t *testing.T) *fakeSite {
	t.Helper()
	s := &fakeSite{t: t, file: filepath.Join(t.TempDir(), "holders"), holders: map[string][]string{}}
	for _, a := range fakeAddresses {
		s.holders[a.String()] = []string{"n1"}
	}
	// As it should be: the first node that is not broken takes over.
	s.inject = func(s *fakeSite, f Fault) { s.moveFrom(f.Node) }
	s.write()
	return s
}

func (s *fakeSite) moveFrom(broken string) {
	for a, held := range s.holders {
		if slices.Contains(held, broken) || broken == "" {
			next := "n1"
			if slices.Contains(held, "n1") {
				next = "n2"
			}
			s.holders[a] = []string{next}
		}
	}
}

// write puts the whole file in place at once.
func (s *fakeSite) write() {
	var b strings.Builder
	for a, held := range s.holders {
		fmt.Fprintln(&b, a, strings.Join(held, " "))
	}
	if s.lost {
		b.WriteString("lost\n")
	}
	if err := os.WriteFile(s.file+".new", []byte(b.String()), 0o600); err != nil {
		s.t.Error(err)
	}
	if err := os.Rename(s.file+".new", s.file); err != nil {
		s.t.Error(err)
	}
}

func (s *fakeSite) Name() string            { return "fake" }
func (s *fakeSite) Nodes() []string         { return three }
func (s *fakeSite) Addresses() []netip.Addr { return fakeAddresses }
func (s *fakeSite) Holders() map[arpwatch.MAC]string {
	return map[arpwatch.MAC]string{macOf("n1"): "n1", macOf("n2"): "n2", macOf("n3"): "n3"}
}

func (s *fakeSite) Sniffer(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CAMPAIGN_TEST_SNIFFER="+s.file)
	return cmd
}

func (s *fakeSite) Strict(context.Context) (func(context.Context) error, error) {
	return func(context.Context) error { s.restored++; return nil }, s.strictErr
}

func (s *fakeSite) Fault(f Fault) (fault.Injector, error) { return &fakeFault{s, f}, nil }

type fakeFault struct {
	site  *fakeSite
	fault Fault
}

func (f *fakeFault) Inject(context.Context) (fault.Moment, error) {
	f.site.inject(f.site, f.fault)
	f.site.write()
	return fault.Moment{}, nil
}

func (f *fakeFault) Revert(context.Context) (fault.Moment, error) { return fault.Moment{}, nil }

func runFake(t *testing.T, s *fakeSite) Result {
	t.Helper()
	o := DefaultOptions()
	o.Faults, o.Settle, o.Kinds = 2, time.Second, []Kind{Kill}
	for { // a seed by which they come one after the other
		rounds, err := Plan(o.Seed, o.Faults, s.Nodes(), o.Kinds)
		if err != nil {
			t.Fatal(err)
		}
		if len(rounds) == 2 {
			break
		}
		o.Seed++
	}
	result, err := Run(t.Context(), s, o, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	if s.restored != 1 {
		t.Errorf("the configuration was put back %d times", s.restored)
	}
	for _, write := range []func(io.Writer) error{result.Table, result.JSON} {
		var text bytes.Buffer
		if err := write(&text); err != nil {
			t.Error(err)
		}
		if text.Len() == 0 {
			t.Error("an empty report")
		}
	}
	return result
}

func TestACampaignPasses(t *testing.T) {
	t.Parallel()
	s := newFakeSite(t)
	s.inject = func(s *fakeSite, _ Fault) { s.moveFrom("") }
	r := runFake(t, s)
	if !r.Passed || r.Faults != 2 || len(r.Rounds) != 2 || r.Claims == 0 {
		text, _ := json.MarshalIndent(r, "", " ")
		t.Fatalf("%s", text)
	}
	for i, want := range []string{"n1 n2", "n2 n1"} {
		for _, v := range r.Rounds[i].VIPs {
			if got := v.Before + " " + v.After; got != want || v.Changes != 1 || v.Unsettled {
				t.Errorf("round %d: %+v, want %s", i, v, want)
			}
		}
	}
}

func TestACampaignFindsTwoHolders(t *testing.T) {
	t.Parallel()
	s := newFakeSite(t)
	s.inject = func(s *fakeSite, _ Fault) { s.holders[fakeAddresses[1].String()] = []string{"n1", "n3"} }
	r := runFake(t, s)
	if r.Passed || len(r.Violations) == 0 || r.Violations[0].Code != holders.TwoHolders || r.Violations[0].Address != fakeAddresses[1] {
		t.Errorf("passed %v, violations %v", r.Passed, r.Violations)
	}
	unsettled := 0
	for _, round := range r.Rounds {
		for _, v := range round.VIPs {
			if v.Unsettled {
				unsettled++
			}
		}
	}
	if unsettled == 0 {
		t.Error("two in turns count as one holder")
	}
}

func TestACampaignFindsAVIPWithoutAHolder(t *testing.T) {
	t.Parallel()
	s := newFakeSite(t)
	s.inject = func(s *fakeSite, _ Fault) {
		s.moveFrom("")
		s.holders[fakeAddresses[0].String()] = nil
	}
	r := runFake(t, s)
	if v := r.Rounds[0].VIPs[0]; r.Passed || !v.Unsettled || v.Silence < 200*time.Millisecond {
		t.Errorf("passed %v, %+v", r.Passed, v)
	}
	var table bytes.Buffer
	_ = r.Table(&table)
	if !strings.Contains(table.String(), "FAILED  2 faults of fake, seed ") || !strings.Contains(table.String(), "10.0.50.100 had not one holder within 1s of the repair of: kill") {
		t.Errorf("the report does not say so:\n%s", table.String())
	}
}

func TestACampaignThatShowsNothingIsInvalid(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*fakeSite)
		want   string
	}{
		{"no fault hit", func(s *fakeSite) { s.inject = func(*fakeSite, Fault) {} }, "the faults did not hit"},
		{"frames were lost", func(s *fakeSite) { s.lost = true; s.inject = func(s *fakeSite, _ Fault) { s.moveFrom("") } }, "7 frames were heard and not recorded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFakeSite(t)
			tt.change(s)
			s.write()
			if r := runFake(t, s); r.Passed || len(r.Invalid) != 1 || !strings.Contains(r.Invalid[0], tt.want) {
				t.Errorf("passed %v, invalid %v, want %q", r.Passed, r.Invalid, tt.want)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	s := newFakeSite(t)
	o := DefaultOptions()
	o.Interval, o.Settle = time.Second, 0
	if _, err := Run(t.Context(), s, o, nil); err == nil || !strings.Contains(err.Error(), "interval: 1s") || !strings.Contains(err.Error(), "settle: 0s") {
		t.Errorf("options: %v", err)
	}
	s.strictErr = errors.New("no quorum")
	if _, err := Run(t.Context(), s, DefaultOptions(), nil); !errors.Is(err, s.strictErr) {
		t.Errorf("a cluster that cannot be made strict: %v", err)
	}
}

func TestStrict(t *testing.T) {
	got, err := strict([]byte("vips:\n  - {name: a, addresses: [10.0.0.1], mode: arp}\n  - {name: b, mode: bgp}\n  - {name: c, mode: arp, arp: {lease: 500ms, takeover: last-resort}}\npools:\n  - {name: p}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for text, n := range map[string]int{"takeover: strict": 2, "preempt_delay: 1s": 2, "lease: 500ms": 1, "last-resort": 0, "name: p": 1, "- 10.0.0.1": 1} {
		if strings.Count(string(got), text) != n {
			t.Errorf("%d times %q, want %d, in:\n%s", strings.Count(string(got), text), text, n, got)
		}
	}
	if _, err := strict([]byte("vips: [{name: a, mode: bgp}]")); err == nil {
		t.Error("a cluster without ARP mode was made strict")
	}
}
