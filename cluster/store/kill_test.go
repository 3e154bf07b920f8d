package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// childEnv makes the test binary run one node, in a process that a test can
// kill: its value is NAME,DIR,ADDRESS,RUN. While it leads it submits members
// named after itself, the run and a number, and prints the name of each that was acknowledged.
const childEnv = "PHAROS_TEST_STORE"

func runChild(spec string) error {
	parts := strings.Split(spec, ",")
	l, err := net.Listen("tcp", parts[2])
	if err != nil {
		return err
	}
	s, err := Open(Config{Dir: parts[1], Name: parts[0], Address: parts[2], Transport: &tcp{l}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // the parent is gone, or wants an end
		cancel()
	}()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for i := 0; ctx.Err() == nil; {
		_, _, changed := s.WatchLeader()
		if !s.IsLeader() {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		name := fmt.Sprintf("%s-%s-%d", parts[0], parts[3], i)
		i++
		if r, err := s.Submit(ctx, put(name, "192.0.2.1:1")); err == nil && r.Err() == nil {
			fmt.Println(name) // one write: it arrives whole or not at all
		}
	}
	return <-ended
}

type child struct {
	name string
	cmd  *exec.Cmd
	in   io.Closer
	done chan struct{} // all it printed was read
}

// ack is a name that a child says was acknowledged.
type ack struct{ node, name string }

func startChild(tb testing.TB, name, dir, address, run string, acks chan<- ack) *child {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{name, dir, address, run}, ","))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	c := &child{name: name, cmd: cmd, in: in, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			acks <- ack{name, lines.Text()}
		}
	}()
	tb.Cleanup(func() { c.end(syscall.SIGKILL) })
	return c
}

// end ends the process and waits until all that it printed was read.
func (c *child) end(sig syscall.Signal) {
	if c.cmd.ProcessState != nil {
		return
	}
	if sig == 0 {
		_ = c.in.Close() // asks for an orderly end
	} else {
		_ = c.cmd.Process.Signal(sig)
	}
	<-c.done
	_ = c.cmd.Wait()
}

// TestNothingAcknowledgedIsLostWhenLeadersAreKilled kills the leader in the
// middle of its work, round after round, and then looks for every command that
// any leader acknowledged.
func TestNothingAcknowledgedIsLostWhenLeadersAreKilled(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	nodes := cluster(t, 3, nil)
	dirs, addresses := map[string]string{}, map[string]string{}
	var names []string
	for _, n := range nodes {
		names = append(names, n.cfg.Name)
		dirs[n.cfg.Name], addresses[n.cfg.Name] = n.cfg.Dir, n.cfg.Address
	}
	for _, n := range nodes {
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	acks := make(chan ack)
	acked := map[string]bool{}
	children := map[string]*child{}
	for _, name := range names {
		children[name] = startChild(t, name, dirs[name], addresses[name], "0", acks)
	}
	for round := range rounds {
		// The round's leader is whoever acknowledges; it is killed while the
		// next command is under way.
		var leader string
		for seen := 0; seen < 20; seen++ {
			select {
			case a := <-acks:
				acked[a.name] = true
				leader = a.node
			case <-time.After(patience):
				t.Fatalf("round %d: nothing was acknowledged any more after %d commands", round, len(acked))
			}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			time.Sleep(rand.N(10 * time.Millisecond)) // so that each round hits another moment
			children[leader].end(syscall.SIGKILL)
		}()
		for draining := true; draining; { // what it had printed before it died counts
			select {
			case a := <-acks:
				acked[a.name] = true
			case <-ended:
				draining = false
			}
		}
		children[leader] = startChild(t, leader, dirs[leader], addresses[leader], fmt.Sprint(round+1), acks)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for _, c := range children {
			c.end(0)
		}
	}()
	for running := true; running; {
		select {
		case a := <-acks:
			acked[a.name] = true
		case <-stopped:
			running = false
		}
	}

	var again []*node
	for _, n := range nodes {
		n.cfg.Transport = relisten(t, n.cfg.Address)
		again = append(again, run(t, n.cfg))
	}
	leader := leaderOf(t, again...)
	submit(t, leader, put("last", "192.0.2.1:1"))
	t.Logf("%d commands acknowledged in %d rounds", len(acked), rounds)
	for _, n := range again {
		await(t, n, "the last command", has("last"))
		lost := 0
		for name := range acked {
			if !has(name)(n.State()) {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%s has lost %d of %d acknowledged commands", n.cfg.Name, lost, len(acked))
		}
		if diff := cmp.Diff(leader.State(), n.State()); diff != "" {
			t.Errorf("%s differs from the leader:\n%s", n.cfg.Name, diff)
		}
	}
	if len(acked) < 20*rounds {
		t.Errorf("%d commands acknowledged, want %d or more: the test has tested nothing", len(acked), 20*rounds)
	}
}
