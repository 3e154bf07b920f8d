package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/node/handover"
)

func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, args string
		code       int
		want       string
	}{
		{"nobody runs", "upgrade", exitFailed, "pharos serve"},
		{"no time", "upgrade --start-timeout 0s", exitUsage, "must be more than 0"},
		{"another node", "upgrade --address 10.0.0.1", exitUsage, "only the node on this machine"},
		{"arguments", "upgrade n2", exitUsage, "takes no arguments"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, code := pharos(t, nodeFiles(), "", append(strings.Fields(tt.args), "--dir", dir)...)
			if code != tt.code || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, tt.code, tt.want, stderr)
			}
		})
	}

	requests, err := handover.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	var asked handover.Request
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- requests.Run(ctx, func(r handover.Request) handover.Answer {
			if asked = r; r.Binary != "" {
				return handover.Answer{Code: handover.Ended, Error: "it ended: exit status 3"}
			}
			return handover.Answer{Pid: 42, Version: "v2", Took: 138 * time.Millisecond}
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	stdout, stderr, code := pharos(t, nodeFiles(), "", "upgrade", "--dir", dir)
	if code != 0 || stdout != "process 42 runs the node now, version v2; it took 138ms\n" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if asked.StartTimeout != handover.DefaultStartTimeout {
		t.Errorf("request: %+v", asked)
	}
	stdout, _, code = pharos(t, nodeFiles(), "", "upgrade", "--dir", dir, "-o", "json", "--start-timeout", "3s")
	var view upgradeView
	if err := json.Unmarshal([]byte(stdout), &view); err != nil || code != 0 || view != (upgradeView{42, "v2", "138ms"}) || asked.StartTimeout != 3*time.Second {
		t.Errorf("exit code %d: %s, %v; the request was %+v", code, stdout, err, asked)
	}
	_, stderr, code = pharos(t, nodeFiles(), "", "upgrade", "--dir", dir, "--binary", "new")
	if code != exitFailed || stderr != "pharos: the node was not upgraded and runs as before: it ended: exit status 3\n" || !filepath.IsAbs(asked.Binary) {
		t.Errorf("exit code %d: %s; the request was %+v", code, stderr, asked)
	}
}
