package addr

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
)

func TestASuccessorAdoptsWithoutRemovingAnything(t *testing.T) {
	inNamespace(t)
	file := filepath.Join(t.TempDir(), "addresses.json")
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	old := New(Config{StateFile: file})
	if _, err := old.CleanUp(); err != nil {
		t.Fatal(err)
	}
	if err := old.Prepare(); err != nil {
		t.Fatal(err)
	}
	if err := old.Reconcile([]netip.Addr{a, b}); err != nil {
		t.Fatal(err)
	}

	next := New(Config{StateFile: file})
	adopted, err := next.Adopt(old.HandOver())
	if err != nil || !slices.Equal(adopted, []netip.Addr{a, b}) {
		t.Fatalf("adopted %v, %v", adopted, err)
	}
	if got := globals(t, "lo"); len(got) != 2 {
		t.Errorf("on lo after the adoption: %v", got)
	}
	if err := next.Reconcile([]netip.Addr{a}); err != nil {
		t.Fatalf("a VIP that is there and ours is refused: %v", err)
	}
	if got := globals(t, "lo"); len(got) != 1 {
		t.Errorf("on lo, with one wanted: %v", got)
	}
	if err := next.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	if err := next.Restore(); err != nil {
		t.Fatal(err)
	}
	for _, r := range old.HandOver() {
		if now, err := next.readSetting(r.Key); err != nil || now != r.Before {
			t.Errorf("%s is %d after the end, and was %d before (%v)", r.Key, now, r.Before, err)
		}
	}
}
