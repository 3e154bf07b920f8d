// Package netnstest has the tests of a package act on a network namespace of
// their own.
package netnstest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const envInside = "PHAROS_TEST_IN_NAMESPACE"

// Run is what a package's TestMain calls: it executes the test binary again, in a
// network namespace and, without root, in a user namespace around it, where it
// calls prepare, and runs the tests. Where there is no such namespace, the tests
// run all the same, and those that call Need are skipped.
func Run(m *testing.M, prepare func() error) {
	if os.Getenv(envInside) != "" {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
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
		fmt.Fprintln(os.Stderr, "no network namespace, tests that need one are skipped:", err)
		os.Exit(m.Run())
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// LoUp sets the loopback interface up: what most namespaces are prepared by.
func LoUp() error {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot set lo up: %w: %s", err, out)
	}
	return nil
}

// Need skips a test where there is no namespace, or fails it where
// PHAROS_REQUIRE_ROOT=1 says that it must run.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv(envInside) != "" {
		return
	}
	if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
		t.Fatal("needs a network namespace, and PHAROS_REQUIRE_ROOT=1 says that it must run")
	}
	t.Skip("needs a network namespace: root, or user namespaces")
}

// IP runs ip(8), which must succeed.
func IP(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}
