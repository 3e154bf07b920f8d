package endtoend

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestDrills runs the drills on the binary as released. What is counted
// (failed connections, shares) is held to the product's limits. The gap is held
// to a second here, which tells a working failover from one that waits for a
// hold time: a busy machine's milliseconds decide no test. The README's figures
// come from the drills' own limits, on a quiet machine.
func TestDrills(t *testing.T) {
	s := bringUp(t, "drills", false, "--disk", "128")
	drill := func(args ...string) result {
		return s.run(append([]string{s.binary, "drill"}, append(args, "--lab", s.name)...)...)
	}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"kill", []string{"run", "node-kill", "--node", "n2", "--max-gap", "1s"}},
		{"kill of the first next hop", []string{"run", "node-kill", "--node", "n1", "--max-gap", "1s"}},
		{"drain", []string{"run", "drain", "--node", "n3"}},
		{"restart", []string{"run", "node-restart", "--node", "n2"}},
		{"listener hangs", []string{"run", "listener-hang", "--node", "n2", "--max-gap", "2s"}},
		{"silent loss", []string{"run", "silent-loss", "--node", "n1", "--max-gap", "1s"}},
		{"freeze", []string{"run", "node-freeze", "--node", "n2", "--max-gap", "2s"}},
		{"link down", []string{"run", "link-down", "--node", "n3", "--max-gap", "1s"}},
		{"link down at the router", []string{"run", "link-down-router", "--node", "n1", "--max-gap", "1s"}},
		{"session reset", []string{"run", "bgp-reset", "--node", "n1"}},
		{"BFD lost", []string{"run", "bfd-cut", "--node", "n3"}},
		{"leader killed", []string{"run", "leader-kill", "--max-gap", "1s"}},
		{"leader cut off", []string{"run", "leader-cut"}},
		{"no quorum", []string{"run", "quorum-loss"}},
		{"each alone", []string{"run", "control-cut"}},
		{"partition", []string{"run", "partition", "--split", "n1|n2,n3"}},
		{"partition one way", []string{"run", "partition", "--node", "n3", "--one-way"}},
		{"disk full", []string{"run", "disk-full", "--node", "n2"}},
		{"all disks full", []string{"run", "disk-full-everywhere"}},
		{"IPv6", []string{"run", "node-kill", "--node", "n3", "--max-gap", "1s", "--vip", "2001:db8:100::1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := drill(append(tt.args, "--max-late", "900ms", "-o", "json")...)
			if r.code != 0 {
				t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			if !json.Valid([]byte(r.stdout)) {
				t.Errorf("not JSON: %q", r.stdout)
			}
		})
	}
	t.Run("a limit that is broken is told", func(t *testing.T) {
		if r := drill("run", "node-kill", "--node", "n2", "--max-gap", "1us", "--max-late", "900ms"); r.code != 1 {
			t.Errorf("exit code %d, want 1\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("a drill that is killed leaves nothing broken", func(t *testing.T) { killedDrill(t, s) })
	t.Run("spread", func(t *testing.T) {
		if r := drill("spread", "--connections", "10000", "--max-late", "900ms"); r.code != 0 {
			t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("apply latency", func(t *testing.T) {
		r := drill("apply-latency", "--changes", "20", "--max-p99", "0", "-o", "json")
		if r.code != 0 || !strings.Contains(r.stdout, "p99") {
			t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("unknown drill", func(t *testing.T) {
		if r := drill("run", "no-such-drill"); r.code != 2 || !strings.Contains(r.stderr, "node-kill") {
			t.Errorf("exit code %d, want 2 and a list\n%s", r.code, r.stderr)
		}
	})
}

// killedDrill kills drills, session and all, in the middle of their faults: what
// they broke must be mended without them.
func killedDrill(t *testing.T, s *site) {
	for _, name := range []string{"node-kill", "node-freeze", "link-down", "link-down-router", "silent-loss"} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.awaitNextHops(hop1, hop2, hop3)
			cmd := exec.Command(s.binary, "drill", "run", name, "--node", "n2", "--settle", "1m", "--lab", s.name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s.awaitNextHops(hop1, hop3)
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			s.awaitNextHops(hop1, hop2, hop3)
		})
	}
	s.t = t
}

// TestDownRemovesEveryTrace looks for what a lab could leave.
func TestDownRemovesEveryTrace(t *testing.T) {
	s := bringUp(t, "traces", false)
	if out, err := exec.Command("ip", "netns", "list").Output(); err != nil || !strings.Contains(string(out), s.name) {
		t.Fatalf("the lab's namespaces are not listed while it is up: %v\n%s", err, out)
	}
	if r := s.run(s.binary, "lab", "down", "--name", s.name); r.code != 0 {
		t.Fatalf("lab down: %s", r.stderr)
	}
	for _, argv := range [][]string{{"ip", "netns", "list"}, {"ls", "/run/pharos-lab"}, {"ps", "-eo", "args"}} {
		if out, _ := exec.Command(argv[0], argv[1:]...).Output(); strings.Contains(string(out), s.name) {
			t.Errorf("%s still shows %s:\n%s", strings.Join(argv, " "), s.name, out)
		}
	}
	s.lab = nil
}
