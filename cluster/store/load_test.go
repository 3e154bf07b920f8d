package store

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startChildren starts the three nodes of a new cluster as processes that write as
// fast as they can.
func startChildren(t *testing.T, acks chan<- ack) map[string]*child {
	t.Helper()
	children := map[string]*child{}
	nodes := cluster(t, 3, nil)
	for _, n := range nodes {
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		children[n.cfg.Name] = startChild(t, n.cfg.Name, n.cfg.Dir, n.cfg.Address, "0", acks)
	}
	return children
}

func loadSeconds(t *testing.T) time.Duration {
	t.Helper()
	seconds, err := strconv.Atoi(os.Getenv("PHAROS_TEST_LOAD_SECONDS"))
	if err != nil {
		t.Skip("a measurement: set PHAROS_TEST_LOAD_SECONDS to run it")
	}
	return time.Duration(seconds) * time.Second
}

// TestNoFalseElectionsUnderLoad keeps every core busy, several times over, while
// three nodes write: the leader must stay. It is the measurement that the
// default timeouts rest on.
func TestNoFalseElectionsUnderLoad(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), loadSeconds(t))
	defer cancel()
	acks := make(chan ack, 100)
	startChildren(t, acks)
	leader := (<-acks).node

	var wg sync.WaitGroup
	defer wg.Wait()
	for range 2 * runtime.NumCPU() {
		burner := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := burner.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = burner.Wait() })
	}
	changes, commands := 0, 0
	longest, last := time.Duration(0), time.Now()
	for ctx.Err() == nil {
		select {
		case a := <-acks:
			if a.node != leader {
				changes, leader = changes+1, a.node
			}
			commands++
			longest, last = max(longest, time.Since(last)), time.Now()
		case <-ctx.Done():
		}
	}
	t.Logf("%d changes of leader, %d commands, longest time between two %v", changes, commands, longest)
	if changes > 0 {
		t.Errorf("the leader changed %d times", changes)
	}
}

// TestTimeToANewLeader kills the leader, and measures until the next one has
// written.
func TestTimeToANewLeader(t *testing.T) {
	end := time.Now().Add(loadSeconds(t))
	acks := make(chan ack, 10000)
	children := startChildren(t, acks)
	dead := ""
	for time.Now().Before(end) {
		var leader string
		for range 10 {
			leader = (<-acks).node
		}
		if leader == dead {
			continue
		}
		dead = leader
		at := time.Now()
		_ = children[leader].cmd.Process.Signal(syscall.SIGSTOP)
		for late := time.After(patience); leader == dead; {
			select {
			case a := <-acks:
				leader = a.node
			case <-late:
				t.Fatalf("nobody took the place of %s", dead)
			}
		}
		t.Logf("%s is silent: %s wrote after %v", dead, leader, time.Since(at).Round(time.Millisecond))
		_ = children[dead].cmd.Process.Signal(syscall.SIGCONT)
	}
}
