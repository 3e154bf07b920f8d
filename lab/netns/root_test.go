package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/lab/topo"
)

// TestMain lets this binary stand in for pharos in a lab's nodes: any "lab" or
// "serve" command waits to be ended, and "reach" asks whether an address
// answers, be it by refusing.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "reach" {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(os.Args[2], "9"), 5*time.Second)
		if err == nil {
			conn.Close()
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && (os.Args[1] == "lab" || os.Args[1] == "serve") {
		fmt.Println("PHAROS_DIR is", os.Getenv("PHAROS_DIR"))
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		<-ended
		return
	}
	os.Exit(m.Run())
}

// needRoot skips a test that makes namespaces, unless CI demands that it runs.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
		t.Fatal("PHAROS_REQUIRE_ROOT=1, and this is not root")
	}
	t.Skip("makes network namespaces: needs root")
}

// uniqueName is a lab's name that no other test run has.
func uniqueName(suffix string) string {
	return "t" + strconv.FormatInt(int64(os.Getpid()), 36) + "-" + suffix
}

func config(t *testing.T, name string) Config { return configOf(t, name, "") }

func configOf(t *testing.T, name, topology string) Config {
	t.Helper()
	bundle, err := topo.Open(topology)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{Name: name, Bundle: bundle, Binary: binary, Progress: func(step string) { t.Log(step) }}
}

func bringUp(t *testing.T, name string) *Lab { return bringUpOf(t, name, "") }

func bringUpOf(t *testing.T, name, topology string) *Lab {
	t.Helper()
	l, err := Up(t.Context(), configOf(t, name, topology))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), name); err != nil && !errors.Is(err, ErrNotUp) {
			t.Error(err)
		}
		assertNoTrace(t, name)
	})
	return l
}

// assertNoTrace looks for what a lab could leave on the machine.
func assertNoTrace(t *testing.T, name string) {
	t.Helper()
	paths := []string{labDir(name), labDir(name) + ".lock"}
	for _, node := range []string{"tor1", "sw1", "n1", "n2", "n3", "b1", "b2", "b3", "client"} {
		paths = append(paths, filepath.Join(netnsRoot, namespaceName(name, node)))
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left behind: %s (%v)", path, err)
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		t.Fatalf("no processes to look at: %v", err)
	}
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(labDir(name)+"/")) {
			t.Errorf("left behind: process %s", filepath.Base(filepath.Dir(file)))
		}
	}
}

func output(t *testing.T, l *Lab, node string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := l.Command(ctx, node, argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %v\n%s", node, argv, err, out)
	}
	return string(out)
}

func TestUpBringsTheTopologyAlive(t *testing.T) {
	needRoot(t)
	l := bringUp(t, uniqueName("up"))

	for _, node := range l.Nodes() {
		if node.Role == topo.RoleRouter {
			continue
		}
		for _, addr := range node.Addresses {
			output(t, l, "tor1", "pharos", "reach", addr.String())
		}
	}
	// Through the router, from end to end, in both families.
	output(t, l, "client", "pharos", "reach", "10.0.23.2")
	output(t, l, "client", "pharos", "reach", "2001:db8:2::2")
	if got := strings.TrimSpace(output(t, l, "tor1", "cat", "/proc/sys/net/ipv4/fib_multipath_hash_policy")); got != "1" {
		t.Errorf("the router's multipath policy is %q, want 1", got)
	}

	var summary struct {
		IPv4 struct {
			RouterID string         `json:"routerId"`
			AS       int            `json:"as"`
			Peers    map[string]any `json:"peers"`
		} `json:"ipv4Unicast"`
		IPv6 struct {
			Peers map[string]any `json:"peers"`
		} `json:"ipv6Unicast"`
	}
	if err := json.Unmarshal([]byte(output(t, l, "tor1", "vtysh", "-c", "show bgp summary json")), &summary); err != nil {
		t.Fatal(err)
	}
	if summary.IPv4.AS != 65000 || len(summary.IPv4.Peers) != 3 || len(summary.IPv6.Peers) != 3 {
		t.Errorf("BGP: AS %d with %d and %d peers, want AS 65000 with 3 of each family", summary.IPv4.AS, len(summary.IPv4.Peers), len(summary.IPv6.Peers))
	}

	processes, err := l.Processes()
	if err != nil {
		t.Fatal(err)
	}
	alive := map[string]bool{}
	for _, p := range processes {
		alive[p.Node+"/"+p.Name] = p.Alive
	}
	for _, want := range []string{"tor1/zebra", "tor1/bgpd", "b1/main", "b2/main", "b3/main"} {
		if !alive[want] {
			t.Errorf("%s does not run: %v", want, alive)
		}
	}
	if alive["n1/main"] {
		t.Error("n1 runs before it was given an identity")
	}
	if _, err := Up(t.Context(), config(t, l.Name())); !errors.Is(err, ErrIsUp) {
		t.Errorf("a second up gave %v, want ErrIsUp", err)
	}
	if again, err := Open(l.Name()); err != nil || len(again.Nodes()) != 8 || len(again.VIPs()) != 2 {
		t.Errorf("open: %v", err)
	}
}

