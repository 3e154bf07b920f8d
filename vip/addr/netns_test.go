package addr

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The tests below act on a network namespace of their own: the test process
// re-executes itself in one, and, without root, in a user namespace around it.

const envInside = "PHAROS_ADDR_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no network namespace, its tests are skipped:", err)
		os.Exit(m.Run())
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// inNamespace skips where there is none, and leaves lo up and without VIPs.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getenv(envInside) == "" {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("needs a network namespace")
		}
		t.Skip("needs a network namespace: root, or user namespaces")
	}
	ip(t, "link", "set", "lo", "up")
	t.Cleanup(func() {
		ip(t, "addr", "flush", "dev", "lo", "scope", "global")
	})
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// globals lists the addresses on an interface, loopback ones aside.
func globals(t *testing.T, link string) []string {
	t.Helper()
	have, err := present()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for a, on := range have {
		if slices.Contains(on, link) && a.IsGlobalUnicast() {
			list = append(list, a.String())
		}
	}
	slices.Sort(list)
	return list
}

func stateFile(t *testing.T) string { return filepath.Join(t.TempDir(), "vips.json") }

func TestAddressesComeAndGo(t *testing.T) {
	inNamespace(t)
	m := New(Config{StateFile: stateFile(t)})
	steps := [][]netip.Addr{
		addrs("198.51.100.1", "2001:db8:100::1"),
		addrs("198.51.100.1", "2001:db8:100::1"),
		addrs("2001:db8:100::1", "198.51.100.2"),
		nil,
	}
	for i, want := range steps {
		if err := m.Reconcile(want); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		var texts []string
		for _, a := range want {
			texts = append(texts, a.String())
		}
		slices.Sort(texts)
		if got := globals(t, "lo"); !slices.Equal(got, texts) {
			t.Errorf("step %d: lo has %v, want %v", i, got, texts)
		}
	}
}

func TestIPv6IsUsableAtOnce(t *testing.T) {
	inNamespace(t)
	m := New(Config{StateFile: stateFile(t)})
	if err := m.Reconcile(addrs("2001:db8:100::1")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "-6", "addr", "show", "dev", "lo").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "2001:db8:100::1/128") || strings.Contains(string(out), "tentative") {
		t.Errorf("on lo:\n%s", out)
	}
}

func TestForeignAddressIsRefusedAndStays(t *testing.T) {
	inNamespace(t)
	ip(t, "addr", "add", "198.51.100.7/32", "dev", "lo")
	ip(t, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	t.Cleanup(func() { ip(t, "link", "del", "eth0") })
	ip(t, "addr", "add", "10.0.0.5/24", "dev", "eth0")

	m := New(Config{StateFile: stateFile(t)})
	err := m.Reconcile(addrs("198.51.100.7", "10.0.0.5", "198.51.100.1"))
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "already in use on eth0: 10.0.0.5") || !strings.Contains(err.Error(), "on lo: 198.51.100.7") {
		t.Errorf("Reconcile: %v", err)
	}
	if got := globals(t, "lo"); !slices.Equal(got, []string{"198.51.100.1", "198.51.100.7"}) {
		t.Errorf("lo has %v", got)
	}
	if err := m.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	if got := slices.Concat(globals(t, "lo"), globals(t, "eth0")); !slices.Equal(got, []string{"198.51.100.7", "10.0.0.5"}) {
		t.Errorf("after RemoveAll: %v", got)
	}
}

func TestCleanUpRemovesExactlyWhatACrashLeft(t *testing.T) {
	inNamespace(t)
	file := stateFile(t)
	crashed := New(Config{StateFile: file})
	if err := crashed.Reconcile(addrs("198.51.100.1", "2001:db8:100::1")); err != nil {
		t.Fatal(err)
	}
	ip(t, "addr", "add", "198.51.100.7/32", "dev", "lo") // not ours

	m := New(Config{StateFile: file})
	removed, err := m.CleanUp()
	if err != nil || !slices.Equal(removed, addrs("198.51.100.1", "2001:db8:100::1")) {
		t.Errorf("CleanUp: %v, %v", removed, err)
	}
	if got := globals(t, "lo"); !slices.Equal(got, []string{"198.51.100.7"}) {
		t.Errorf("lo has %v", got)
	}
	if removed, err := New(Config{StateFile: file}).CleanUp(); err != nil || len(removed) > 0 {
		t.Errorf("a second CleanUp: %v, %v", removed, err)
	}
}

func TestCorruptRecordRemovesNothing(t *testing.T) {
	inNamespace(t)
	file := stateFile(t)
	if err := New(Config{StateFile: file}).Reconcile(addrs("198.51.100.1")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"version":1,"addr`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{StateFile: file}).CleanUp()
	var e *RecordError
	if !errors.As(err, &e) {
		t.Errorf("CleanUp: %v", err)
	}
	if got := globals(t, "lo"); !slices.Equal(got, []string{"198.51.100.1"}) {
		t.Errorf("lo has %v", got)
	}
}

func TestNothingIsAddedWithoutARecord(t *testing.T) {
	inNamespace(t)
	m := New(Config{StateFile: filepath.Join(t.TempDir(), "missing", "vips.json")})
	err := m.Reconcile(addrs("198.51.100.1"))
	var e *RecordError
	if !errors.As(err, &e) {
		t.Errorf("Reconcile: %v", err)
	}
	if got := globals(t, "lo"); len(got) > 0 {
		t.Errorf("lo has %v", got)
	}
}

func TestLostAddressIsMissedAndComesBack(t *testing.T) {
	inNamespace(t)
	m := New(Config{StateFile: stateFile(t)})
	want := addrs("198.51.100.1", "198.51.100.2")
	if err := m.Reconcile(want); err != nil {
		t.Fatal(err)
	}
	if missing, err := m.Missing(); err != nil || len(missing) > 0 {
		t.Errorf("Missing: %v, %v", missing, err)
	}
	ip(t, "addr", "del", "198.51.100.2/32", "dev", "lo")
	if missing, err := m.Missing(); err != nil || !slices.Equal(missing, addrs("198.51.100.2")) {
		t.Errorf("Missing: %v, %v", missing, err)
	}
	if err := m.Reconcile(want); err != nil {
		t.Fatal(err)
	}
	if missing, err := m.Missing(); err != nil || len(missing) > 0 {
		t.Errorf("Missing, afterwards: %v, %v", missing, err)
	}
}

func TestUnknownInterface(t *testing.T) {
	inNamespace(t)
	err := New(Config{Link: "nowhere0", StateFile: stateFile(t)}).Reconcile(addrs("198.51.100.1"))
	if err == nil || !strings.Contains(err.Error(), "nowhere0") {
		t.Errorf("Reconcile: %v", err)
	}
}
