package addr

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pharos-lb/pharos/vip/netnstest"
)

func TestMain(m *testing.M) { netnstest.Run(m, netnstest.LoUp) }

// inNamespace skips where there is none, and leaves lo up and without VIPs.
func inNamespace(t *testing.T) {
	t.Helper()
	netnstest.Need(t)
	t.Cleanup(func() {
		netnstest.IP(t, "addr", "flush", "dev", "lo", "scope", "global")
	})
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
	netnstest.IP(t, "addr", "add", "198.51.100.7/32", "dev", "lo")
	netnstest.IP(t, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	t.Cleanup(func() { netnstest.IP(t, "link", "del", "eth0") })
	netnstest.IP(t, "addr", "add", "10.0.0.5/24", "dev", "eth0")

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
	netnstest.IP(t, "addr", "add", "198.51.100.7/32", "dev", "lo") // not ours

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
	netnstest.IP(t, "addr", "del", "198.51.100.2/32", "dev", "lo")
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
