// Package endtoend proves the whole product: a lab with a real FRR router, a
// cluster deployed by the product's own command line, and what an operator does
// with it and to it. It needs root.
package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	vnetns "github.com/vishvananda/netns"

	"github.com/pharos-lb/pharos/lab/netns"
)

// patience bounds each wait for an event. It is far above what a healthy run
// takes, so that only a thing that never happens runs into it.
const patience = 60 * time.Second

// site is a lab with a cluster in it.
type site struct {
	t      *testing.T
	name   string
	binary string
	lab    *netns.Lab
}

// bringUp builds the binary (with the race detector or as released), and has
// it bring up a lab of its own, with these flags, which goes away with the test.
func bringUp(t *testing.T, name string, race bool, flags ...string) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("these tests need root, and PHAROS_REQUIRE_ROOT=1 says that they must run")
		}
		t.Skip("needs root")
	}
	if testing.Short() {
		t.Skip("long: a whole lab")
	}
	s := &site{t: t, name: fmt.Sprintf("%s-%d", name, os.Getpid()), binary: build(t, race)}
	t.Cleanup(func() {
		if t.Failed() {
			s.showLogs()
		}
		if out, err := exec.Command(s.binary, "lab", "down", "--name", s.name).CombinedOutput(); err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
	})
	up := s.run(append([]string{s.binary, "lab", "up", "--name", s.name}, flags...)...)
	s.lab, _ = netns.Open(s.name)
	if up.code != 0 || s.lab == nil {
		t.Fatalf("lab up: exit code %d\n%s%s", up.code, up.stdout, up.stderr)
	}
	return s
}

func build(t *testing.T, race bool) string {
	t.Helper()
	if bin := os.Getenv("PHAROS_BIN"); bin != "" && !race {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "pharos")
	args := []string{"build", "-o", bin}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/pharos-lb/pharos/cmd/pharos")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the binary: %v\n%s", err, out)
	}
	return bin
}

// result is what a command gave.
type result struct {
	stdout, stderr string
	code           int
}

func (s *site) run(argv ...string) result {
	s.t.Helper()
	return s.finish(exec.Command(argv[0], argv[1:]...))
}

// on runs a command on a machine of the lab.
func (s *site) on(machine string, argv ...string) result {
	s.t.Helper()
	return s.finish(s.lab.Command(context.Background(), machine, argv...))
}

func (s *site) finish(cmd *exec.Cmd) result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("run %v: %v", cmd.Args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command on a machine of the lab and gives its output.
func (s *site) must(machine string, argv ...string) string {
	s.t.Helper()
	r := s.on(machine, argv...)
	if r.code != 0 {
		s.t.Fatalf("%s on %s: exit code %d\n%s%s", strings.Join(argv, " "), machine, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// refused runs a command that must fail with an error that has all of these
// words in it.
func (s *site) refused(machine string, argv []string, words ...string) {
	s.t.Helper()
	r := s.on(machine, argv...)
	if r.code == 0 {
		s.t.Errorf("%s on %s: exit code 0, want a refusal\n%s", strings.Join(argv, " "), machine, r.stdout)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			s.t.Errorf("%s on %s: the error does not say %q:\n%s", strings.Join(argv, " "), machine, w, r.stderr)
		}
	}
}

// await polls until check says nil; it is for what has no event to wait for.
func (s *site) await(what string, check func() error) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// nextHops are the router's for the IPv4 VIP, by node address.
func (s *site) nextHops() []string {
	var routes []struct {
		Gateway  string
		Nexthops []struct{ Gateway string }
	}
	out := s.must("tor1", "ip", "-j", "route", "show", "198.51.100.1")
	if err := json.Unmarshal([]byte(out), &routes); err != nil {
		s.t.Fatalf("ip -j route: %v in %q", err, out)
	}
	var hops []string
	for _, r := range routes {
		if r.Gateway != "" {
			hops = append(hops, r.Gateway)
		}
		for _, h := range r.Nexthops {
			hops = append(hops, h.Gateway)
		}
	}
	return hops
}

func (s *site) awaitNextHops(want ...string) {
	s.t.Helper()
	s.await(fmt.Sprintf("next hops %v at the router", want), func() error {
		if got := s.nextHops(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

// fetch asks the VIP for a page as the client, and says which node's address
// the backend saw.
func (s *site) fetch(url string) (peer string, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: s.dialFromClient}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct{ Backend, Peer string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Backend == "" {
		return "", fmt.Errorf("fetch %s: %s, %+v, %w", url, response.Status, answer, err)
	}
	return answer.Peer, nil
}

// dialFromClient makes a connection in the client's network namespace: a
// socket stays in the one that its thread was in.
func (s *site) dialFromClient(ctx context.Context, network, address string) (conn net.Conn, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := vnetns.Get()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	client, err := vnetns.GetFromPath(s.lab.NetnsPath("client"))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := vnetns.Set(client); err != nil {
		return nil, err
	}
	conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
	if back := vnetns.Set(own); back != nil {
		panic(back) // anything that this thread does next would be in the wrong place
	}
	return conn, err
}

// node is a line of `pharos member list`.
type node struct {
	Name           string
	Alive, Leader  bool
	Ready          bool
	Draining       bool
	AppliedVersion uint64 `json:"applied_version"`
}

func (s *site) members(asked string) []node {
	var out []node
	r := s.on(asked, "pharos", "member", "list", "-o", "json")
	if r.code == 0 {
		if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
			s.t.Fatalf("member list: %v in %q", err, r.stdout)
		}
	}
	return out
}

// leader waits until the asked node knows one.
func (s *site) leader(asked string) string {
	s.t.Helper()
	var name string
	s.await("a leader", func() error {
		for _, n := range s.members(asked) {
			if n.Leader && n.Alive {
				name = n.Name
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return name
}

// signal sends a signal to a node's process and waits for its end.
func (s *site) end(node string, signal os.Signal) {
	s.t.Helper()
	pid, err := s.lab.Pid(node)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := p.Signal(signal); err != nil {
		s.t.Fatalf("signal %s: %v", node, err)
	}
	s.await(node+"'s end", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			return errors.New("it still runs")
		}
		return nil
	})
}

func (s *site) start(nodes ...string) {
	s.t.Helper()
	for _, n := range nodes {
		if err := s.lab.Start(context.Background(), n); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) log(node string) string {
	b, _ := os.ReadFile(s.lab.LogFile(node, "main"))
	return string(b)
}

func (s *site) showLogs() {
	if s.lab == nil {
		return
	}
	for _, n := range s.lab.Nodes() {
		text := s.log(n.Name)
		if _, race, ok := strings.Cut(text, "WARNING: DATA RACE"); ok {
			s.t.Logf("%s: data race:%s", n.Name, race)
		}
		lines := strings.Split(text, "\n")
		s.t.Logf("the end of %s's log:\n%s", n.Name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

// write puts a file where the lab's machines find it.
func (s *site) write(name, contents string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}
