package fault

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWaits(t *testing.T) {
	for line, want := range map[string]bool{
		"running":                              false,
		"202 0x1f57d00 0x80 0x0":               false, // futex
		"281 0x6 0x22406fb716fc 0x80 0xffff":   false, // the runtime's own
		"281 0xe 0x22406fb716fc 0x80 0xffff":   true,
		"232 0x10 0x22406fb716fc 0x80 0xffff":  true,
		"426 0x7 0x0 0x1 0x9 0x0 0x0":          true,
		"281 something that no kernel writes ": false,
	} {
		if got := waits(line, 6); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

const hangInChild = "PHAROS_TEST_HANG"

// Only the thread that waits for connections stands still, and goes on afterwards.
func TestHangStopsWhatWaitsAlone(t *testing.T) {
	if os.Getenv(hangInChild) != "" {
		waitForEver()
	}
	child := exec.Command(os.Args[0], "-test.run=^TestHangStopsWhatWaitsAlone$")
	child.Env = append(os.Environ(), hangInChild+"=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	h := &Hang{Name: "the child", Pid: func() (int, error) { return child.Process.Pid, nil }}
	if _, err := h.Inject(t.Context()); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	if n := traced(t, child.Process.Pid); n != 1 {
		t.Errorf("%d threads stand still, want 1", n)
	}
	_, _ = fmt.Fprintln(in, "are you there?")
	if line, err := lines.ReadString('\n'); err != nil || line != "yes\n" {
		t.Errorf("the others: %q, %v", line, err)
	}
	for range 2 { // twice does no harm
		if _, err := h.Revert(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := traced(t, child.Process.Pid); n != 0 {
		t.Errorf("%d threads stand still after all", n)
	}
}

// traced counts the threads that a tracer has stopped (proc(5)).
func traced(t *testing.T, pid int) (n int) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "\nState:\tt ") {
			n++
		}
	}
	return n
}

// waitForEver is a process whose one thread waits by an epoll instance that is not
// the first, and that answers lines meanwhile.
func waitForEver() {
	_, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	second, err2 := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err := errors.Join(err, err2); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		runtime.LockOSThread()
		for {
			_, _ = unix.EpollWait(second, make([]unix.EpollEvent, 1), int(time.Hour/time.Millisecond))
		}
	}()
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println("yes")
	}
	os.Exit(0)
}
