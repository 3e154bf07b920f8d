package member

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary run one member, in a process that a test can
// kill: its value is NAME,ADDRESS,SEED,SEED...
const childEnv = "PHAROS_TEST_MEMBER"

// runChild is that member. It ends when its standard input does.
func runChild(spec string) int {
	parts := strings.Split(spec, ",")
	m, err := New(Config{
		Name: parts[0], BindAddr: netip.MustParseAddrPort(parts[1]), SecretKey: key,
		Seeds: func() []string { return parts[2:] },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // the parent is gone
		cancel()
	}()
	if err := m.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startChild starts a member in a process of its own.
func startChild(tb testing.TB, name string, addr netip.AddrPort, seeds []string) *exec.Cmd {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{name, addr.String()}, seeds...), ","))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd
}

func TestADeadMemberIsFound(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{
		"killed: its socket is closed":      syscall.SIGKILL,
		"stopped: it is silent, as a crash": syscall.SIGSTOP,
	} {
		t.Run(name, func(t *testing.T) {
			addr := freeAddr(t)
			withSeed := func(c *Config) {
				seeds := c.Seeds
				c.Seeds = func() []string { return append(seeds(), addr.String()) }
			}
			nodes := group(t, withSeed, "n1", "n2")
			child := startChild(t, "n3", addr, []string{nodes[0].cfg.BindAddr.String()})
			for _, n := range nodes {
				n.await(t, "n3", func(ms []Member) bool { return living(ms) == 3 })
			}
			at := time.Now()
			if err := child.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				n.await(t, "n3's death", func(ms []Member) bool { return !find(ms, "n3").Alive })
				t.Logf("%s knew after %v", n.cfg.Name, time.Since(at).Round(time.Millisecond))
			}
			if sig != syscall.SIGSTOP {
				return
			}
			if err := child.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				n.await(t, "n3's resurrection", func(ms []Member) bool { return living(ms) == 3 })
			}
		})
	}
}

// BenchmarkFalseDeathsUnderLoad keeps every core busy, several times over, and
// counts members that are declared dead while they live. It is the measurement
// that the timings rest on. One iteration is a second.
func BenchmarkFalseDeathsUnderLoad(b *testing.B) {
	// Members are processes, as on real nodes: what starves them is the
	// machine's scheduler, not that of one Go program.
	a2, a3 := freeAddr(b), freeAddr(b)
	n1 := start(b, Config{
		Name: "n1", BindAddr: freeAddr(b), SecretKey: key, Logger: logger(b, "n1"),
		Seeds: func() []string { return []string{a2.String(), a3.String()} },
	})
	seeds := []string{n1.cfg.BindAddr.String()}
	startChild(b, "n2", a2, seeds)
	startChild(b, "n3", a3, seeds)
	n1.await(b, "all members", func(ms []Member) bool { return living(ms) == 3 })

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 2 * runtime.NumCPU() {
		burner := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := burner.Start(); err != nil {
			b.Fatal(err)
		}
		wg.Go(func() { _ = burner.Wait() })
	}
	deaths, alive := 0, 3
	for b.Loop() {
		for second := time.After(time.Second); second != nil; {
			ms, changed := n1.Watch()
			now := living(ms)
			deaths += max(alive-now, 0)
			alive = now
			select {
			case <-changed:
			case <-second:
				second = nil
			}
		}
	}
	b.ReportMetric(float64(deaths), "deaths")
}
