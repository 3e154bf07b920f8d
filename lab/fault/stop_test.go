package fault

import (
	"context"
	"errors"
	"os/exec"
	"testing"
)

// sleepers starts so many processes.
func sleepers(t *testing.T, n int) []*child {
	t.Helper()
	var all []*child
	for range n {
		c := &child{t: t, argv: []string{"sleep", "600"}}
		if err := c.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestFreezeStopsAllAlsoThoseThatComeMeanwhile(t *testing.T) {
	all := sleepers(t, 3)
	looks := 0
	f := &Freeze{Name: "n2", Pids: func() (pids []int, err error) {
		looks++
		for _, c := range all[:min(looks, len(all))] {
			pid, err := c.pid()
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
		return pids, nil
	}}
	if _, err := f.Inject(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		if !standsStill(c.cmd.Process.Pid) {
			t.Errorf("process %d goes on", i)
		}
	}
	for range 2 { // twice does no harm
		if _, err := f.Revert(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range all {
		for standsStill(c.cmd.Process.Pid) && t.Context().Err() == nil { // until it has taken the signal
		}
		if _, err := c.pid(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
}

func TestFreezeOfNothingIsRefused(t *testing.T) {
	f := &Freeze{Name: "n2", Pids: func() ([]int, error) { return nil, nil }}
	if _, err := f.Inject(t.Context()); err == nil {
		t.Error("a node without processes was frozen")
	}
}

func TestAScriptThatFailsToCountSaysWhy(t *testing.T) {
	shell := func(ctx context.Context, script string) *exec.Cmd {
		return exec.CommandContext(ctx, "sh", "-c", script)
	}
	for _, tc := range []struct {
		count string
		want  uint64
		fails bool
		is    error
	}{
		{count: "echo 12", want: 12},
		{count: "", fails: true, is: ErrNoCount},
		{count: "echo none", fails: true},
		{count: "echo no such table >&2; exit 1", fails: true},
	} {
		n, err := Count(t.Context(), Script{Count: tc.count}.Injector(shell))
		if n != tc.want || (err != nil) != tc.fails || (tc.is != nil && !errors.Is(err, tc.is)) {
			t.Errorf("%q: %d, %v", tc.count, n, err)
		}
	}
}
