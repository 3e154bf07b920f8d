package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/handover"
	"github.com/pharos-lb/pharos/vip/netnstest"
)

const (
	// envRole makes this test binary a successor that plays a part.
	envRole = "PHAROS_NODE_TEST_ROLE"
	// envLogs has such a successor log to its standard error.
	envLogs = "PHAROS_NODE_TEST_LOGS"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(envRole); role {
	case "":
	case onALink:
		os.Exit(standOnALink())
	default:
		os.Exit(succeedAs(role))
	}
	netnstest.Run(m, netnstest.LoUp)
}

// succeedAs is a successor that does well up to a step, and then not. Only
// "well" is a node.
func succeedAs(role string) int {
	process, err := handover.This()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	if role == "well" {
		logger := slog.New(slog.DiscardHandler)
		if os.Getenv(envLogs) != "" {
			logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		n, err := New(Options{Dir: os.Getenv("PHAROS_DIR"), Version: "v2", Process: process, Logger: logger})
		if err == nil {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			go func() { process.StayWithParent(); os.Exit(95) }()
			err = n.Run(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 98
		}
		return process.Wait() // for those that follow, if this is their parent
	}
	old := process.Predecessor()
	step := func(at string, kind handover.Kind, next handover.Kind) {
		switch role {
		case "ends before " + at:
			os.Exit(3)
		case "refuses before " + at:
			_ = old.Send(handover.Message{Kind: handover.Failed, Error: "no further than " + at})
			os.Exit(1)
		}
		_ = old.Send(handover.Message{Kind: kind})
		if next == "" {
			return
		}
		if m, _, err := old.Receive(context.Background()); err != nil || m.Kind != next {
			fmt.Fprintln(os.Stderr, "got", m.Kind, err, "want", next)
			os.Exit(97)
		}
	}
	step("ready", handover.Ready, handover.Take)
	step("accepting", handover.Accepting, handover.Released)
	step("leading", handover.Leading, handover.Sessions)
	step("done", handover.Done, "")
	return 96
}

// running is a node in this process, with one HTTP listener.
type running struct {
	t       *testing.T
	node    *Node
	process *handover.Process
	dir     string
	ended   chan error
	client  *http.Client
}

func runOne(t *testing.T) *running {
	t.Helper()
	netnstest.Need(t)
	process, err := handover.This()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	r := &running{t: t, process: process, ended: make(chan error, 1), client: &http.Client{Transport: transport, Timeout: patience}}
	t.Cleanup(transport.CloseIdleConnections)
	r.dir, _ = founded(t)
	if r.node, err = New(Options{Dir: r.dir, Version: "v1", Process: process}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.ended <- r.node.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if c := process.Wait(); c != 0 {
			t.Errorf("the last successor ended with exit code %d", c)
		}
	})
	r.apply("first")
	return r
}

// apply has the node serve a server that says text.
func (r *running) apply(text string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeoutCause(r.t.Context(), patience, errors.New("no leader"))
	defer cancel()
	if _, _, err := r.node.store.WaitLeader(ctx); err != nil {
		r.t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	r.t.Cleanup(server.Close)
	config, err := registry.Parse("", fmt.Appendf(nil, `
vips: [{name: web, addresses: [198.51.100.1]}]
listeners: [{name: web, vip: web, port: 80, protocol: http, pool: web}]
pools: [{name: web, servers: [{name: a, address: %q}]}]
`, server.Listener.Addr()))
	if err != nil {
		r.t.Fatal(err)
	}
	result, err := r.node.store.Submit(ctx, fsm.Command{At: time.Now(), ApplyConfig: &fsm.ApplyConfig{Config: config}})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, failure, err := r.node.reconciler.WaitApplied(ctx, result.Revision); failure != nil || err != nil {
		r.t.Fatal(failure, err)
	}
	r.serves(text)
}

// serves asks on the kept connection, and on a new one.
func (r *running) serves(want string) {
	r.t.Helper()
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for _, c := range []*http.Client{r.client, fresh} {
		res, err := c.Post("http://198.51.100.1/", "text/plain", strings.NewReader("once"))
		if err != nil {
			r.t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(b) != want {
			r.t.Fatalf("served %q, %v, want %q", b, err, want)
		}
	}
}

// TestASuccessorThatDoesNotSucceed: at whichever step a successor gives up or
// dies, the node has all back, serves, agrees, and can be upgraded again.
func TestASuccessorThatDoesNotSucceed(t *testing.T) {
	r := runOne(t)
	for _, step := range []string{"ready", "accepting", "leading", "done"} {
		for _, how := range []string{"ends", "refuses"} {
			role := how + " before " + step
			t.Run(role, func(t *testing.T) {
				r.t = t
				t.Setenv(envRole, role)
				answer := r.node.Upgrade(handover.Request{Binary: "/proc/self/exe"})
				want, words := handover.Ended, "exit status 3"
				if how == "refuses" {
					want, words = handover.Refused, "no further than "+step
				}
				if answer.Code != want || !strings.Contains(answer.Error, words) {
					t.Errorf("answer %+v, want %s and %q", answer, want, words)
				}
				r.apply("after one that " + role)
				if status := r.node.status(); len(status.Warnings) > 0 || status.Draining || !status.HasLeader {
					t.Errorf("status: %v", status)
				}
				if _, err := r.node.reconciler.Drain(t.Context(), false); err != nil {
					t.Errorf("it cannot be drained: %v", err)
				}
				if err := r.node.reconciler.Undrain(t.Context()); err != nil {
					t.Errorf("nor undrained: %v", err)
				}
			})
		}
	}
	r.t = t
	t.Run("does", func(t *testing.T) {
		t.Setenv(envRole, "well")
		t.Setenv("PHAROS_DIR", r.dir)
		r.upgradeTwice(t)
	})
}

// upgradeTwice: by the process's own word, and by what `pharos upgrade` does.
func (r *running) upgradeTwice(t *testing.T) {
	r.t = t
	r.apply("before")
	first := r.node.Upgrade(handover.Request{Binary: "/proc/self/exe"})
	if first.Code != "" || first.Version != "v2" || first.Pid == os.Getpid() {
		t.Fatalf("answer %+v", first)
	}
	r.serves("before")
	if again := r.node.Upgrade(handover.Request{}); again.Code != handover.Busy {
		t.Errorf("an upgrade of what is not the node any more: %+v", again)
	}
	// The kept connection was sent away with its response: this process ends.
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	r.ended <- nil
	second, err := handover.Ask(t.Context(), r.dir, handover.Request{Binary: "/proc/self/exe"})
	if err != nil || second.Version != "v2" || second.Pid == first.Pid {
		t.Fatalf("answer %+v, %v", second, err)
	}
	r.serves("before")
	if _, err := handover.Ask(t.Context(), r.dir, handover.Request{Binary: "/bin/false"}); handover.CodeOf(err) != handover.Ended {
		t.Errorf("the third process's answer: %v", err)
	}
	r.serves("before")
	if !r.process.Forward(syscall.SIGTERM, true) {
		t.Error("no signal reaches the successors")
	}
}

func TestADrainAndAnUpgradeExcludeEachOther(t *testing.T) {
	r := runOne(t)
	if err := r.node.reconciler.freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.node.reconciler.Drain(t.Context(), false); !errors.Is(err, errDrainUnderWay) {
		t.Errorf("a drain while an upgrade is under way: %v", err)
	}
	if err := r.node.reconciler.freeze(t.Context()); !errors.Is(err, errDrainUnderWay) {
		t.Errorf("a second one: %v", err)
	}
	r.node.reconciler.thaw(t.Context())
	r.apply("thawed")
}
