package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pharos-lb/pharos/cluster/lease"
	"github.com/pharos-lb/pharos/cluster/security"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second // for an event that ought to come soon

// node is an agent behind a control port of its own.
type node struct {
	*Agent
	name string
	stop func()

	mu    sync.Mutex
	conns []net.Conn // by which it asks
}

type admitAll struct{ seed string }

func (admitAll) Admit(context.Context, string, []byte, string, string) error { return nil }
func (a admitAll) Members() map[string]string                                { return map[string]string{"n1": a.seed} }

// cluster runs three nodes on loopback, with certificates of one cluster.
func cluster(t *testing.T) []*node {
	t.Helper()
	dir := t.TempDir()
	first, err := security.Create(filepath.Join(dir, "n1"), "n1")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	var peers []Peer
	ids := []*security.Identity{first}
	for i := range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("n%d", i+1)
		if i > 0 {
			token, err := security.NewToken(first.Fingerprint())
			if err != nil {
				t.Fatal(err)
			}
			joined, err := security.Join(t.Context(), security.JoinConfig{Server: peers[0].Address, Token: token, Name: name, Address: listener.Addr().String(), Dir: filepath.Join(dir, name)})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, joined.Identity)
		}
		peers = append(peers, Peer{name, listener.Addr().String()})
		n := &node{name: name}
		id := ids[i]
		mux := security.NewMux(security.MuxConfig{Listener: listener, Identity: id})
		n.Agent = New(Config{
			Self: name, Listener: mux.Lease(),
			Peer: func(c net.Conn) (string, error) { return security.PeerName(c.(*tls.Conn).ConnectionState()) },
			Dial: func(ctx context.Context, peer, address string) (net.Conn, error) {
				conn, err := id.DialLease(ctx, peer, address)
				if err == nil {
					n.mu.Lock()
					n.conns = append(n.conns, conn)
					n.mu.Unlock()
				}
				return conn, err
			},
		})
		var running sync.WaitGroup
		muxCtx, stopMux := context.WithCancel(context.Background())
		ctx, cancel := context.WithCancel(context.Background())
		join := security.NewJoinServer(id, admitAll{peers[0].Address}, nil)
		var once sync.Once
		n.stop = func() { once.Do(func() { cancel(); running.Wait() }) }
		running.Go(func() {
			if err := n.Agent.Run(ctx); err != nil {
				t.Errorf("%s: Run: %v", name, err)
			}
		})
		var port sync.WaitGroup
		port.Go(func() { _ = mux.Run(muxCtx) })
		port.Go(func() { _ = join.Run(muxCtx, mux.Join()) })
		t.Cleanup(func() { n.stop(); stopMux(); port.Wait() })
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.SetMembers(peers)
	}
	return nodes
}

// want is slower than the default: what is tested here is that, not how soon.
func want(rank uint32) lease.Want {
	return lease.Want{Hold: true, Term: time.Second, Renew: 250 * time.Millisecond, Rank: rank}
}

// holder waits until one of the nodes holds, and fails if two do.
func holder(t *testing.T, nodes []*node, not *node) *node {
	t.Helper()
	deadline := time.After(patience)
	for {
		changes := make([]<-chan struct{}, 0, len(nodes))
		for _, n := range nodes {
			changes = append(changes, n.Changed())
		}
		for _, n := range nodes {
			if s, _ := n.State("web"); s.Held && n != not {
				return n
			}
		}
		select {
		case <-changes[0]:
		case <-changes[1]:
		case <-changes[2]:
		case <-deadline:
			t.Fatal("nobody came to hold the lease")
		}
	}
}

// alone fails if any two actions under the lease overlap.
func alone(t *testing.T, nodes []*node) (stop func()) {
	var acting sync.Mutex
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			for ctx.Err() == nil {
				n.WhileHeld("web", func() {
					if !acting.TryLock() {
						t.Error("two nodes act under one lease")
						return
					}
					defer acting.Unlock()
					select {
					case <-ctx.Done():
					case <-time.After(time.Millisecond):
					}
				})
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func TestOneOfThreeHoldsAndTheOthersFollow(t *testing.T) {
	nodes := cluster(t)
	stop := alone(t, nodes)
	defer stop()
	for i, n := range nodes {
		n.SetWant("web", true, want(uint32(i)))
	}
	first := holder(t, nodes, nil)
	firstState, _ := first.State("web")
	for _, n := range nodes {
		if s, _ := n.State("web"); s.Held && n != first {
			t.Fatalf("%s holds beside %s", n.name, first.name)
		}
	}

	// Given back: another one holds, with a higher epoch.
	first.SetWant("web", false, lease.Want{})
	if s, _ := first.State("web"); s.Held {
		t.Fatal("what was given back is still held when SetWant has returned")
	}
	second := holder(t, nodes, first)
	secondState, _ := second.State("web")
	if secondState.Epoch <= firstState.Epoch {
		t.Fatalf("epoch %d follows %d", secondState.Epoch, firstState.Epoch)
	}

	// The process ends: the last one holds, if a majority is left to grant it.
	first.SetWant("web", true, want(0))
	second.stop()
	third := holder(t, nodes, second)
	if third == second {
		t.Fatal("the node that was stopped holds")
	}
}

func TestHolderThatIsNoMemberAnyMoreIsFollowed(t *testing.T) {
	nodes := cluster(t)
	for _, n := range nodes {
		n.SetWant("web", true, want(1))
	}
	first := holder(t, nodes, nil)
	stop := alone(t, nodes)
	defer stop()

	first.SetMembers(nil)
	holder(t, nodes, first)
}

func TestBidsReachTheOthersAndEnd(t *testing.T) {
	nodes := cluster(t)
	for i, n := range nodes {
		n.SetWant("web", true, want(uint32(i)))
	}
	await := func(n *node, names ...string) {
		t.Helper()
		deadline := time.After(patience)
		for {
			changed := n.Changed()
			var got []string
			for _, b := range n.Bidders("web") {
				got = append(got, b.Node)
			}
			if fmt.Sprint(got) == fmt.Sprint(names) {
				return
			}
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("%s knows the bidders %v, want %v", n.name, got, names)
			}
		}
	}
	await(nodes[0], "n3", "n2", "n1")
	nodes[2].SetWant("web", false, want(2))
	await(nodes[0], "n2", "n1")
	nodes[1].stop()
	await(nodes[0], "n1")
}
