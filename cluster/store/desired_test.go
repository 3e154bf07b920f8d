package store

import (
	"bytes"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// encoded is a state as a snapshot has it.
func encoded(tb testing.TB, s fsm.State) string {
	tb.Helper()
	var b bytes.Buffer
	if err := fsm.EncodeSnapshot(&b, s); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// What stands beside the configuration outlives a restart from a snapshot alone,
// and reaches a node that joins after the log was cut.
func TestOperatorsWordsAndKeysComeBackFromSnapshots(t *testing.T) {
	adjust := func(c *Config) { c.SnapshotThreshold, c.SnapshotInterval, c.TrailingLogs = 4, time.Hour, 1 }
	nodes := cluster(t, 1, adjust)
	n := nodes[0]
	submit(t, n, fsm.Command{ApplyConfig: &fsm.ApplyConfig{Config: snapshot(1).Snapshot.Config, Seed: []byte("seed")}})
	draining, weight := fsm.ServerDraining, 9
	submit(t, n, fsm.Command{OperateServers: &fsm.OperateServers{Servers: []string{"p/s"}, State: &draining, Weight: &weight}})
	submit(t, n, fsm.Command{PutKeys: &fsm.PutKeys{Kind: fsm.TicketKeys, Keys: []fsm.Key{{ID: "k", Sealed: "sealed:v1:QQ==", Makes: true}}}})
	for range 6 {
		submit(t, n, put("x", "192.0.2.1:1"))
	}
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	want := n.State()
	if s := want.Servers["p/s"]; s.State != draining || *s.Weight != 9 || s.ID == "" || s.Created.IsZero() || len(want.Keys[fsm.TicketKeys].Keys) != 1 {
		t.Fatalf("the state before is %+v", want.Desired)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}

	cfg := n.cfg
	cfg.Transport = relisten(t, cfg.Address)
	again := run(t, cfg)
	await(t, again, "the state from before", func(s fsm.State) bool { return encoded(t, s) == encoded(t, want) })
	leaderOf(t, again)

	late := testConfig(t, "late")
	adjust(&late)
	follower := run(t, late)
	if err := again.AddVoter(testContext(t), late.Name, late.Address); err != nil {
		t.Fatal(err)
	}
	await(t, follower, "the leader's state", func(s fsm.State) bool { return encoded(t, s) == encoded(t, want) })
}
