package drill

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// steered is a fake site whose nodes have a CLI: a shell script.
type steered struct {
	*fakeSite
	script string // $1 is the node, the rest is what the CLI is given
}

func (s steered) Control(ctx context.Context, node string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", append([]string{"-c", s.script, "pharos", node}, args...)...)
}

func words(p Plan) (out []string) {
	for _, part := range p.Parts {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", part.Kind, part.Node, strings.Join(part.From, " "))))
	}
	return out
}

func TestPlans(t *testing.T) {
	leads := func(node string) string {
		return `[ "$1" = n1 ] && exit 1; echo '[{"name": "n1", "leader": true}, {"name": "` + node + `", "leader": true, "alive": true}]'`
	}
	for _, tc := range []struct {
		name    string
		drill   Scenario
		options Options
		script  string
		label   string
		victim  string
		want    []string
		is      error
		says    string
	}{
		{name: "the middle one", drill: nodeKill(), label: "n2", victim: "n2", want: []string{"kill n2"}},
		{name: "the leader, asked of who answers", drill: leaderKill(), script: leads("n3"), label: "n3", victim: "n3", want: []string{"kill n3"}},
		{name: "the node that was asked for", drill: leaderKill(), options: Options{Node: "n1"}, label: "n1", victim: "n1", want: []string{"kill n1"}},
		{name: "no majority is left", drill: quorumLoss(), label: "n2, n3", victim: "n2", want: []string{"control-loss n2", "control-loss n3"}},
		{name: "from another on", drill: quorumLoss(), options: Options{Node: "n3"}, label: "n3, n1", victim: "n3", want: []string{"control-loss n3", "control-loss n1"}},
		{name: "all", drill: controlCut(), label: "n1, n2, n3", victim: "n2", want: []string{"control-loss n1", "control-loss n2", "control-loss n3"}},
		{
			name: "one and the others", drill: partition(), options: Options{Node: "n1"}, label: "n1 | n2, n3", victim: "n1",
			want: []string{"control-loss n1 n2 n3", "control-loss n2 n1", "control-loss n3 n1"},
		},
		{
			name: "each alone", drill: partition(), options: Options{Split: "n3|n1| n2"}, label: "n3 | n1 | n2", victim: "n3",
			want: []string{"control-loss n3 n1 n2", "control-loss n1 n2 n3", "control-loss n2 n1 n3"},
		},
		{
			name: "one way", drill: partition(), options: Options{Split: "n1,n2|n3", OneWay: true}, label: "n1, n2 deaf for n3", victim: "n1",
			want: []string{"control-deaf n1 n3", "control-deaf n2 n3"},
		},
		{name: "no such node in a split", drill: partition(), options: Options{Split: "n1|n9"}, is: ErrNoNode, says: "n9"},
		{name: "a node twice", drill: partition(), options: Options{Split: "n1|n1,n2"}, says: "n1 is there twice"},
		{name: "a node in no group", drill: partition(), options: Options{Split: "n1|n2"}, says: "want each of n1, n2, n3"},
		{name: "one group", drill: partition(), options: Options{Split: "n1,n2,n3"}, says: "two groups"},
		{name: "a split of what knows none", drill: nodeKill(), options: Options{Split: "n1|n2,n3"}, is: ErrNoFault},
		{name: "one way of what knows none", drill: controlCut(), options: Options{OneWay: true}, is: ErrNoFault},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &run{site: steered{newFakeSite(t), tc.script}, scenario: tc.drill, options: tc.options}
			r.scenario.Meanwhile, r.scenario.Afterwards = nil, nil // they would read the configuration
			err := r.prepare(t.Context())
			if tc.want == nil {
				if err == nil || !strings.Contains(err.Error(), tc.says) || (tc.is != nil && !errors.Is(err, tc.is)) {
					t.Errorf("err = %v, want %v %q", err, tc.is, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.plan.name() != tc.label || r.node != tc.victim {
				t.Errorf("%q of %q, want %q of %q", r.plan.name(), r.node, tc.label, tc.victim)
			}
			if diff := cmp.Diff(tc.want, words(r.plan)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestALeaderCannotBeFoundWithoutTheCLI(t *testing.T) {
	r := &run{site: newFakeSite(t), scenario: leaderKill()}
	if err := r.prepare(t.Context()); !errors.Is(err, ErrNoControl) || !strings.Contains(err.Error(), "--node") {
		t.Errorf("err = %v", err)
	}
}

// quickRouter finds a silent node in 150 ms, once it has been asked before.
type quickRouter struct {
	*fakeSite
	asked *int
}

func (q quickRouter) Detection(context.Context, string) (time.Duration, error) {
	if *q.asked++; *q.asked == 1 {
		return 0, errors.New("the router has no BFD session that is up")
	}
	return 150 * time.Millisecond, nil
}

func TestTheLimitFollowsTheRoutersDetection(t *testing.T) {
	given := limit(time.Second)
	for _, tc := range []struct {
		name   string
		drill  Scenario
		follow bool
		want   time.Duration
	}{
		{"a silence", silentLoss(), true, 250 * time.Millisecond},
		{"a freeze", nodeFreeze(), true, 250 * time.Millisecond},
		{"another limit was given", nodeFreeze(), false, *given},
		{"nothing to be detected", nodeKill(), true, *given},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &run{site: quickRouter{newFakeSite(t), new(int)}, scenario: tc.drill}
			r.options.DetectedGap, r.options.Limits.MaxGap = tc.follow, given
			if err := r.prepare(t.Context()); err != nil || *r.options.Limits.MaxGap != tc.want {
				t.Errorf("limit %v, %v", *r.options.Limits.MaxGap, err)
			}
		})
	}
}

func TestDetectionOf(t *testing.T) {
	const peers = `[{"peer": "10.0.1.2", "status": "up", "receive-interval": 50, "remote-transmit-interval": 100, "remote-detect-multiplier": 3, "detect-multiplier": 5},
		{"peer": "10.0.2.2", "status": "down", "receive-interval": 50, "remote-transmit-interval": 1000, "remote-detect-multiplier": 3}]`
	if d, err := detectionOf([]byte(peers), []string{"2001:db8:1::2", "10.0.1.2"}); err != nil || d != 300*time.Millisecond {
		t.Errorf("%v, %v", d, err)
	}
	for _, address := range []string{"10.0.2.2", "10.0.3.2"} {
		if _, err := detectionOf([]byte(peers), []string{address}); err == nil {
			t.Errorf("%s has no session that is up", address)
		}
	}
}
