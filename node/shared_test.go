package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/proxy/tls"
)

// shared tells the shared keys of a node, opened.
func shared(t *testing.T, n *Node) string {
	t.Helper()
	d := n.reconciler.View().Desired
	tickets, err := ticketKeys(d, n.identity)
	if err != nil {
		t.Fatal(err)
	}
	cookies, err := cookieKeys(d, n.identity)
	if err != nil {
		t.Fatal(err)
	}
	if len(tickets) == 0 || len(cookies) == 0 {
		return ""
	}
	return fmt.Sprint(tickets, cookies)
}

// agree waits until all running nodes have the same keys, which are others than
// those before, and gives them.
func (c *trio) agree(t *testing.T, before string) (keys string) {
	t.Helper()
	c.await(t, "the same shared keys on all nodes", func() bool {
		keys = before
		for _, n := range c.nodes {
			if n == nil {
				continue
			}
			have := shared(t, n)
			if have == "" || have == before || keys != before && keys != have {
				return false
			}
			keys = have
		}
		return true
	})
	return keys
}

// stop stops a node.
func (c *trio) stop(name string) {
	c.stops[name]()
	c.nodes[name] = nil
}

const twoServers = `pools:
  - name: app
    servers:
      - {name: b1, address: "127.0.0.1:9", weight: 3}
      - {name: b2, address: "127.0.0.1:%s"}
`

func TestSharedKeysAndOperatorsWordsOutliveLeadersAndRestarts(t *testing.T) {
	c := newTrio(t)
	document := fmt.Sprintf(twoServers, "10")
	c.apply(t, "n2", document)
	first := c.agree(t, "")

	weight := int32(7)
	var answer *pharosv1.OperateServersResponse
	c.ask(t, "n3", func(ctx context.Context, client *api.Client) (err error) {
		answer, err = client.OperateServers(ctx, &pharosv1.OperateServersRequest{
			Servers: []string{"app/b1"}, State: "MAINTENANCE", Weight: &weight, Wait: true, UntilIdle: true, WaitTimeout: durationpb.New(patience),
		})
		return err
	})
	if len(answer.GetNodes()) != 3 || answer.GetInFlight() != 0 || answer.GetServers()[0].GetOperatorState() != "MAINTENANCE" {
		t.Fatalf("%v", answer)
	}
	for _, n := range answer.GetNodes() {
		if !n.GetApplied() {
			t.Errorf("%s: %s", n.GetNode(), n.GetReason())
		}
	}
	server := func(when string) *pharosv1.Server {
		t.Helper()
		for name, n := range c.nodes {
			if n == nil {
				continue
			}
			var list *pharosv1.ListServersResponse
			c.ask(t, name, func(ctx context.Context, client *api.Client) (err error) {
				list, err = client.ListServers(ctx, &pharosv1.ListServersRequest{})
				return err
			})
			if len(list.GetServers()) != 2 {
				t.Fatalf("%s, on %s: %v", when, name, list)
			}
			s := list.GetServers()[0]
			if s.GetOperatorState() != "MAINTENANCE" || s.GetWeight() != 7 || s.GetConfiguredWeight() != 3 || s.GetCreated() == nil {
				t.Errorf("%s, on %s: %v", when, name, s)
			}
			for _, on := range s.GetNodes() {
				if st := on.GetStatus(); st.GetState() != "MAINTENANCE" || st.GetId() != s.GetId() || st.GetWeight() != 7 {
					t.Errorf("%s, %s says %v", when, on.GetNode(), st)
				}
			}
			return s
		}
		return nil
	}
	id := server("at first").GetId()

	// A later configuration undoes nothing.
	c.apply(t, "n1", fmt.Sprintf(twoServers, "11"))
	server("after a later configuration")

	// The leader goes: the next one changes the keys by its own clock.
	old := c.leader(t)
	c.stop(old)
	var n *Node
	c.await(t, "new keys", func() bool {
		leader := c.leader(t) // it may change again on a busy machine
		n = c.nodes[leader]
		err := keeper{
			self: leader, cluster: n.store, secrets: n.identity, logger: slog.New(slog.DiscardHandler),
			// No further, or the key counts as one from the future to the next leader.
			now: func() time.Time { return time.Now().Add(tls.RotationPeriod) },
		}.turn(t.Context())
		return err == nil && len(n.store.State().Keys[fsm.TicketKeys].Keys) == 2
	})
	second := c.agree(t, first)
	if records, err := ticketRecords(n.store.State().Desired, n.identity); err != nil || len(records) != 2 || !strings.Contains(first, fmt.Sprint(records[0].Key)) {
		t.Errorf("the first leader's key is not kept: %v, %v", len(records), err)
	}
	c.start(t, old)
	if keys := c.agree(t, first); keys != second {
		t.Error("the old leader came to other keys")
	}

	// All go, and come back.
	for name := range c.dirs {
		c.stop(name)
	}
	// One alone has no quorum, and keeps to what it last ran.
	c.start(t, "n2")
	c.await(t, "what ran before the restart", func() bool { return c.nodes["n2"].reconciler.View().Applied })
	if keys := c.agree(t, ""); keys != second {
		t.Error("a node without a quorum has other keys")
	}
	if state := c.nodes["n2"].proxy.Status().Pools[0].Servers[0].State; state != "MAINTENANCE" {
		t.Errorf("a node without a quorum has the server in state %s", state)
	}
	c.start(t, "n1")
	c.start(t, "n3")
	c.leader(t)
	if keys := c.agree(t, ""); keys != second {
		t.Error("after a restart of all, the keys are others")
	}
	if again := server("after a restart of all").GetId(); again != id {
		t.Errorf("the id was %s, and is %s", id, again)
	}

	// No shared key is on disk in clear.
	records, err := ticketRecords(c.nodes["n1"].store.State().Desired, c.nodes["n1"].identity)
	if err != nil {
		t.Fatal(err)
	}
	for name := range c.dirs {
		c.stop(name)
	}
	for name, dir := range c.dirs {
		for _, r := range records {
			if files := written(t, dir, string(r.Key[:])); len(files) > 0 {
				t.Errorf("%s has a ticket key in clear in %v", name, files)
			}
			if files := written(t, dir, fmt.Sprintf("%x", r.Key[:])); len(files) > 0 {
				t.Errorf("%s has a ticket key as hex in %v", name, files)
			}
		}
	}
}

func TestServersThatAreNotThereAreNamedAndNothingIsChanged(t *testing.T) {
	c := newTrio(t)
	c.apply(t, "n1", fmt.Sprintf(twoServers, "10"))
	before := c.nodes["n1"].store.State().Servers
	c.ask(t, "n2", func(ctx context.Context, client *api.Client) error {
		_, err := client.OperateServers(ctx, &pharosv1.OperateServersRequest{Servers: []string{"app/b1", "app/b3"}, State: "DRAINING"})
		if err != nil && strings.Contains(err.Error(), `"app/b3" (did you mean "app/b1"?)`) {
			return nil
		}
		return fmt.Errorf("of servers that are not there: %w", err)
	})
	for name, n := range c.nodes {
		if s := n.store.State().Servers["app/b1"]; s != before["app/b1"] || s.State != fsm.ServerReady {
			t.Errorf("%s has %+v", name, s)
		}
	}
}
