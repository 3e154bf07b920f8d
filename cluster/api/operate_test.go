package api

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
)

// sees makes a node say how it sees the one server of document.
func (n *fakeNode) sees(state string, inFlight int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.status = &pharosv1.NodeStatusResponse{Name: n.name, Pools: []*pharosv1.PoolStatus{{Name: "web", Servers: []*pharosv1.ServerStatus{
		{Name: "b1", State: state, InFlight: inFlight},
	}}}}
}

// fails makes a node unable to run what comes; empty: able again.
func (n *fakeNode) fails(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applyError = reason
}

func TestOperateServersOnAnyNode(t *testing.T) {
	h := newHouse(t, "n2", "n3")
	if _, err := h.client(t, "n1", "n1").Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		on      string
		request *pharosv1.OperateServersRequest
		state   string
		weight  int32
		changed bool
	}{
		{"n2", &pharosv1.OperateServersRequest{State: StateDraining}, StateDraining, 1, true},
		{"n1", &pharosv1.OperateServersRequest{Weight: proto.Int32(0)}, StateDraining, 0, true},
		{"n3", &pharosv1.OperateServersRequest{State: StateDraining, Wait: true}, StateDraining, 0, false},
		{"n3", &pharosv1.OperateServersRequest{State: StateMaintenance, Weight: proto.Int32(9), Wait: true}, StateMaintenance, 9, true},
		{"n2", &pharosv1.OperateServersRequest{State: StateReady, ResetWeight: true}, StateReady, 1, true},
	} {
		before := seat{h.quorum, "n1"}.State().Revision
		test.request.Servers = []string{"web/b1"}
		answer, err := h.client(t, "n2", test.on).OperateServers(t.Context(), test.request)
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.GetServers()) != 1 || answer.GetServers()[0].GetOperatorState() != test.state || answer.GetServers()[0].GetWeight() != test.weight || answer.GetServers()[0].GetConfiguredWeight() != 1 {
			t.Errorf("on %s: %v, want %s and %d", test.on, answer.GetServers(), test.state, test.weight)
		}
		if changed := answer.GetRevision() > before; changed != test.changed {
			t.Errorf("on %s: revision %d after %d", test.on, answer.GetRevision(), before)
		}
		if test.request.GetWait() != (len(answer.GetNodes()) == 3) {
			t.Errorf("on %s: nodes %v", test.on, answer.GetNodes())
		}
	}
	for _, c := range h.commands {
		if c.OperateServers != nil && c.By != "n2" {
			t.Errorf("a command is logged as by %q", c.By)
		}
	}
}

func TestOperateServersRefusals(t *testing.T) {
	h := newHouse(t, "n2")
	client := h.client(t, "n1", "n2")
	if _, err := client.Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	before := seat{h.quorum, "n1"}.State()
	for name, test := range map[string]struct {
		request *pharosv1.OperateServersRequest
		code    codes.Code
		text    string
	}{
		"an unknown server": {&pharosv1.OperateServersRequest{Servers: []string{"web/b1", "web/b2"}, State: StateDraining}, codes.NotFound, `"web/b2" (did you mean "web/b1"?)`},
		"an unknown state":  {&pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, State: "drain"}, codes.InvalidArgument, "MAINTENANCE"},
		"a weight":          {&pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, Weight: proto.Int32(257)}, codes.InvalidArgument, "257"},
		"nothing":           {&pharosv1.OperateServersRequest{Servers: []string{"web/b1"}}, codes.InvalidArgument, "nothing"},
		"nobody":            {&pharosv1.OperateServersRequest{State: StateReady}, codes.InvalidArgument, "no server"},
		"idle, unwaited":    {&pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, State: StateDraining, UntilIdle: true}, codes.InvalidArgument, "wait"},
		"an endless wait":   {&pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, State: StateDraining, Wait: true, WaitTimeout: durationpb.New(time.Hour)}, codes.InvalidArgument, "10m"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.OperateServers(t.Context(), test.request)
			failed(t, err, test.code, test.text)
			if after := (seat{h.quorum, "n1"}).State(); after.Revision != before.Revision || after.Servers["web/b1"] != before.Servers["web/b1"] {
				t.Error("something was changed")
			}
		})
	}
	h.lead("")
	_, err := client.OperateServers(t.Context(), &pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, State: StateDraining})
	failed(t, err, codes.Unavailable, "no leader")
}

