package store

import (
	"context"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startChildren starts the three nodes of a new cluster as processes that write as
// fast as they can.
func startChildren(tb testing.TB, acks chan<- ack) map[string]*child {
	tb.Helper()
	children := map[string]*child{}
	nodes := cluster(tb, 3, nil)
	for _, n := range nodes {
		if err := n.stop(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, n := range nodes {
		children[n.cfg.Name] = startChild(tb, n.cfg.Name, n.cfg.Dir, n.cfg.Address, "0", acks)
	}
	return children
}

// BenchmarkFalseElectionsUnderLoad keeps every core busy, several times over,
// while three nodes write, and counts changes of the leader, which should stay. It
// is the measurement that the default timeouts rest on. One iteration is a second.
func BenchmarkFalseElectionsUnderLoad(b *testing.B) {
	acks := make(chan ack, 100)
	startChildren(b, acks)
	leader := (<-acks).node

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
	changes, commands := 0, 0
	longest, last := time.Duration(0), time.Now()
	for b.Loop() {
		for second := time.After(time.Second); second != nil; {
			select {
			case a := <-acks:
				if a.node != leader {
					changes, leader = changes+1, a.node
				}
				commands++
				longest, last = max(longest, time.Since(last)), time.Now()
			case <-second:
				second = nil
			}
		}
	}
	b.ReportMetric(float64(changes), "elections")
	b.ReportMetric(float64(commands)/float64(b.N), "commands/s")
	b.ReportMetric(float64(longest.Milliseconds()), "max-gap-ms")
}

// BenchmarkNewLeader makes the leader silent, and measures until the next one has
// written.
func BenchmarkNewLeader(b *testing.B) {
	acks := make(chan ack, 10000)
	children := startChildren(b, acks)
	dead := ""
	for b.Loop() {
		b.StopTimer()
		leader := dead
		for settled := 0; settled < 10; { // until one that is not the last dead one writes
			if a := <-acks; a.node == dead || a.node != leader {
				leader, settled = a.node, 0
			} else {
				settled++
			}
		}
		dead = leader
		_ = children[leader].cmd.Process.Signal(syscall.SIGSTOP)
		b.StartTimer()
		for late := time.After(patience); leader == dead; {
			select {
			case a := <-acks:
				leader = a.node
			case <-late:
				b.Fatalf("nobody took the place of %s", dead)
			}
		}
		b.StopTimer()
		_ = children[dead].cmd.Process.Signal(syscall.SIGCONT)
		b.StartTimer()
	}
}
