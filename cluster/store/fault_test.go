package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// stopped makes a single node's store with some entries, and stops it.
func stopped(t *testing.T, adjust func(*Config)) (Config, fsm.State) {
	t.Helper()
	n := cluster(t, 1, adjust)[0]
	for i := range 12 {
		submit(t, n, put(fmt.Sprintf("m%d", i), "192.0.2.1:1"))
	}
	state := n.State()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	return n.cfg, state
}

func logOf(cfg Config) string { return logFile(raftDir(cfg.Dir)) }

func edit(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedLogIsRefusedWithAdvice(t *testing.T) {
	cfg, _ := stopped(t, nil)
	whole, err := os.ReadFile(logOf(cfg))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":                   func([]byte) []byte { return nil },
		"cut to three pages":      func(b []byte) []byte { return b[:3*4096] },
		"one page is left":        func(b []byte) []byte { return b[:4096] },
		"some bytes are left":     func(b []byte) []byte { return b[:100] },
		"both metas are zero":     func(b []byte) []byte { clear(b[:8192]); return b },
		"everything is zero":      func(b []byte) []byte { clear(b); return b },
		"text":                    func([]byte) []byte { return bytes.Repeat([]byte("not a log\n"), 4096) },
		"all but the metas is ff": func(b []byte) []byte { copy(b[8192:], bytes.Repeat([]byte{0xff}, len(b)-8192)); return b },
		"an entry has another name": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte(`"m10"`), []byte(`"m99"`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			edit(t, logOf(cfg), func([]byte) []byte { return damage(bytes.Clone(whole)) })
			s, err := Open(cfg)
			if err == nil {
				_ = s.Close()
			}
			var damaged *CorruptError
			if !errors.As(err, &damaged) {
				t.Fatalf("error %v, want a CorruptError", err)
			}
			if damaged.File != logOf(cfg) || !strings.Contains(err.Error(), "join again") {
				t.Errorf("the error does not say which file, or what to do: %v", err)
			}
			if _, err := HasState(cfg.Dir); name != "an entry has another name" && !errors.As(err, &damaged) {
				t.Errorf("HasState: %v, want a CorruptError: state that is damaged is not absent", err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		if err := os.Remove(logOf(cfg)); err != nil {
			t.Fatal(err)
		}
		var damaged *CorruptError
		if _, err := Open(cfg); !errors.As(err, &damaged) {
			t.Errorf("error %v, want a CorruptError", err)
		}
	})
	t.Run("whole again", func(t *testing.T) {
		err := os.WriteFile(logOf(cfg), whole, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEveryFlippedByteIsSafe damages one byte after the other: the store either
// refuses, or runs with exactly the state that it had. Bytes in free pages and
// slack are of no account, which is why it may run.
func TestEveryFlippedByteIsSafe(t *testing.T) {
	cfg, want := stopped(t, nil)
	whole, err := os.ReadFile(logOf(cfg))
	if err != nil {
		t.Fatal(err)
	}
	refused, ran := 0, 0
	step := max(1, len(whole)/60)
	step += 1 - step%2 // odd, so that all offsets within a page get their turn
	for at := 0; at < len(whole); at += step {
		edit(t, logOf(cfg), func([]byte) []byte {
			b := bytes.Clone(whole)
			b[at] ^= 0x41
			return b
		})
		s, err := Open(cfg)
		if err != nil {
			var damaged *CorruptError
			if !errors.As(err, &damaged) {
				t.Fatalf("byte %d: error %v, want a CorruptError", at, err)
			}
			refused++
			continue
		}
		_ = s.Close()
		ran++
		if ran%20 != 1 {
			continue // an election takes a while: some of them will do
		}
		cfg := cfg
		cfg.Transport = relisten(t, cfg.Address)
		cfg.HeartbeatTimeout = 50 * time.Millisecond
		n := run(t, cfg)
		leaderOf(t, n)
		if diff := cmp.Diff(want, n.State()); diff != "" {
			t.Fatalf("byte %d: it runs with another state:\n%s", at, diff)
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused, %d opened", refused, ran)
	if refused == 0 {
		t.Error("nothing was refused: the test damages nothing that matters")
	}
}

// snapshots lists the snapshot directories, oldest first.
func snapshots(t *testing.T, cfg Config) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(snapDir(raftDir(cfg.Dir)), "*-*-*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// withSnapshots stops a node that has taken two snapshots.
func withSnapshots(t *testing.T, trailing uint64) (Config, fsm.State) {
	t.Helper()
	n := cluster(t, 1, func(c *Config) {
		c.SnapshotThreshold, c.SnapshotInterval, c.TrailingLogs = 4, time.Hour, trailing
	})[0]
	for round := range 2 {
		for i := range 6 {
			submit(t, n, put(fmt.Sprintf("m%d-%d", round, i), "192.0.2.1:1"))
		}
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	state := n.State()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if got := len(snapshots(t, n.cfg)); got != 2 {
		t.Fatalf("%d snapshots, want 2", got)
	}
	return n.cfg, state
}

func damageSnapshot(t *testing.T, dir string) {
	t.Helper()
	edit(t, filepath.Join(dir, "state.bin"), func(b []byte) []byte { b[len(b)/2] ^= 0x41; return b })
}

func TestADamagedSnapshotFallsBackToTheOneBefore(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, string){
		"a byte flipped": damageSnapshot,
		"its description gone": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "meta.json")); err != nil {
				t.Fatal(err)
			}
		},
		"its state cut short": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "state.bin"), 3); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, want := withSnapshots(t, 1000)
			damage(t, snapshots(t, cfg)[1])
			cfg.Transport = relisten(t, cfg.Address)
			n := run(t, cfg)
			leaderOf(t, n)
			if diff := cmp.Diff(want, n.State()); diff != "" {
				t.Errorf("the state differs:\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(raftDir(cfg.Dir), "damaged")); err != nil {
				t.Errorf("the damaged snapshot was not kept for a look: %v", err)
			}
		})
	}
}

func TestADamagedSnapshotThatTheLogDoesNotCoverIsRefused(t *testing.T) {
	cfg, _ := withSnapshots(t, 2)
	newest := snapshots(t, cfg)[1]
	damageSnapshot(t, newest)
	var damaged *CorruptError
	_, err := Open(cfg)
	if !errors.As(err, &damaged) || damaged.File != newest {
		t.Fatalf("error %v, want a CorruptError for %s", err, newest)
	}
	if got := len(snapshots(t, cfg)); got != 2 {
		t.Errorf("%d snapshots are left of 2: a refusal must not change anything", got)
	}
}

func TestBothSnapshotsDamaged(t *testing.T) {
	t.Run("the log has everything", func(t *testing.T) {
		cfg, want := withSnapshots(t, 1000)
		for _, dir := range snapshots(t, cfg) {
			damageSnapshot(t, dir)
		}
		cfg.Transport = relisten(t, cfg.Address)
		n := run(t, cfg)
		leaderOf(t, n)
		if diff := cmp.Diff(want, n.State()); diff != "" {
			t.Errorf("the state differs:\n%s", diff)
		}
	})
	t.Run("the log has not", func(t *testing.T) {
		cfg, _ := withSnapshots(t, 2)
		for _, dir := range snapshots(t, cfg) {
			damageSnapshot(t, dir)
		}
		var damaged *CorruptError
		if _, err := Open(cfg); !errors.As(err, &damaged) {
			t.Errorf("error %v, want a CorruptError", err)
		}
	})
}

func TestAnUnfinishedSnapshotIsSweptAway(t *testing.T) {
	cfg, _ := withSnapshots(t, 1000)
	tmp := filepath.Join(snapDir(raftDir(cfg.Dir)), "9-999-1.tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	n := cluster(t, 1, nil)[0]
	if _, err := Open(n.cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("Open: %v, want ErrInUse", err)
	}
	if err := Bootstrap(testContext(t), n.cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("Bootstrap: %v, want ErrInUse", err)
	}
}

func TestAnotherNodesStoreIsRefused(t *testing.T) {
	cfg, _ := stopped(t, nil)
	cfg.Name = "other"
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), `node "n1"`) {
		t.Errorf("error %v, want one that names the owner", err)
	}
}

func TestBootstrap(t *testing.T) {
	ctx := testContext(t)
	t.Run("refuses a second time", func(t *testing.T) {
		cfg := testConfig(t, "n1")
		if err := Bootstrap(ctx, cfg, put("n1", cfg.Address)); err != nil {
			t.Fatal(err)
		}
		if err := Bootstrap(ctx, cfg, put("n1", cfg.Address)); !errors.Is(err, ErrExists) {
			t.Errorf("error %v, want ErrExists", err)
		}
	})
	t.Run("leaves nothing when a command is refused", func(t *testing.T) {
		cfg := testConfig(t, "n1")
		err := Bootstrap(ctx, cfg, fsm.Command{RemoveMember: &fsm.RemoveMember{Name: "nobody"}})
		if !errors.Is(err, fsm.ErrMemberUnknown) {
			t.Fatalf("error %v, want ErrMemberUnknown", err)
		}
		if has, err := HasState(cfg.Dir); has || err != nil {
			t.Errorf("HasState: %v, %v; want none", has, err)
		}
		if err := Bootstrap(ctx, cfg, put("n1", cfg.Address)); err != nil {
			t.Errorf("a second try: %v", err)
		}
	})
	t.Run("records the real address", func(t *testing.T) {
		cfg := testConfig(t, "n1")
		if err := Bootstrap(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		if has, err := HasState(cfg.Dir); !has || err != nil {
			t.Errorf("HasState: %v, %v; want state", has, err)
		}
		n := run(t, cfg)
		leaderOf(t, n)
		if diff := cmp.Diff([]Voter{{"n1", cfg.Address, true}}, n.Voters()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestANodeThatJoinedNothingHasNoState(t *testing.T) {
	cfg := testConfig(t, "n1")
	if has, err := HasState(cfg.Dir); has || err != nil {
		t.Errorf("before: %v, %v", has, err)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if has, err := HasState(cfg.Dir); has || err != nil {
		t.Errorf("after it was opened: %v, %v", has, err)
	}
}
