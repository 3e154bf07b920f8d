package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/security"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second // for an event that ought to come at once

// quorum stands for Raft: one state that all nodes see at once, a leader that
// the test names, and faults on request.
type quorum struct {
	mu       sync.Mutex
	state    fsm.State
	changed  chan struct{} // closed at the next change
	leader   string
	address  map[string]string
	voters   map[string]string
	commands []fsm.Command
	// onSubmit, if set, runs before (late: after) a command is carried out on
	// the leader; its error is Submit's.
	onSubmit, late func(fsm.Command) error
	fault          error // what every node says keeps it from electing a leader
}

func newQuorum() *quorum {
	return &quorum{state: fsm.New(), changed: make(chan struct{}), address: map[string]string{}, voters: map[string]string{}}
}

func (q *quorum) lead(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leader = name
}

func (q *quorum) watch() (fsm.State, chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state, q.changed
}

// submitted counts the commands that reached the leader.
func (q *quorum) submitted() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.commands)
}

// seat is one node's place in the quorum: its Cluster.
type seat struct {
	*quorum
	name string
}

func (s seat) Submit(_ context.Context, c fsm.Command) (fsm.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader != s.name {
		return fsm.Result{}, fmt.Errorf("raft: %w", ErrNotLeader)
	}
	s.commands = append(s.commands, c)
	if s.onSubmit != nil {
		if err := s.onSubmit(c); err != nil {
			return fsm.Result{}, err
		}
	}
	if c.At.IsZero() {
		c.At = time.Now()
	}
	var result fsm.Result
	s.state, result = s.state.Apply(c)
	close(s.changed)
	s.changed = make(chan struct{})
	if s.late != nil {
		if err := s.late(c); err != nil {
			return fsm.Result{}, err
		}
	}
	return result, nil
}

func (s seat) State() fsm.State { state, _ := s.watch(); return state }

func (s seat) Leader() (string, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader, s.address[s.leader]
}

func (s seat) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

func (s seat) Voters() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.voters {
		names = append(names, name)
	}
	return names
}

func (s seat) AddVoter(_ context.Context, name, address string) error {
	return s.change(func() { s.voters[name] = address })
}

func (s seat) RemoveVoter(_ context.Context, name string) error {
	return s.change(func() { delete(s.voters, name) })
}

func (s seat) change(do func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader != s.name {
		return ErrNotLeader
	}
	do()
	return nil
}

// fakeNode runs each version as soon as the quorum has it, unless told not to.
type fakeNode struct {
	seat
	mu         sync.Mutex
	applyError string
	stuck      bool // never runs anything
	status     *pharosv1.NodeStatusResponse
	routing    *pharosv1.NodeRoutingResponse
	drains     []time.Duration
	undrains   int
	asked      func() // runs when its status is asked for
}

func (n *fakeNode) Status(context.Context) *pharosv1.NodeStatusResponse {
	n.mu.Lock()
	answer, asked := n.status, n.asked
	n.mu.Unlock()
	if asked != nil {
		asked()
	}
	if answer == nil {
		answer = &pharosv1.NodeStatusResponse{Name: n.name}
	}
	return answer
}

func (n *fakeNode) Routing(context.Context) *pharosv1.NodeRoutingResponse {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.routing
}

func (n *fakeNode) WaitApplied(ctx context.Context, revision uint64) (uint64, string, error) {
	for {
		n.mu.Lock()
		applyError, stuck := n.applyError, n.stuck
		n.mu.Unlock()
		state, changed := n.watch()
		if applyError != "" {
			return state.Revision - 1, applyError, nil
		}
		if !stuck && state.Revision >= revision {
			return state.Revision, "", nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, "", ctx.Err()
		}
	}
}

func (n *fakeNode) Drain(_ context.Context, deadline time.Duration) (*pharosv1.DrainResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck {
		return nil, errors.New("another drain is under way")
	}
	n.drains = append(n.drains, deadline)
	return &pharosv1.DrainResponse{Finished: 3, Cut: 1}, nil
}

func (n *fakeNode) Undrain(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.undrains++
	return nil
}

// gossip is a Liveness that the test writes.
type gossip struct {
	mu   sync.Mutex
	list map[string]LiveMember
}

func (g *gossip) Members() []LiveMember {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []LiveMember
	for _, m := range g.list {
		list = append(list, m)
	}
	return list
}

func (g *gossip) set(m LiveMember) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list[m.Name] = m
}

// member is one node of a test's cluster.
type member struct {
	dir      string
	identity *security.Identity
	address  string
	server   *Server
	node     *fakeNode
	stop     func() // ends it, and returns when it has ended
}

// house is a cluster of real servers over real mutual TLS on loopback, on a
// fake quorum and fake heartbeats.
type house struct {
	*quorum
	gossip  *gossip
	members map[string]*member
}

// newHouse founds a cluster with n1 as leader, and has the other names join it
// by the real exchange.
func newHouse(t *testing.T, others ...string) *house {
	t.Helper()
	h := &house{quorum: newQuorum(), gossip: &gossip{list: map[string]LiveMember{}}, members: map[string]*member{}}
	dir := filepath.Join(t.TempDir(), "n1")
	identity, err := security.Create(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	h.lead("n1")
	first := h.start(t, dir, identity, "127.0.0.1:0")
	seat := seat{h.quorum, "n1"}
	if _, err := seat.Submit(t.Context(), fsm.Command{PutMember: &fsm.PutMember{Name: "n1", Address: first.address}}); err != nil {
		t.Fatal(err)
	}
	_ = seat.AddVoter(t.Context(), "n1", first.address)
	for _, name := range others {
		h.join(t, name)
	}
	return h
}

// join has a node join at n1, and register.
func (h *house) join(t *testing.T, name string) *member {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	client := h.client(t, "n1", "n1")
	made, err := client.CreateToken(t.Context(), &pharosv1.CreateTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := security.ParseToken(made.GetToken())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	joined, err := security.Join(t.Context(), security.JoinConfig{
		Server: made.GetAddress(), Token: token, Name: name, Address: address, Dir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	m := h.start(t, dir, joined.Identity, address)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.server.RegisterAt(ctx, address, func() []string { return []string{made.GetAddress()} }); err != nil {
		t.Fatal(err)
	}
	return m
}

// start runs a node's servers.
func (h *house) start(t *testing.T, dir string, identity *security.Identity, address string) *member {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	name := identity.Name()
	seat := seat{h.quorum, name}
	m := &member{dir: dir, identity: identity, address: listener.Addr().String(), node: &fakeNode{seat: seat}}
	h.mu.Lock()
	h.address[name] = m.address
	h.mu.Unlock()
	m.server, err = NewServer(Config{
		Identity: identity, Cluster: seat, Node: m.node, Liveness: h.gossip,
		LeaderWait: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := security.NewMux(security.MuxConfig{Listener: listener, Identity: identity})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- mux.Run(ctx) }()
	go func() { done <- m.server.Run(ctx, mux.GRPC()) }()
	go func() { done <- security.NewJoinServer(identity, m.server.Admitter(), nil).Run(ctx, mux.Join()) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		for range 3 {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("%s ended with %v", name, err)
				}
			case <-time.After(patience):
				t.Errorf("%s did not end", name)
				return
			}
		}
	})
	t.Cleanup(m.stop)
	h.members[name] = m
	h.gossip.set(LiveMember{Name: name, Control: m.address, Alive: true, Ready: true})
	return m
}

// client gives a client with one member's certificate, to another.
func (h *house) client(t *testing.T, as, to string) *Client {
	t.Helper()
	client, err := Dial(h.members[as].identity, h.members[to].address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
