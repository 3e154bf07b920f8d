package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

func snapshot(version uint64) fsm.Desired {
	weight := 3
	snap := registry.Snapshot{Version: version, Config: registry.Config{
		VIPs: []registry.VIP{{Name: "web", Mode: registry.ModeBGP, Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}}},
		Pools: []registry.Pool{{
			Name: "p", Balance: registry.BalanceRoundRobin,
			HealthCheck: &registry.HealthCheck{HTTP: "/healthz?<&>", Interval: 2 * time.Second, Timeout: time.Second, Fall: 3, Rise: 5},
			Servers:     []registry.Server{{Name: "s", Address: netip.MustParseAddrPort("10.0.0.1:80"), Weight: &weight}},
		}},
	}}
	return fsm.Desired{
		Snapshot: snap, Revision: version + 7,
		Servers: map[string]fsm.Server{"p/s": {ID: "u", Created: time.Unix(1, 0).UTC(), State: fsm.ServerDraining, Weight: &weight}},
		Keys:    map[fsm.KeyKind]fsm.KeySet{fsm.TicketKeys: {Version: 1, Keys: []fsm.Key{{ID: "k", Sealed: "sealed:v1:QQ==", Makes: true, Created: time.Unix(2, 0).UTC()}}}},
	}
}

// The first version kept the configuration alone.
func TestAppliedOfTheFirstFormatIsRead(t *testing.T) {
	dir := t.TempDir()
	const text = `{"format":1,"sha256":"%x","snapshot":%s}`
	const body = `{"version":4,"config":{"vips":null,"neighbors":null,"listeners":null,"pools":[{"name":"p","balance":"round_robin","servers":[{"name":"s","address":"10.0.0.1:80","weight":3}]}]}}`
	if err := os.WriteFile(appliedName(dir), fmt.Appendf(nil, text, sha256.Sum256([]byte(body)), body), 0o600); err != nil {
		t.Fatal(err)
	}
	got, found, err := LoadApplied(dir)
	if !found || err != nil {
		t.Fatal(found, err)
	}
	if got.Snapshot.Version != 4 || got.Revision != 4 || got.Snapshot.Config.Pools[0].Name != "p" || got.Servers["p/s"].ID == "" {
		t.Errorf("got %+v", got)
	}
}

func TestAppliedIsKept(t *testing.T) {
	dir := t.TempDir()
	if _, found, err := LoadApplied(dir); found || err != nil {
		t.Fatalf("of an empty directory: %v, %v", found, err)
	}
	for version := range uint64(3) {
		want := snapshot(version)
		if err := SaveApplied(dir, want); err != nil {
			t.Fatal(err)
		}
		got, found, err := LoadApplied(dir)
		if !found || err != nil {
			t.Fatalf("version %d: %v, %v", version, found, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Errorf("version %d:\n%s", version, diff)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("%d files, want the present one and the one before: %v", len(entries), entries)
	}
}

func TestAppliedFallsBackToTheOneBefore(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"a byte flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut in half":    func(b []byte) []byte { return b[:len(b)/2] },
		"empty":          func([]byte) []byte { return nil },
		"other JSON":     func([]byte) []byte { return []byte(`{"format":1,"snapshot":{}}`) },
		"a later format": func([]byte) []byte { return []byte(`{"format":3}`) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for version := range uint64(2) {
				if err := SaveApplied(dir, snapshot(version+1)); err != nil {
					t.Fatal(err)
				}
			}
			edit(t, appliedName(dir), damage)
			got, found, err := LoadApplied(dir)
			var damaged *CorruptError
			if !errors.As(err, &damaged) || damaged.File != appliedName(dir) {
				t.Errorf("error %v, want a CorruptError for %s", err, appliedName(dir))
			}
			if !found || got.Snapshot.Version != 1 {
				t.Errorf("found %v, version %d; want the one before, 1", found, got.Snapshot.Version)
			}

			// The next one saved does not push the good one out.
			if err := SaveApplied(dir, snapshot(3)); err != nil {
				t.Fatal(err)
			}
			if got, found, err := LoadApplied(dir); !found || err != nil || got.Snapshot.Version != 3 {
				t.Errorf("after the next: version %d, %v, %v", got.Snapshot.Version, found, err)
			}
			if got, found, err := readApplied(appliedPrevName(dir)); !found || err != nil || got.Snapshot.Version != 1 {
				t.Errorf("the one before: version %d, %v, %v", got.Snapshot.Version, found, err)
			}
		})
	}
	t.Run("both are damaged", func(t *testing.T) {
		dir := t.TempDir()
		for version := range uint64(2) {
			if err := SaveApplied(dir, snapshot(version)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{appliedName(dir), appliedPrevName(dir)} {
			edit(t, name, func([]byte) []byte { return nil })
		}
		var damaged *CorruptError
		if _, found, err := LoadApplied(dir); found || !errors.As(err, &damaged) {
			t.Errorf("%v, %v; want nothing, and a CorruptError", found, err)
		}
	})
	t.Run("a crash between the two renames", func(t *testing.T) {
		dir := t.TempDir()
		for version := range uint64(2) {
			if err := SaveApplied(dir, snapshot(version+1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(appliedName(dir)); err != nil {
			t.Fatal(err)
		}
		if got, found, err := LoadApplied(dir); !found || err == nil || got.Snapshot.Version != 1 {
			t.Errorf("version %d, %v, %v; want 1, and an error that says so", got.Snapshot.Version, found, err)
		}
	})
}

func FuzzDecodeApplied(f *testing.F) {
	dir := f.TempDir()
	if err := SaveApplied(dir, snapshot(1)); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(appliedName(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"format":1,"sha256":"","snapshot":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		snap, err := decodeApplied(data)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := SaveApplied(dir, snap); err != nil {
			t.Fatalf("what was read cannot be saved: %v", err)
		}
		again, found, err := LoadApplied(dir)
		if !found || err != nil {
			t.Fatal(found, err)
		}
		if diff := cmp.Diff(snap, again, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Error(diff)
		}
	})
}
