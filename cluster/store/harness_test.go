package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// patience bounds every wait for an event. It is no measure of anything.
const patience = 30 * time.Second

// tcp is a Transport over plain loopback TCP.
type tcp struct {
	net.Listener
}

func listen(tb testing.TB) *tcp {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return &tcp{Listener: l}
}

func (*tcp) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

func relisten(tb testing.TB, address string) *tcp {
	tb.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return &tcp{Listener: l}
}

// node is a running store of a test.
type node struct {
	*Store
	cfg  Config
	stop func() error
}

func testLogger(tb testing.TB, name string) *slog.Logger {
	level := slog.LevelError + 4 // silence
	if os.Getenv("PHAROS_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: level})).With("node", name)
}

func testConfig(tb testing.TB, name string) Config {
	tb.Helper()
	t := listen(tb)
	return Config{
		Dir: tb.TempDir(), Name: name, Address: t.Addr().String(), Transport: t,
		Logger: testLogger(tb, name),
	}
}

// run opens and runs a store until the test ends or stop is called.
func run(tb testing.TB, cfg Config) *node {
	tb.Helper()
	return runWith(tb, cfg, nil)
}

// runWith lets a test change the store between Open and Run.
func runWith(tb testing.TB, cfg Config, change func(*Store)) *node {
	tb.Helper()
	s, err := Open(cfg)
	if err != nil {
		tb.Fatalf("open %s: %v", cfg.Name, err)
	}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	n := &node{Store: s, cfg: cfg}
	n.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Run did not return after its context ended")
		}
	})
	tb.Cleanup(func() {
		if err := n.stop(); err != nil {
			tb.Errorf("stop %s: %v", cfg.Name, err)
		}
	})
	return n
}

// restart runs the same store again, at the same address.
func (n *node) restart(tb testing.TB) *node {
	tb.Helper()
	if err := n.stop(); err != nil {
		tb.Fatalf("stop %s: %v", n.cfg.Name, err)
	}
	n.cfg.Transport = relisten(tb, n.cfg.Address)
	return run(tb, n.cfg)
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// cluster makes n nodes that are all voters, the first of them leading.
func cluster(tb testing.TB, n int, adjust func(*Config)) []*node {
	tb.Helper()
	ctx := testContext(tb)
	var nodes []*node
	for i := range n {
		cfg := testConfig(tb, fmt.Sprintf("n%d", i+1))
		cfg.HeartbeatTimeout = 500 * time.Millisecond // a machine that stands still for a while changes no leader
		if n == 1 {
			cfg.HeartbeatTimeout = 50 * time.Millisecond // nobody to hear
		}
		if adjust != nil {
			adjust(&cfg)
		}
		if i == 0 {
			if err := Bootstrap(ctx, cfg, put(cfg.Name, cfg.Address)); err != nil {
				tb.Fatal(err)
			}
		}
		nodes = append(nodes, run(tb, cfg))
	}
	if _, _, err := nodes[0].WaitLeader(ctx); err != nil {
		tb.Fatal(err)
	}
	if err := nodes[0].Barrier(ctx); err != nil {
		tb.Fatal(err)
	}
	for _, node := range nodes[1:] {
		if err := nodes[0].AddVoter(ctx, node.cfg.Name, node.cfg.Address); err != nil {
			tb.Fatal(err)
		}
	}
	awaitVotes(tb, nodes[0], n)
	for _, node := range nodes {
		await(tb, node, "the first member", func(s fsm.State) bool { return len(s.Members) == 1 })
		if _, _, err := node.WaitLeader(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	return nodes
}

// await waits for a state of a node.
func await(tb testing.TB, n *node, what string, ok func(fsm.State) bool) {
	tb.Helper()
	deadline := time.After(patience)
	for {
		s, changed := n.Watch()
		if ok(s) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			tb.Fatalf("%s: waited in vain for %s; it has %d members", n.cfg.Name, what, len(s.Members))
		}
	}
}

func put(name, address string) fsm.Command {
	return fsm.Command{PutMember: &fsm.PutMember{Name: name, Address: address}}
}

func has(name string) func(fsm.State) bool {
	return func(s fsm.State) bool { _, ok := s.Members[name]; return ok }
}

// leaderOf waits until one of the nodes leads and can write.
func leaderOf(tb testing.TB, nodes ...*node) *node {
	tb.Helper()
	ctx := testContext(tb)
	for ctx.Err() == nil {
		for _, n := range nodes {
			if n.IsLeader() && n.Barrier(ctx) == nil {
				return n
			}
		}
		time.Sleep(5 * time.Millisecond) // polls: any of them may be first
	}
	tb.Fatal("waited in vain for a leader")
	return nil
}

func submit(tb testing.TB, n *node, cmd fsm.Command) fsm.Result {
	tb.Helper()
	r, err := n.Submit(testContext(tb), cmd)
	if err != nil {
		tb.Fatalf("submit to %s: %v", n.cfg.Name, err)
	}
	if err := r.Err(); err != nil {
		tb.Fatalf("submit to %s: %v", n.cfg.Name, err)
	}
	return r
}

// makeLead moves the leadership to a node, whoever has it.
func makeLead(tb testing.TB, n *node, others ...*node) {
	tb.Helper()
	for range 20 {
		now := leaderOf(tb, append(others[:len(others):len(others)], n)...)
		if now == n {
			return
		}
		_ = now.raft.LeadershipTransferToServer(raft.ServerID(n.cfg.Name), raft.ServerAddress(n.cfg.Address)).Error()
	}
	tb.Fatalf("%s cannot be made to lead", n.cfg.Name)
}

// awaitVotes waits until so many members of a node's configuration vote.
func awaitVotes(tb testing.TB, n *node, want int) {
	tb.Helper()
	ctx := testContext(tb)
	for ctx.Err() == nil {
		votes := 0
		for _, v := range n.Voters() {
			if v.Voting {
				votes++
			}
		}
		if votes == want {
			return
		}
		time.Sleep(5 * time.Millisecond) // polls: raft does not tell
	}
	tb.Fatalf("%s waited in vain for %d votes: %+v", n.cfg.Name, want, n.Voters())
}
