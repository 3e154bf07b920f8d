package netns

import (
	"strings"
	"syscall"
	"testing"
)

func TestNodesWithDisksOfTheirOwn(t *testing.T) {
	needRoot(t)
	name := uniqueName("disk")
	c := config(t, name)
	c.DiskBytes = MinDisk - 1
	if _, err := Up(t.Context(), c); err == nil || !strings.Contains(err.Error(), "67108864") {
		t.Errorf("a disk that is too small: %v", err)
	}
	c.DiskBytes = MinDisk
	l, err := Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { assertNoTrace(t, name) })
	size := func(dir string) uint64 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * uint64(st.Bsize)
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		if got := size(l.NodeDir(n)); got != MinDisk {
			t.Errorf("%s: a disk of %d bytes", n, got)
		}
	}
	if size(l.NodeDir("b1")) == MinDisk {
		t.Error("a backend has a disk of its own")
	}
	if !l.HasOwnDisk("n1") || l.HasOwnDisk("b1") {
		t.Errorf("own disks: n1 %v, b1 %v", l.HasOwnDisk("n1"), l.HasOwnDisk("b1"))
	}
	if err := Down(t.Context(), name); err != nil {
		t.Error(err)
	}
}
