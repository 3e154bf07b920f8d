package addr

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeProc makes a /proc/sys with the ARP settings of "all" and "lo".
func fakeProc(t *testing.T, values map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, key := range []string{"all/arp_ignore", "all/arp_announce", "lo/arp_ignore", "lo/arp_announce"} {
		path := filepath.Join(root, "net/ipv4/conf", key)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		value, ok := values[key]
		if !ok {
			value = "0"
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func value(t *testing.T, root, key string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "net/ipv4/conf", key))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestSettingsAreRaisedAndPutBack(t *testing.T) {
	root := fakeProc(t, map[string]string{"all/arp_ignore": "2", "lo/arp_announce": "1"})
	m := New(Config{ProcSys: root})
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"all/arp_ignore": "2", "all/arp_announce": "2", "lo/arp_ignore": "1", "lo/arp_announce": "2"} {
		if got := value(t, root, key); got != want {
			t.Errorf("after Prepare, %s is %s, want %s", key, got, want)
		}
	}
	// Somebody else's change outlives ours.
	if err := os.WriteFile(filepath.Join(root, "net/ipv4/conf/lo/arp_ignore"), []byte("8"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"all/arp_ignore": "2", "all/arp_announce": "0", "lo/arp_ignore": "8", "lo/arp_announce": "1"} {
		if got := value(t, root, key); got != want {
			t.Errorf("after Restore, %s is %s, want %s", key, got, want)
		}
	}
}

func TestSettingThatCannotBeRaised(t *testing.T) {
	root := fakeProc(t, map[string]string{"all/arp_ignore": "1", "all/arp_announce": "2", "lo/arp_announce": "2"})
	// As good as read-only for root too: a directory in its place.
	path := filepath.Join(root, "net/ipv4/conf/lo/arp_ignore")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	err := New(Config{ProcSys: root}).Prepare()
	var e *SysctlError
	if !errors.As(err, &e) || e.Key != "net.ipv4.conf.lo.arp_ignore" || e.Want != 1 {
		t.Errorf("Prepare: %v", err)
	}
}

func TestInterfaceNameWithDots(t *testing.T) {
	m := New(Config{Link: "eth0.100", ProcSys: "/p"})
	if got, want := m.settingPath("net.ipv4.conf.eth0.100.arp_ignore"), "/p/net/ipv4/conf/eth0.100/arp_ignore"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
}
