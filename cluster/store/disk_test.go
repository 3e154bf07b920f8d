package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// disk is a log and a stable store that a test can declare full.
type disk struct {
	raft.LogStore
	raft.StableStore
	full atomic.Bool
	rots atomic.Bool // what is read is not what was written
}

func (d *disk) GetLog(i uint64, l *raft.Log) error {
	err := d.LogStore.GetLog(i, l)
	if d.rots.Load() && err == nil && len(l.Data) > 0 {
		l.Data[len(l.Data)/2] ^= 1
	}
	return err
}

func (d *disk) err() error {
	if d.full.Load() {
		return &os.PathError{Op: "write", Path: "log.db", Err: syscall.ENOSPC}
	}
	return nil
}

func (d *disk) StoreLogs(l []*raft.Log) error {
	if err := d.err(); err != nil {
		return err
	}
	return d.LogStore.StoreLogs(l)
}

func (d *disk) Set(k, v []byte) error {
	if err := d.err(); err != nil {
		return err
	}
	return d.StableStore.Set(k, v)
}

// onDisk restarts a node on a disk that can be full.
func onDisk(t *testing.T, n *node) (*node, *disk) {
	t.Helper()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.cfg.Transport = relisten(t, n.cfg.Address)
	d := &disk{}
	return runWith(t, n.cfg, func(s *Store) {
		d.LogStore, d.StableStore = s.guard.logs, s.guard.stable
		s.guard.logs, s.guard.stable = d, d
	}), d
}

func TestAFullDiskOfANodeAlone(t *testing.T) {
	n, d := onDisk(t, cluster(t, 1, nil)[0])
	leaderOf(t, n)
	submit(t, n, put("before", "192.0.2.1:1"))

	d.full.Store(true)
	_, err := n.Submit(testContext(t), put("during", "192.0.2.1:1"))
	var storage *StorageError
	if !errors.As(err, &storage) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want a StorageError with ENOSPC", err)
	}
	if !errors.Is(n.DiskFault(), syscall.ENOSPC) {
		t.Errorf("DiskFault %v, want ENOSPC", n.DiskFault())
	}
	if !has("before")(n.State()) || has("during")(n.State()) {
		t.Error("the state is not the one before the disk was full")
	}
	// It steps down, cannot keep a new term, and says why it refuses.
	for {
		// The watch comes before the look, or a change between them is missed.
		_, _, changed := n.WatchLeader()
		if !n.IsLeader() {
			break
		}
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("it leads without a log")
		}
	}
	_, err = n.Submit(testContext(t), put("during", "192.0.2.1:1"))
	if !errors.Is(err, ErrNoLeader) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want ErrNoLeader because of ENOSPC", err)
	}

	d.full.Store(false)
	leaderOf(t, n)
	submit(t, n, put("after", "192.0.2.1:1"))
	if n.DiskFault() != nil {
		t.Errorf("DiskFault %v after space came back", n.DiskFault())
	}
	n = n.restart(t)
	leaderOf(t, n)
	if s := n.State(); !has("before")(s) || !has("after")(s) || has("during")(s) {
		t.Errorf("after a restart it has the members %v", s.Members)
	}
}

func TestAFullDiskAtTheEndIsNoHang(t *testing.T) {
	n, d := onDisk(t, cluster(t, 1, nil)[0])
	leaderOf(t, n)
	d.full.Store(true)
	if _, err := n.Submit(testContext(t), put("x", "192.0.2.1:1")); err == nil {
		t.Fatal("a full disk took a command")
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

func TestAFullDiskOfTheLeaderLetsAnotherLead(t *testing.T) {
	nodes := cluster(t, 3, nil)
	submit(t, leaderOf(t, nodes...), put("before", "192.0.2.1:1"))
	first, d := onDisk(t, nodes[0])
	await(t, first, "the log", has("before"))
	makeLead(t, first, nodes[1:]...)

	d.full.Store(true)
	if _, err := first.Submit(testContext(t), put("during", "192.0.2.1:1")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	submit(t, leaderOf(t, nodes[1:]...), put("elsewhere", "192.0.2.1:1"))
	if !has("before")(first.State()) {
		t.Error("the full node lost its state")
	}
	d.full.Store(false)
	await(t, first, "what it missed", has("elsewhere"))
	for _, n := range append(nodes[1:3:3], first) {
		if has("during")(n.State()) {
			t.Errorf("%s has the command that was refused", n.cfg.Name)
		}
	}
}

// TestAFullTmpfs is the real thing: bolt on a file system without space.
func TestAFullTmpfs(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("not root, though PHAROS_REQUIRE_ROOT is set")
		}
		t.Skip("needs root to mount a tmpfs")
	}
	cfg := testConfig(t, "n1")
	cfg.HeartbeatTimeout = 50 * time.Millisecond
	cfg.Dir = filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", cfg.Dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(cfg.Dir, 0); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := Bootstrap(ctx, cfg, put(cfg.Name, cfg.Address)); err != nil {
		t.Fatal(err)
	}
	n := run(t, cfg)
	leaderOf(t, n)

	ballast := filepath.Join(cfg.Dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	acked := 0
	for {
		if _, err = n.Submit(ctx, put(fmt.Sprintf("m%d", acked), "192.0.2.1:1")); err != nil {
			break
		}
		acked++
	}
	var storage *StorageError
	if !errors.As(err, &storage) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d commands: %v, want a StorageError with ENOSPC", acked, err)
	}
	t.Logf("full after %d commands", acked)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	leaderOf(t, n)
	submit(t, n, put("after", "192.0.2.1:1"))
	n = n.restart(t)
	leaderOf(t, n)
	want := func(s fsm.State) bool {
		for i := range acked {
			if !has(fmt.Sprintf("m%d", i))(s) {
				return false
			}
		}
		return has("after")(s) && !has(fmt.Sprintf("m%d", acked))(s)
	}
	if !want(n.State()) {
		t.Errorf("after a restart it has the members %v, want %d and one", n.State().Members, acked)
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
}

func TestALogThatRotsWhileRunningStopsRaftOnly(t *testing.T) {
	nodes := cluster(t, 3, nil)
	first, d := onDisk(t, nodes[0])
	if err := nodes[2].stop(); err != nil {
		t.Fatal(err)
	}
	makeLead(t, first, nodes[1])
	for i := range 40 { // more than the cache holds
		submit(t, first, put(fmt.Sprintf("m%d", i), "192.0.2.1:1"))
	}
	d.rots.Store(true)
	// The third node asks for entries that the leader can only find on disk.
	third := nodes[2].restart(t)
	leader := leaderOf(t, nodes[1], third)
	submit(t, leader, put("after", "192.0.2.1:1"))
	await(t, third, "what it missed", has("m0"))
	var damaged *CorruptError
	if err := first.Failure(); !errors.As(err, &damaged) {
		t.Errorf("Failure %v, want a CorruptError", err)
	}
	if _, err := first.Submit(testContext(t), put("x", "192.0.2.1:1")); !errors.As(err, &damaged) {
		t.Errorf("Submit: %v, want the CorruptError", err)
	}
	if !has("m39")(first.State()) {
		t.Error("the state is gone")
	}
	if err := first.stop(); err != nil {
		t.Error(err)
	}
}