func TestStartAndKillANode(t *testing.T) {
	needRoot(t)
	l := bringUp(t, uniqueName("start"))
	if _, err := l.Pid("n1"); !errors.Is(err, ErrStopped) {
		t.Fatalf("pid before start: %v, want ErrStopped", err)
	}
	if err := l.Start(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	pid, err := l.Pid("n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "n1"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second start gave %v, want ErrRunning", err)
	}
	inside, err1 := identify(fmt.Sprintf("/proc/%d/ns/net", pid))
	want, err2 := identify(l.NetnsPath("n1"))
	if err1 != nil || err2 != nil || inside != want {
		t.Fatalf("the process is in namespace %v (%v), want %v (%v)", inside, err1, want, err2)
	}
	if err := poll(t.Context(), func() error {
		log, err := os.ReadFile(l.LogFile("n1", mainProcess))
		if err != nil || !strings.Contains(string(log), "PHAROS_DIR is "+l.NodeDir("n1")) {
			return fmt.Errorf("the log says %q, %v", log, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := poll(t.Context(), func() error {
		if _, err := l.Pid("n1"); !errors.Is(err, ErrStopped) {
			return fmt.Errorf("after the kill: %v, want ErrStopped", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "n1"); err != nil {
		t.Errorf("start again: %v", err)
	}
	if _, err := l.Pid("n9"); !errors.Is(err, ErrNoNode) {
		t.Errorf("pid of an unknown node: %v, want ErrNoNode", err)
	}
}

func TestEndingACommandEndsTheRealProcess(t *testing.T) {
	needRoot(t)
	l := bringUp(t, uniqueName("kill"))
	for _, node := range []string{"client", "tor1"} { // without and with mounts
		ctx, cancel := context.WithCancel(t.Context())
		cmd := l.Command(ctx, node, "sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := poll(t.Context(), func() error {
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
			if err != nil || string(name) != "sleep\n" {
				return fmt.Errorf("the command's own process is %q, %v", name, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		cancel()
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) {
			t.Errorf("%s: wait gave %v", node, err)
		}
	}
	// execve takes the first of two variables, exec.Cmd the last: with two PATHs
	// a replaced program would not find the lab's pharos.
	paths := 0
	for _, v := range l.Command(t.Context(), "n1", "true").Env {
		if rest, ok := strings.CutPrefix(v, "PATH="); ok {
			if paths++; !strings.HasPrefix(rest, filepath.Join(l.Dir(), "bin")+":") {
				t.Errorf("PATH is %s, want the lab's own folder first", rest)
			}
		}
	}
	if paths != 1 {
		t.Errorf("%d PATHs in the environment, want one", paths)
	}
	if err := l.Command(t.Context(), "nowhere", "true").Run(); !errors.Is(err, ErrNoNode) {
		t.Errorf("a command in an unknown node gave %v, want ErrNoNode", err)
	}
}

func TestTwoLabsSideBySide(t *testing.T) {
	needRoot(t)
	a := bringUp(t, uniqueName("a"))
	b := bringUp(t, uniqueName("a-b")) // the one name begins with the other
	if err := Down(t.Context(), a.Name()); err != nil {
		t.Fatal(err)
	}
	assertNoTrace(t, a.Name())
	output(t, b, "client", "pharos", "reach", "10.0.1.2")
	output(t, b, "tor1", "vtysh", "-c", "show bgp summary json")
}

// A lab whose maker was killed half way leaves namespaces and processes that
// only its state file knows.
func TestACrashedLabIsRemovedByTheNextUp(t *testing.T) {
	needRoot(t)
	for _, next := range []string{"up", "down"} {
		t.Run(next, func(t *testing.T) {
			name := uniqueName("crash-" + next)
			l, err := prepare(config(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.makeNetwork(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := l.spawn(t.Context(), "n2", program{name: "orphan", argv: []string{"sleep", "1000"}}); err != nil {
				t.Fatal(err)
			}
			// As if the crash came before the last namespace was mounted.
			last := l.NetnsPath("client")
			if out, err := exec.Command("ip", "netns", "delete", filepath.Base(last)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if err := os.WriteFile(last, nil, 0o400); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(name); !errors.Is(err, ErrNotUp) {
				t.Errorf("open of a crashed lab gave %v, want ErrNotUp", err)
			}
			if next == "up" {
				l := bringUp(t, name)
				if _, err := l.readProcess("n2", "orphan"); !errors.Is(err, ErrStopped) {
					t.Errorf("the crashed lab's process: %v, want ErrStopped", err)
				}
				return
			}
			if err := Down(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			assertNoTrace(t, name)
		})
	}
}

func TestAFailedUpLeavesNothing(t *testing.T) {
	needRoot(t)
	tests := []struct{ name, old, new, want string }{
		{"an exec line that fails", "ip route add default via 10.0.2.1", "ip route add default via 192.0.2.1", `exec "ip route add default via 192.0.2.1"`},
		{"a sysctl that is not the namespace's own", "net.core.txrehash: 0", "kernel.panic: 0", "sysctl kernel.panic: a network namespace has only those"},
		{"a sysctl that is not there", "net.core.txrehash: 0", "net.core.no_such_thing: 0", "net/core/no_such_thing: cannot be set"},
		{"a broken router configuration", "bgpd.conf:/etc/frr/bgpd.conf", "cluster.yaml:/etc/frr/nosuchd.conf", "nosuchd"},
		{"an unknown image", "image: frr", "image: other/thing:1", `image "other/thing:1"`},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := uniqueName("fail" + strconv.Itoa(i))
			c := config(t, name)
			dir := t.TempDir()
			if err := c.Bundle.CopyTo(dir); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, c.Bundle.File)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(data), tt.old, tt.new, 1)
			if changed == string(data) {
				t.Fatalf("the row changes nothing: %q is not in the file", tt.old)
			}
			if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.Bundle, err = topo.Open(file); err != nil {
				t.Fatal(err)
			}
			if _, err = Up(t.Context(), c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
			assertNoTrace(t, name)
		})
	}
}

func TestACancelledUpLeavesNothing(t *testing.T) {
	needRoot(t)
	name := uniqueName("cancel")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := config(t, name)
	c.Progress = func(string) { cancel() } // at the first step
	if _, err := Up(ctx, c); err == nil {
		t.Error("a cancelled up succeeded")
	}
	assertNoTrace(t, name)
}

func TestTwoUpsOfOneNameDoNotMeet(t *testing.T) {
	needRoot(t)
	name := uniqueName("lock")
	unlock, err := lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), config(t, name)); !errors.Is(err, ErrBusy) {
		t.Errorf("up beside another gave %v, want ErrBusy", err)
	}
	if err := Down(t.Context(), name); !errors.Is(err, ErrBusy) {
		t.Errorf("down beside an up gave %v, want ErrBusy", err)
	}
	unlock()
	if err := Down(t.Context(), name); !errors.Is(err, ErrNotUp) {
		t.Errorf("down of nothing gave %v, want ErrNotUp", err)
	}
	assertNoTrace(t, name)
}

func TestAForeignNamespaceIsNotTaken(t *testing.T) {
	needRoot(t)
	name := uniqueName("foreign")
	namespace := namespaceName(name, "n1")
	if out, err := exec.Command("ip", "netns", "add", namespace).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("ip", "netns", "delete", namespace).Run()
	if _, err := Up(t.Context(), config(t, name)); err == nil || !strings.Contains(err.Error(), "ip netns delete "+namespace) {
		t.Errorf("error %v, want what to do", err)
	}
	if _, err := os.Stat(filepath.Join(netnsRoot, namespace)); err != nil {
		t.Errorf("the foreign namespace was removed: %v", err)
	}
}
