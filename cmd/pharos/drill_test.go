package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// drillRun runs the command family with its arguments, and gives what it wrote
// and the code that the process would end with.
func drillRun(t *testing.T, stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := newDrillCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetIn(stdin)
	cmd.SetArgs(args)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := cmd.ExecuteContext(ctx)
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(err, &coded):
		code = coded.ExitCode()
	case err != nil:
		code = 1
	}
	if err != nil {
		fmt.Fprint(&errs, err)
	}
	return out.String(), errs.String(), code
}

func TestDrillListAndDescribe(t *testing.T) {
	out, _, code := drillRun(t, nil, "list")
	for _, name := range []string{"node-kill", "drain", "node-restart", "listener-hang", "silent-loss"} {
		if code != 0 || !strings.Contains(out, name) {
			t.Errorf("list (%d) lacks %s:\n%s", code, name, out)
		}
		if out, _, code := drillRun(t, nil, "describe", name); code != 0 || !strings.Contains(out, "Judged: ") {
			t.Errorf("describe %s (%d):\n%s", name, code, out)
		}
	}
}

func TestBadDrillCommandLinesSayWhatIsWrong(t *testing.T) {
	// Without root, labs are looked for in the user's own namespace first.
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("needs root, and PHAROS_REQUIRE_ROOT=1")
		}
		t.Skip("needs root")
	}
	commands := []string{"run", "node-kill", "--target", "http://192.0.2.1"}
	for _, tc := range []struct {
		name string
		args []string
		says string
	}{
		{"unknown drill", []string{"run", "earthquake"}, "there are node-kill, drain, node-restart, listener-hang"},
		{"no drill", []string{"run"}, "accepts 1 arg(s)"},
		{"unknown to describe", []string{"describe", "earthquake"}, "no such drill"},
		{"no such lab", []string{"run", "node-kill", "--lab", "no-such-lab"}, "pharos lab up"},
		{"no such lab to spread over", []string{"spread", "--lab", "no-such-lab"}, "pharos lab up"},
		{"no such lab to apply in", []string{"apply-latency", "--lab", "no-such-lab"}, "pharos lab up"},
		{"repeat", []string{"run", "drain", "--repeat", "0"}, "--repeat 0"},
		{"output", []string{"run", "drain", "-o", "xml"}, `--output "xml"`},
		{"a lab and a router", []string{"run", "drain", "--router", "ssh tor1"}, "--router goes with --target"},
		{"target by name", []string{"run", "node-kill", "--target", "http://www.example.com", "--router", "env"}, "not a name"},
		{"target by https", []string{"run", "node-kill", "--target", "https://192.0.2.1"}, "want http://"},
		{"no router", commands, "--target needs --router"},
		{"no peers", append(commands, "--router", "env"), "--target needs --peer"},
		{"a peer without name", append(commands, "--router", "env", "--peer", "10.0.1.2"), "want ADDRESS=NODE"},
		{"no injection", append(commands, "--router", "env", "--peer", "10.0.1.2=n1"), "--inject and --revert"},
		{"a node that is none", append(commands, "--router", "env", "--peer", "10.0.1.2=n1", "--inject", "x", "--revert", "y", "--node", "n9"), `"n9"`},
		{"probe without target", []string{"probe"}, "--target"},
		{"probe at no rate", []string{"probe", "--target", "127.0.0.1:1", "--interval", "0"}, "interval"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, stderr, code := drillRun(t, nil, tc.args...)
			if code != drillUsage || !strings.Contains(stderr, tc.says) || out != "" {
				t.Errorf("exit code %d, want %d with %q; stderr: %s; stdout: %s", code, drillUsage, tc.says, stderr, out)
			}
		})
	}
}

func TestDrillProbeWritesAWholeRecord(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Node: n7\r\n\r\n")
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close(); <-ended }()
	target := l.Addr().String()

	for name, tc := range map[string]struct {
		stdin io.Reader
		args  []string
		why   string
	}{
		"by count":         {args: []string{"--count", "20"}, why: "count"},
		"by time":          {args: []string{"--duration", "40ms"}, why: "deadline"},
		"by end of input":  {args: []string{"--duration", "10m", "--stop-with-stdin"}, stdin: strings.NewReader(""), why: "stopped"},
		"with no input":    {args: []string{"--count", "5"}, stdin: strings.NewReader(""), why: "count"},
		"wrong status too": {args: []string{"--count", "5", "--expect-status", "204"}, why: "count"},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, code := drillRun(t, tc.stdin, append([]string{"probe", "--target", target, "--node-header", "X-Node"}, tc.args...)...)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			probes := 0
			var end *record.End
			if err := record.Read(strings.NewReader(out), func(l record.Line) error {
				if end = l.End; l.Probe != nil {
					probes++
					if l.Probe.Node != "n7" {
						t.Errorf("probe carried by %q", l.Probe.Node)
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if end == nil || end.Why != tc.why || end.Sent != probes {
				t.Errorf("the end is %+v after %d probes, want one by %q", end, probes, tc.why)
			}
		})
	}
}

// brokenPipe fails after the first bytes, as a reader that went away does.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDrillProbeEndsWhenNobodyReads(t *testing.T) {
	cmd := newDrillProbeCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(brokenPipe{})
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"--target", "127.0.0.1:1", "--duration", "1h"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cmd.ExecuteContext(ctx); !errors.Is(err, io.ErrClosedPipe) || ctx.Err() != nil {
		t.Errorf("err = %v", err)
	}
}
