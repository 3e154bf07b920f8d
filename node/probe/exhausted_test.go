package probe

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDisk(t *testing.T) {
	for name, c := range map[string]struct {
		free, files, freeFiles uint64
		want                   string
	}{
		"enough":                         {diskReserve, 10, 1, ""},
		"a byte less":                    {diskReserve - 1, 10, 1, "/d: the disk has 16383 KiB left, at least 16 MiB are needed"},
		"no files":                       {1 << 40, 10, 0, "/d: the disk takes no further files"},
		"no fixed number of files, as a": {1 << 40, 0, 0, ""},
	} {
		if got := judgeDisk("/d", c.free, c.files, c.freeFiles); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := DiskFull("/proc/self/nothing/here"); got != "" {
		t.Errorf("a disk that cannot be looked at: %q", got)
	}
}

func TestDescriptorsByNumber(t *testing.T) {
	for name, c := range map[string]struct {
		lowest, limit uint64
		used          bool
	}{
		"few":                     {10, 1024, false},
		"the reserve is left":     {1024 - descriptorReserve - 1, 1024, false},
		"the reserve is begun":    {1024 - descriptorReserve, 1024, true},
		"a small limit has less":  {100, 128, false},
		"a small limit runs out":  {112, 128, true},
		"no limit worth the name": {1 << 20, 1 << 62, false},
	} {
		if got := judgeDescriptors(c.lowest, c.limit); (got != "") != c.used {
			t.Errorf("%s: %q", name, got)
		}
	}
}

const exhaustInChild = "PHAROS_TEST_EXHAUST"

// A process that has really opened all that it may says so, and no longer once
// some are closed again.
func TestDescriptorsReallyExhausted(t *testing.T) {
	if os.Getenv(exhaustInChild) != "" {
		exhaust()
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestDescriptorsReallyExhausted$")
	child.Env = append(os.Environ(), exhaustInChild+"=1")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{`before ""`, "after \"no further descriptor can be opened: too many open files (the limit is 100)\"", `freed ""`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in %s", want, out)
		}
	}
}

func exhaust() {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: 100}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("before %q\n", DescriptorsUsedUp())
	var opened []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		opened = append(opened, fd)
	}
	fmt.Printf("after %q\n", DescriptorsUsedUp())
	for _, fd := range opened {
		_ = unix.Close(fd)
	}
	fmt.Printf("freed %q\n", DescriptorsUsedUp())
}
