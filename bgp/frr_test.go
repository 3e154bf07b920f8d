package bgp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Tests against a real FRR. The test process re-executes itself in a network
// namespace of its own; each router is another one. Nothing has a name, so
// nothing is left when the processes end, however they end.

const (
	envInside  = "PHAROS_BGP_TEST_INSIDE"  // set in the re-executed process
	envSpeaker = "PHAROS_BGP_TEST_SPEAKER" // set in the speaker that gets killed
	envForge   = "PHAROS_BGP_TEST_FORGE"   // set in the process that forges BFD packets
	frrDir     = "/usr/lib/frr"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envSpeaker) != "":
		os.Exit(speakerMain())
	case os.Getenv(envForge) != "":
		os.Exit(forgeMain())
	case os.Geteuid() == 0 && os.Getenv(envInside) == "":
		os.Exit(runInside())
	case os.Getenv(envInside) != "":
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot set lo up: %v: %s", err, out)
			os.Exit(1)
		}
		os.Exit(m.Run())
	default:
		os.Exit(m.Run())
	}
}

// runInside runs this test binary again, in a new network namespace.
func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Run(); err != nil {
		if exit := new(exec.ExitError); !asExit(err, &exit) {
			fmt.Fprintln(os.Stderr, "cannot run tests in a network namespace:", err)
		}
		return 1
	}
	return 0
}

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

func needFRR(t *testing.T) {
	t.Helper()
	needDaemon(t, filepath.Join(frrDir, "bgpd"), "frr")
}

// needDaemon skips, or fails where PHAROS_REQUIRE_ROOT says that it must not.
func needDaemon(t *testing.T, path, debian string) {
	t.Helper()
	lacking := ""
	if os.Geteuid() != 0 {
		lacking = "needs root for network namespaces"
	} else if _, err := os.Stat(path); err != nil {
		lacking = "needs " + path + ": apt-get install " + debian
	}
	if lacking == "" {
		return
	}
	if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
		t.Fatal(lacking)
	}
	t.Skip(lacking)
}

// router is an FRR in its own network and process namespaces, joined by a veth
// pair to the test's namespace.
type router struct {
	t      *testing.T
	dir    string
	pid    int // of the process that holds the namespaces
	config string
}

// routerConfig numbers a router: router i has 10.0.i.1 and fd00:i::1, and we
// have 10.0.i.2 and fd00:i::2 on its link.
type routerConfig struct {
	index   int
	asn     int
	remote  int    // our ASN, as the router has it
	extra   string // more lines for bgpd
	address string // one more of the router's own; empty: none
	bfd     bool   // run bfdd, with a profile "nodes" of 300 ms x 5
}

func startRouter(t *testing.T, c routerConfig) *router {
	t.Helper()
	needFRR(t)
	r := startMachine(t, c.index, frrOwnedDir(t))
	if c.address != "" {
		r.run("ip", "addr", "add", c.address+"/32", "dev", "lo")
	}
	neighbor4, neighbor6 := fmt.Sprintf("10.0.%d.2", c.index), fmt.Sprintf("fd00:%d::2", c.index)
	r.config = fmt.Sprintf(`frr defaults datacenter
router bgp %[1]d
 bgp router-id 10.0.%[2]d.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor NODES peer-group
 neighbor NODES remote-as %[3]d
 neighbor NODES timers 1 3
 neighbor NODES timers connect 1
 neighbor %[4]s peer-group NODES
 neighbor %[5]s peer-group NODES
%[6]s
 address-family ipv4 unicast
  network 203.0.113.0/24
  neighbor NODES activate
 exit-address-family
 address-family ipv6 unicast
  neighbor NODES activate
 exit-address-family
`, c.asn, c.index, c.remote, neighbor4, neighbor6, c.extra)
	r.write("zebra.conf", "no zebra nexthop kernel enable\n")
	r.write("bgpd.conf", "no bgp network import-check\n"+r.config)
	r.startDaemon("zebra")
	if c.bfd {
		r.write("bfdd.conf", "bfd\n profile nodes\n  detect-multiplier 5\n  receive-interval 300\n  transmit-interval 300\n exit\nexit\n")
		r.startDaemon("bfdd")
	}
	r.startDaemon("bgpd")
	return r
}

// startMachine gives a router its namespaces and its link.
func startMachine(t *testing.T, index int, dir string) *router {
	t.Helper()
	r := &router{t: t, dir: dir}

	// It lives until its standard input is closed, by us or by our death, and
	// takes all processes of its PID namespace with it.
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	r.pid = holder.Process.Pid
	link := fmt.Sprintf("r%d", index)
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = holder.Wait()
		_ = exec.Command("ip", "link", "del", link).Run() // gone with the namespace, sooner or later
	})

	run(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(r.pid))
	run(t, "ip", "addr", "add", fmt.Sprintf("10.0.%d.2/24", index), "dev", link)
	run(t, "ip", "addr", "add", fmt.Sprintf("fd00:%d::2/64", index), "dev", link, "nodad")
	run(t, "ip", "link", "set", link, "up")
	r.run("ip", "link", "set", "lo", "up")
	r.run("ip", "addr", "add", fmt.Sprintf("10.0.%d.1/24", index), "dev", "eth0")
	r.run("ip", "addr", "add", fmt.Sprintf("fd00:%d::1/64", index), "dev", "eth0", "nodad")
	r.run("ip", "link", "set", "eth0", "up")
	return r
}

