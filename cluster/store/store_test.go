package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := runChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestThreeNodesAgree(t *testing.T) {
	nodes := cluster(t, 3, nil)
	leader := nodes[0]
	r := submit(t, leader, fsm.Command{PutMember: &fsm.PutMember{Name: "n9", Address: "192.0.2.9:7443"}})
	if r.Version != 0 {
		t.Errorf("version %d after a command that changes no configuration, want 0", r.Version)
	}
	if !has("n9")(leader.State()) {
		t.Error("Submit returned before the leader's own state had the change")
	}
	for _, n := range nodes {
		await(t, n, "n9", has("n9"))
		if diff := cmp.Diff(leader.State(), n.State()); diff != "" {
			t.Errorf("%s differs from the leader:\n%s", n.cfg.Name, diff)
		}
		name, address := n.Leader()
		if name != "n1" || address != leader.cfg.Address {
			t.Errorf("%s takes %s at %s for the leader", n.cfg.Name, name, address)
		}
		if got := len(n.Voters()); got != 3 {
			t.Errorf("%s knows %d voters, want 3", n.cfg.Name, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	nodes := cluster(t, 3, nil)
	ctx := testContext(t)

	t.Run("a follower names the leader", func(t *testing.T) {
		var notLeader *NotLeaderError
		_, err := nodes[1].Submit(ctx, put("x", "192.0.2.1:1"))
		if !errors.As(err, &notLeader) {
			t.Fatalf("error %v, want a NotLeaderError", err)
		}
		if *notLeader != (NotLeaderError{LeaderName: "n1", LeaderAddress: nodes[0].cfg.Address}) {
			t.Errorf("it names %+v", *notLeader)
		}
		if err := nodes[1].AddVoter(ctx, "x", "192.0.2.1:1"); !errors.As(err, &notLeader) {
			t.Errorf("AddVoter: %v, want a NotLeaderError", err)
		}
		if err := nodes[1].Barrier(ctx); !errors.As(err, &notLeader) {
			t.Errorf("Barrier: %v, want a NotLeaderError", err)
		}
	})
	t.Run("the state machine's refusal is a result", func(t *testing.T) {
		r, err := nodes[0].Submit(ctx, fsm.Command{RemoveMember: &fsm.RemoveMember{Name: "nobody"}})
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(r.Err(), fsm.ErrMemberUnknown) {
			t.Errorf("result %+v, want ErrMemberUnknown", r)
		}
	})
	t.Run("without a majority there is no leader", func(t *testing.T) {
		for _, n := range nodes[1:] {
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
		}
		for {
			// The watch comes first: a change after the look must not be missed.
			_, _, changed := nodes[0].WatchLeader()
			if !nodes[0].IsLeader() {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatal("a leader without a majority stays one")
			}
		}
		if _, err := nodes[0].Submit(ctx, put("x", "192.0.2.1:1")); !errors.Is(err, ErrNoLeader) {
			t.Errorf("error %v, want ErrNoLeader", err)
		}
		if !has("n1")(nodes[0].State()) {
			t.Error("the state is gone with the majority")
		}
	})
	t.Run("after the end", func(t *testing.T) {
		if err := nodes[0].stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := nodes[0].Submit(ctx, put("x", "192.0.2.1:1")); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
	})
}

func TestSubmitWithoutAMajorityIsAmbiguous(t *testing.T) {
	nodes := cluster(t, 3, nil)
	for _, n := range nodes[1:] {
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	// The leader has not noticed yet, or has: both are right answers, a
	// success is not.
	_, err := nodes[0].Submit(testContext(t), put("x", "192.0.2.1:1"))
	if !errors.Is(err, ErrAmbiguous) && !errors.Is(err, ErrNoLeader) {
		t.Errorf("error %v, want ErrAmbiguous or ErrNoLeader", err)
	}
}

func TestSubmitReturnsWhenItsContextEnds(t *testing.T) {
	nodes := cluster(t, 1, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := nodes[0].Submit(ctx, put("x", "192.0.2.1:1")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestStoreSurvivesRestart(t *testing.T) {
	nodes := cluster(t, 1, func(c *Config) {
		c.SnapshotThreshold, c.SnapshotInterval = 4, 10*time.Millisecond
	})
	n := nodes[0]
	for range 3 {
		for _, name := range []string{"a", "b", "c", "d"} {
			submit(t, n, put(name, "192.0.2.1:1"))
		}
		before := n.State()
		n = n.restart(t)
		leaderOf(t, n)
		if diff := cmp.Diff(before, n.State()); diff != "" {
			t.Fatalf("the state after the restart differs:\n%s", diff)
		}
	}
}

func TestPlannedStopHandsLeadershipOver(t *testing.T) {
	// With election timeouts that the test cannot wait for, a new leader can
	// only come from the hand-over.
	nodes := cluster(t, 3, func(c *Config) { c.HeartbeatTimeout, c.ElectionTimeout = 500*time.Millisecond, 20*time.Second })
	if err := nodes[0].stop(); err != nil {
		t.Fatal(err)
	}
	submit(t, leaderOf(t, nodes[1:]...), put("n9", "192.0.2.9:7443"))
}

func TestVotersComeAndGo(t *testing.T) {
	nodes := cluster(t, 3, nil)
	ctx := testContext(t)
	if err := nodes[0].RemoveVoter(ctx, "n3"); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].RemoveVoter(ctx, "n3"); err != nil {
		t.Errorf("removing it again: %v", err)
	}
	want := []Voter{{"n1", nodes[0].cfg.Address, true}, {"n2", nodes[1].cfg.Address, true}}
	if diff := cmp.Diff(want, nodes[0].Voters()); diff != "" {
		t.Errorf("voters:\n%s", diff)
	}
	if err := nodes[0].RemoveVoter(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	submit(t, leaderOf(t, nodes[1]), put("n9", "192.0.2.9:7443"))
	if nodes[0].IsLeader() {
		t.Error("n1 removed itself and leads still")
	}
}

func TestClockAnHourOffChangesNoState(t *testing.T) {
	hour := time.Hour
	nodes := cluster(t, 3, func(c *Config) {
		if c.Name == "n2" {
			c.Now = func() time.Time { return time.Now().Add(hour) }
		}
	})
	hash := sha256.Sum256([]byte("secret"))
	token := fsm.Token{ID: "t", Hash: hash[:], Expires: time.Now().Add(10 * time.Minute)}
	submit(t, nodes[0], fsm.Command{CreateToken: &fsm.CreateToken{Token: token}})
	submit(t, nodes[0], fsm.Command{UseToken: &fsm.UseToken{ID: "t", Hash: hash[:], Node: "n9"}})
	for _, n := range nodes {
		await(t, n, "the used token", func(s fsm.State) bool { return s.Tokens["t"].UsedBy == "n9" })
		if diff := cmp.Diff(nodes[0].State(), n.State()); diff != "" {
			t.Errorf("%s differs from the leader:\n%s", n.cfg.Name, diff)
		}
	}
}

func TestFollowersLearnOfACommitWithoutATimeout(t *testing.T) {
	// Raft alone would tell them after an hour.
	nodes := cluster(t, 3, func(c *Config) { c.CommitTimeout = time.Hour })
	submit(t, nodes[0], put("n9", "192.0.2.9:7443"))
	for _, n := range nodes {
		await(t, n, "the commit", has("n9"))
	}
}

func TestANodeThatIsNotUpYetDoesNotRaiseTheMajority(t *testing.T) {
	ctx := testContext(t)
	n1 := cluster(t, 1, nil)[0]
	cfg := testConfig(t, "n2")
	if err := n1.AddVoter(ctx, "n2", cfg.Address); err != nil {
		t.Fatal(err)
	}
	want := []Voter{{"n1", n1.cfg.Address, true}, {"n2", cfg.Address, false}}
	if diff := cmp.Diff(want, n1.Voters()); diff != "" {
		t.Errorf("before it is up:\n%s", diff)
	}
	submit(t, n1, put("n9", "192.0.2.9:7443"))

	n2 := run(t, cfg)
	await(t, n2, "the log", has("n9"))
	awaitVotes(t, n1, 2)
	awaitVotes(t, n2, 2)
	// Added again, it keeps its vote.
	if err := n1.AddVoter(ctx, "n2", cfg.Address); err != nil {
		t.Fatal(err)
	}
	awaitVotes(t, n1, 2)
}