func TestOperateServersWaits(t *testing.T) {
	h := newHouse(t, "n2", "n3")
	client := h.client(t, "n1", "n1")
	if _, err := client.Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	drain := func(idle bool, timeout time.Duration) *pharosv1.OperateServersResponse {
		t.Helper()
		answer, err := client.OperateServers(t.Context(), &pharosv1.OperateServersRequest{
			Servers: []string{"web/b1"}, State: StateDraining, Wait: true, UntilIdle: idle, WaitTimeout: durationpb.New(timeout),
		})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	t.Run("for a node that does not do it", func(t *testing.T) {
		h.members["n3"].node.fails("port 80 is taken")
		for _, n := range drain(false, patience).GetNodes() {
			if n.GetApplied() != (n.GetNode() != "n3") || n.GetNode() == "n3" && n.GetReason() != "port 80 is taken" {
				t.Errorf("%v", n)
			}
		}
		h.members["n3"].node.fails("")
	})
	t.Run("until the deadline, for what does not end", func(t *testing.T) {
		h.members["n1"].node.sees(StateDraining, 2)
		h.members["n3"].node.sees(StateDraining, 1)
		if got := drain(true, 100*time.Millisecond).GetInFlight(); got != 3 {
			t.Errorf("in flight: %d", got)
		}
	})
	t.Run("until nothing is in flight", func(t *testing.T) {
		h.members["n3"].node.sees(StateDraining, 0)
		n1 := h.members["n1"].node
		n1.mu.Lock()
		n1.asked = func() { n1.sees(StateDraining, 0) } // the second time, it has ended
		n1.mu.Unlock()
		answer := drain(true, patience)
		if answer.GetInFlight() != 0 || len(answer.GetUnasked()) != 0 {
			t.Errorf("%v", answer)
		}
	})
	t.Run("not for what is not known", func(t *testing.T) {
		h.members["n3"].stop() // its heartbeats go on
		answer := drain(true, 100*time.Millisecond)
		if len(answer.GetUnasked()) != 1 || answer.GetUnasked()[0].GetNode() != "n3" {
			t.Errorf("%v", answer)
		}
	})
}

func TestListServers(t *testing.T) {
	h := newHouse(t, "n2", "n3", "n4")
	client := h.client(t, "n1", "n2")
	if _, err := client.Apply(t.Context(), apply(document+"  - {name: other, servers: [{name: c1, address: \"[2001:db8::1]:81\"}]}\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.OperateServers(t.Context(), &pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, State: StateMaintenance, Weight: proto.Int32(4)}); err != nil {
		t.Fatal(err)
	}
	h.members["n1"].node.sees("HEALTHY", 2)
	h.members["n2"].node.sees("UNHEALTHY", 0)
	h.gossip.set(LiveMember{Name: "n3"})
	h.members["n4"].stop() // its heartbeats go on
	list := func(request *pharosv1.ListServersRequest) string {
		t.Helper()
		answer, err := client.ListServers(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range answer.GetServers() {
			if s.GetId() == "" || s.GetCreated() == nil {
				t.Errorf("%s has no id or time", s.GetName())
			}
			fmt.Fprintf(&b, "%s/%s %s %d %d(%d) %s:", s.GetPool(), s.GetName(), s.GetAddress(), s.GetPort(), s.GetWeight(), s.GetConfiguredWeight(), s.GetOperatorState())
			for _, n := range s.GetNodes() {
				fmt.Fprintf(&b, " %s=%s", n.GetNode(), n.GetStatus().GetState())
			}
			b.WriteString("\n")
		}
		for _, u := range answer.GetUnasked() {
			fmt.Fprintf(&b, "not %s\n", u.GetNode())
		}
		return b.String()
	}
	const web, other = "web/b1 10.0.21.2 8080 4(1) MAINTENANCE:", "other/c1 2001:db8::1 81 1(1) READY:"
	for _, test := range []struct {
		request *pharosv1.ListServersRequest
		want    string
	}{
		{&pharosv1.ListServersRequest{}, web + " n1=HEALTHY n2=UNHEALTHY\n" + other + " n1= n2=\nnot n3\nnot n4\n"},
		{&pharosv1.ListServersRequest{Pool: "other"}, other + " n1= n2=\nnot n3\nnot n4\n"},
		{&pharosv1.ListServersRequest{Pool: "web", Node: "n1"}, web + " n1=HEALTHY\n"},
		{&pharosv1.ListServersRequest{Pool: "web", Node: "n3"}, web + "\nnot n3\n"},
	} {
		if got := list(test.request); got != test.want {
			t.Errorf("%v: got\n%swant\n%s", test.request, got, test.want)
		}
	}
	_, err := client.ListServers(t.Context(), &pharosv1.ListServersRequest{Pool: "wev"})
	failed(t, err, codes.NotFound, `no pool "wev", did you mean "web"?`)
	_, err = client.ListServers(t.Context(), &pharosv1.ListServersRequest{Node: "m1"})
	failed(t, err, codes.NotFound, `no node "m1", did you mean "n1"?`)
}

func TestOperatingServersIsAudited(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	if _, err := client.Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	h.members["n1"].server.logger = slog.New(slog.NewTextHandler(&log, nil)) // no call is under way
	_, _ = client.OperateServers(t.Context(), &pharosv1.OperateServersRequest{Servers: []string{"web/b1"}, State: StateDraining})
	_, _ = client.OperateServers(t.Context(), &pharosv1.OperateServersRequest{Servers: []string{"web/zz"}, Weight: proto.Int32(3)})
	h.members["n1"].stop()
	for _, want := range []string{
		"level=INFO msg=write action=operate_servers by=n1 servers=[web/b1]", "state=DRAINING",
		`level=WARN msg="write refused" action=operate_servers by=n1 servers=[web/zz]`, "weight=3", fsm.ErrServerUnknown.Error(),
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}