// frrOwnedDir is a directory for the daemons, which drop to their own user:
// t.TempDir lies in one that only root may enter.
func frrOwnedDir(t *testing.T) string {
	t.Helper()
	frr, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(frr.Uid)
	gid, _ := strconv.Atoi(frr.Gid)
	dir, err := os.MkdirTemp("", "pharos-frr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (r *router) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *router) inside(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(r.pid), "-n", "-p", "--"}, args...)...)
}

func (r *router) run(args ...string) string {
	r.t.Helper()
	return output(r.t, r.inside(args...))
}

func (r *router) startDaemon(name string) {
	r.t.Helper()
	at := func(file string) string { return filepath.Join(r.dir, file) }
	args := []string{
		filepath.Join(frrDir, name), "-d", "-f", at(name + ".conf"), "-i", at(name + ".pid"),
		"-z", at("zserv.api"), "--vty_socket", r.dir, "-P", "0",
	}
	if name == "bgpd" {
		args = append(args, "-p", "179")
	}
	if name == "bfdd" {
		args = append(args, "--bfdctl", at("bfdd.sock"))
	}
	r.run(args...)
}

// kill ends a daemon by SIGKILL: the kernel closes its sessions.
func (r *router) kill(name string) {
	r.t.Helper()
	pid, err := os.ReadFile(filepath.Join(r.dir, name+".pid"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.run("kill", "-9", strings.TrimSpace(string(pid)))
	_ = os.Remove(filepath.Join(r.dir, name+".pid"))
}

func (r *router) vtysh(command string) []byte {
	out, err := r.inside("vtysh", "--vty_socket", r.dir, "-c", command).Output()
	if err != nil {
		return nil // bgpd is not up yet, or no more: the caller asks again
	}
	return out
}

// path is what FRR knows of a route, in part.
type path struct {
	MED       *uint32 `json:"metric"`
	Origin    string  `json:"origin"`
	Valid     bool    `json:"valid"`
	LocalPref *uint32 `json:"locPrf"`
	ASPath    struct {
		String string `json:"string"`
	} `json:"aspath"`
	Nexthops []struct {
		IP    string `json:"ip"`
		Scope string `json:"scope"`
	} `json:"nexthops"`
	Community struct {
		String string `json:"string"`
	} `json:"community"`
	LargeCommunity struct {
		String string `json:"string"`
	} `json:"largeCommunity"`
}

// paths asks FRR for the paths of one prefix.
func (r *router) paths(family, prefix string) []path {
	var answer struct {
		Paths []path `json:"paths"`
	}
	if json.Unmarshal(r.vtysh(fmt.Sprintf("show bgp %s unicast %s json", family, prefix)), &answer) != nil {
		return nil
	}
	return answer.Paths
}

// peerState is what FRR knows of a neighbor, in part.
type peerState struct {
	State       string `json:"bgpState"`
	Established int    `json:"connectionsEstablished"`
	Dropped     int    `json:"connectionsDropped"`
	LastReset   string `json:"lastResetDueTo"`
	LastNotify  string `json:"lastNotificationReason"`
	LastText    string `json:"lastShutdownDescription"`
	Sent        int    `json:"acceptedPrefixCounter"`
}

func (r *router) peer(address string) peerState {
	var answer map[string]peerState
	_ = json.Unmarshal(r.vtysh("show bgp neighbors "+address+" json"), &answer)
	return answer[address]
}

func run(t *testing.T, args ...string) {
	t.Helper()
	output(t, exec.Command(args[0], args[1:]...))
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.Bytes())
	}
	return string(out)
}

// eventually asks again and again until ok, and fails with what was awaited
// otherwise. Asking FRR takes tens of milliseconds: no pause is needed.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// awaitStatus waits, by the speaker's events, until ok says so of a neighbor.
func awaitStatus(t *testing.T, s *Speaker, neighbor, what string, ok func(SessionStatus) bool) SessionStatus {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		var last SessionStatus
		for _, st := range s.Status() {
			if st.Neighbor == neighbor {
				if last = st; ok(st) {
					return st
				}
			}
		}
		select {
		case <-s.Events():
		case <-deadline:
			t.Fatalf("not within 20s: %s of %s; last status: %+v", what, neighbor, last)
		}
	}
}

// startSpeaker runs a speaker until the test ends.
func startSpeaker(t *testing.T) *Speaker {
	t.Helper()
	s := New(Config{Logger: testLogger(t), ConfirmTimeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func testLogger(t *testing.T) *slog.Logger {
	var out io.Writer = io.Discard
	if testing.Verbose() {
		out = t.Output()
	}
	level := slog.LevelInfo
	if os.Getenv("PHAROS_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
}
