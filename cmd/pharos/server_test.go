package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

func (c *control) ListServers(_ context.Context, r *pharosv1.ListServersRequest) (*pharosv1.ListServersResponse, error) {
	if r.GetPool() == "apq" {
		return nil, status.Error(codes.NotFound, `there is no pool "apq", did you mean "app"?`)
	}
	on := func(node, state string, failures int32, reason string, inFlight int64) *pharosv1.ServerOnNode {
		return &pharosv1.ServerOnNode{Node: node, Status: &pharosv1.ServerStatus{
			State: state, Weight: 3, EffectiveWeight: 1.5, Failures: failures, LastCheck: dawn, LastReason: reason, InFlight: inFlight, Connections: 9,
		}}
	}
	const id = "ed34a577-39b4-8690-9240-65938a598ff"
	return &pharosv1.ListServersResponse{
		Revision: 12,
		Servers: []*pharosv1.Server{
			{Id: id + "1", Pool: "app", Name: "b1", Address: "10.0.21.2", Port: 8080, Weight: 3, ConfiguredWeight: 3, OperatorState: "READY", Created: dawn, Nodes: []*pharosv1.ServerOnNode{
				on("n1", "HEALTHY", 0, "200 OK", 3), on("n2", "UNHEALTHY", 4, "connection refused", 0), on("n3", "HEALTHY", 0, "200 OK", 2),
			}},
			{Id: id + "2", Pool: "app", Name: "b2", Address: "2001:db8::22", Port: 8080, Weight: 7, ConfiguredWeight: 1, Backup: true, OperatorState: "DRAINING", Nodes: []*pharosv1.ServerOnNode{
				on("n1", "DRAINING", 0, "200 OK", 1), on("n2", "DRAINING", 0, "200 OK", 0), on("n3", "DRAINING", 0, "200 OK", 0),
			}},
			{Id: id + "3", Pool: "echo", Name: "new", Address: "10.0.21.3", Port: 81, Weight: 1, ConfiguredWeight: 1, OperatorState: "READY", Created: dawn, Nodes: []*pharosv1.ServerOnNode{
				{Node: "n1"}, {Node: "n2"}, {Node: "n3"},
			}},
		},
		Unasked: []*pharosv1.Unasked{{Node: "n4", Reason: "it is not alive: no heartbeats come from it"}},
	}, nil
}

func (c *control) OperateServers(_ context.Context, r *pharosv1.OperateServersRequest) (*pharosv1.OperateServersResponse, error) {
	c.operated = append(c.operated, r)
	answer := &pharosv1.OperateServersResponse{Revision: 13}
	for _, name := range r.GetServers() {
		pool, server, _ := strings.Cut(name, "/")
		weight := int32(3)
		if r.Weight != nil {
			weight = r.GetWeight()
		}
		answer.Servers = append(answer.Servers, &pharosv1.Server{Id: "8b1e", Pool: pool, Name: server, OperatorState: r.GetState(), Weight: weight, ConfiguredWeight: 3})
		switch server {
		case "b9":
			return nil, status.Error(codes.NotFound, `no server of that name: "app/b9" (did you mean "app/b1"?)`)
		case "busy":
			answer.InFlight = 4
		}
	}
	if r.GetWait() {
		answer.Nodes = []*pharosv1.NodeApplied{{Node: "n1", Applied: true, Took: durationpb.New(1234567)}}
		if strings.HasSuffix(r.GetServers()[0], "stuck") {
			answer.Nodes = append(answer.Nodes, &pharosv1.NodeApplied{Node: "n2", Reason: "it did not say so in time", Took: durationpb.New(30 * time.Second)})
		}
	}
	return answer, nil
}

// checkOperated checks the requests that the cases of TestGoldens make.
func checkOperated(t *testing.T, operated []*pharosv1.OperateServersRequest) {
	t.Helper()
	for i, want := range []string{
		"[app/b1 app/b2] DRAINING weight=<nil> reset=false wait=false idle=false 0s",
		"[app/b1] DRAINING weight=<nil> reset=false wait=true idle=false 30s",
		"[app/busy] DRAINING weight=<nil> reset=false wait=true idle=true 7s",
		"[app/stuck] DRAINING weight=<nil> reset=false wait=true idle=false 30s",
		"[app/b9] DRAINING weight=<nil> reset=false wait=false idle=false 0s",
		"[app/b1] READY weight=<nil> reset=false wait=false idle=false 0s",
		"[app/b1] MAINTENANCE weight=<nil> reset=false wait=true idle=false 30s",
		"[app/b1]  weight=7 reset=false wait=false idle=false 0s",
		"[app/b1]  weight=<nil> reset=true wait=true idle=false 30s",
	} {
		if i >= len(operated) {
			t.Fatalf("%d requests to operate servers", len(operated))
		}
		r := operated[i]
		weight := "<nil>"
		if r.Weight != nil {
			weight = fmt.Sprint(r.GetWeight())
		}
		got := fmt.Sprintf("%v %s weight=%s reset=%v wait=%v idle=%v %v", r.GetServers(), r.GetState(), weight, r.GetResetWeight(), r.GetWait(), r.GetUntilIdle(), r.GetWaitTimeout().AsDuration())
		if got != want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
}
