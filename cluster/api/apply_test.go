package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
)

const document = `vips:
  - {name: web, addresses: [198.51.100.1]}
listeners:
  - {name: http, vip: web, port: 80, protocol: http, pool: web}
pools:
  - name: web
    servers:
      - {name: b1, address: "10.0.21.2:8080", weight: 1}
`

func apply(text string) *pharosv1.ApplyRequest {
	return &pharosv1.ApplyRequest{File: "cluster.yaml", Document: []byte(text)}
}

// failed asserts that an error is an *Error with this code.
func failed(t *testing.T, err error, code codes.Code, words ...string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if e.Code != code {
		t.Fatalf("got %v: %v, want %v", e.Code, err, code)
	}
	for _, word := range words {
		if !strings.Contains(e.Message, word) {
			t.Errorf("the message %q does not say %q", e.Message, word)
		}
	}
	return e
}

func TestApplyOnAnyNode(t *testing.T) {
	h := newHouse(t, "n2", "n3")
	for i, name := range []string{"n1", "n2", "n3"} {
		text := strings.Replace(document, "weight: 1", fmt.Sprintf("weight: %d", i+2), 1)
		request := apply(text)
		request.Wait = true
		answer, err := h.client(t, "n2", name).Apply(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(i + 1); answer.GetVersion() != want {
			t.Errorf("on %s: version %d, want %d", name, answer.GetVersion(), want)
		}
		var nodes []string
		for _, n := range answer.GetNodes() {
			nodes = append(nodes, fmt.Sprintf("%s:%v:%s", n.GetNode(), n.GetApplied(), n.GetReason()))
		}
		if got := strings.Join(nodes, " "); got != "n1:true: n2:true: n3:true:" {
			t.Errorf("on %s: nodes %q", name, got)
		}
		if i > 0 && (len(answer.GetChanges()) != 1 || answer.GetChanges()[0].GetName() != "web/b1") {
			t.Errorf("on %s: changes %v", name, answer.GetChanges())
		}
	}
	for _, c := range h.commands {
		if c.ApplyConfig != nil && c.By != "n2" {
			t.Errorf("a change is logged as by %q", c.By)
		}
	}
}

func TestApplySame(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	for range 2 {
		answer, err := client.Apply(t.Context(), apply(document))
		if err != nil || answer.GetVersion() != 1 {
			t.Fatalf("version %d, %v", answer.GetVersion(), err)
		}
	}
}

// Shared keys come before the first configuration, and nobody runs them alone.
func TestApplyOfNothingToANewClusterWaitsForNobody(t *testing.T) {
	h := newHouse(t)
	_, err := seat{h.quorum, "n1"}.Submit(t.Context(), fsm.Command{PutKeys: &fsm.PutKeys{Kind: fsm.CookieKeys, Keys: []fsm.Key{{ID: "k", Sealed: "sealed:v1:QQ=="}}}})
	if err != nil {
		t.Fatal(err)
	}
	h.members["n1"].node.stuck = true
	request := apply("")
	request.Wait, request.WaitTimeout = true, durationpb.New(patience)
	answer, err := h.client(t, "n1", "n1").Apply(t.Context(), request)
	if err != nil || answer.GetVersion() != 0 || len(answer.GetNodes()) != 0 {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestApplyFaultsReplicateNothing(t *testing.T) {
	h := newHouse(t, "n2")
	before := h.submitted()
	_, err := h.client(t, "n1", "n2").Apply(t.Context(), apply(strings.Replace(strings.Replace(document, "vip: web", "vip: wbe", 1), "weight: 1", "weigth: 1", 1)))
	e := failed(t, err, codes.InvalidArgument, "nothing was changed")
	if len(e.Faults) != 2 {
		t.Fatalf("faults: %v", e.Faults)
	}
	for i, want := range []string{"listeners[0].vip", "pools[0].servers[0]"} {
		f := e.Faults[i]
		if f.File != "cluster.yaml" || f.Line == 0 || f.Column == 0 || !strings.HasPrefix(f.Path, want) || f.Message == "" {
			t.Errorf("fault %d: %+v, want it at %s", i, f, want)
		}
	}
	if h.submitted() != before {
		t.Error("a configuration with faults was submitted")
	}
}

func TestApplyMalformedRequests(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	for name, change := range map[string]func(*pharosv1.ApplyRequest){
		"negative wait": func(r *pharosv1.ApplyRequest) { r.WaitTimeout = durationpb.New(-1) },
		"endless wait":  func(r *pharosv1.ApplyRequest) { r.WaitTimeout = durationpb.New(time.Hour) },
		"too large":     func(r *pharosv1.ApplyRequest) { r.Document = make([]byte, maxDocument+1) },
		"not text":      func(r *pharosv1.ApplyRequest) { r.Document = []byte{0xff, 0xfe, 0x00} },
	} {
		t.Run(name, func(t *testing.T) {
			request := apply(document)
			change(request)
			_, err := client.Apply(t.Context(), request)
			failed(t, err, codes.InvalidArgument)
		})
	}
}

func TestApplyDryRun(t *testing.T) {
	h := newHouse(t)
	before := h.submitted()
	request := apply(document)
	request.DryRun = true
	answer, err := h.client(t, "n1", "n1").Apply(t.Context(), request)
	if err != nil || len(answer.GetChanges()) != 4 || answer.GetVersion() != 0 || h.submitted() != before {
		t.Errorf("answer %v, %v, %d commands", answer, err, h.submitted()-before)
	}
}

func TestApplyOnABase(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	request := apply(document)
	request.Base = proto.Uint64(0)
	if _, err := client.Apply(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	_, err := client.Apply(t.Context(), request)
	failed(t, err, codes.FailedPrecondition, fsm.ErrConflict.Error())
}

func TestApplyWithoutALeader(t *testing.T) {
	h := newHouse(t, "n2")
	if _, err := h.client(t, "n1", "n1").Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	h.lead("")
	_, err := h.client(t, "n1", "n2").Apply(t.Context(), apply(document))
	failed(t, err, codes.Unavailable, "no leader", "a majority of the members must be up", "version 1")
}

// A node that cannot write its log names that as the cause, not the majority,
// which may be up.
func TestApplyWithoutALeaderNamesTheNodesOwnFault(t *testing.T) {
	h := newHouse(t, "n2")
	h.lead("")
	h.mu.Lock()
	h.fault = errors.New("cannot write raft.db: no space left on device")
	h.mu.Unlock()
	_, err := h.client(t, "n1", "n2").Apply(t.Context(), apply(document))
	failed(t, err, codes.Unavailable, "no leader", "no space left on device", "version 0")
}

func TestApplyOverAnElection(t *testing.T) {
	h := newHouse(t, "n2")
	h.lead("")
	done := make(chan error, 1)
	client := h.client(t, "n1", "n2")
	go func() {
		_, err := client.Apply(t.Context(), apply(document))
		done <- err
	}()
	h.lead("n1") // before or after the first try: both must do
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A leader that fell after it had committed: the change is sent once more,
// which is harmless, and the caller learns that it was made.
func TestApplyAfterAnAmbiguousOutcome(t *testing.T) {
	h := newHouse(t, "n2")
	failures := 1
	h.late = func(c fsm.Command) error {
		if c.ApplyConfig != nil && failures > 0 {
			failures--
			return fmt.Errorf("leadership lost: %w", ErrUncertain)
		}
		return nil
	}
	for _, node := range []string{"n1", "n2"} {
		failures = 1
		before := h.submitted()
		answer, err := h.client(t, "n1", node).Apply(t.Context(), apply(strings.Replace(document, "weight: 1", "weight: 1"+node[1:], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]uint64{"n1": 1, "n2": 2}[node]; answer.GetVersion() != want || h.submitted() != before+2 {
			t.Errorf("on %s: version %d after %d tries", node, answer.GetVersion(), h.submitted()-before)
		}
	}
	// With a base, a second try would be refused because of the first.
	failures = 1
	before := h.submitted()
	request := apply("")
	request.Base = proto.Uint64(2)
	_, err := h.client(t, "n1", "n2").Apply(t.Context(), request)
	failed(t, err, codes.Unknown, ErrUncertain.Error())
	if h.submitted() != before+1 {
		t.Errorf("a conditional change was tried %d times", h.submitted()-before)
	}
}

// A leader that loses its majority in the middle of a change, and nobody comes
// after it: the operator learns what is wanting, and what is not known.
func TestApplyThatLosesTheMajority(t *testing.T) {
	h := newHouse(t, "n2")
	h.late = func(fsm.Command) error {
		h.leader = "" // Submit holds the lock
		return fmt.Errorf("leadership lost: %w", ErrUncertain)
	}
	_, err := h.client(t, "n1", "n1").Apply(t.Context(), apply(document))
	failed(t, err, codes.Unknown, ErrUncertain.Error(), "a majority of the members must be up", "pharos get")
}

func TestApplyOnAFullDisk(t *testing.T) {
	h := newHouse(t, "n2")
	h.onSubmit = func(fsm.Command) error { return errors.New("cannot write the log: no space left") }
	for _, node := range []string{"n1", "n2"} {
		before := h.submitted()
		_, err := h.client(t, "n1", node).Apply(t.Context(), apply(document))
		failed(t, err, codes.Internal, "no space left")
		if h.submitted() != before+1 {
			t.Errorf("on %s: a definite failure was tried %d times", node, h.submitted()-before)
		}
	}
}

func TestApplyWaitSaysWhoDoesNotRunIt(t *testing.T) {
	h := newHouse(t, "n2", "n3", "n4")
	h.members["n2"].node.applyError = "listener http: port 80 is taken"
	h.members["n3"].node.stuck = true
	h.gossip.set(LiveMember{Name: "n4"}) // dead: nobody waits for it
	request := apply(document)
	request.Wait, request.WaitTimeout = true, durationpb.New(100*time.Millisecond)
	answer, err := h.client(t, "n1", "n1").Apply(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, n := range answer.GetNodes() {
		got[n.GetNode()] = n.GetReason()
	}
	if len(got) != 3 || got["n1"] != "" || got["n2"] != "listener http: port 80 is taken" || !strings.Contains(got["n3"], "in time") {
		t.Errorf("nodes: %q", got)
	}
}

// A node that dies while it is waited for ends the wait.
func TestApplyWaitForANodeThatDies(t *testing.T) {
	h := newHouse(t, "n2")
	h.members["n2"].node.stuck = true
	h.late = func(c fsm.Command) error {
		if c.ApplyConfig != nil {
			time.AfterFunc(50*time.Millisecond, func() { h.gossip.set(LiveMember{Name: "n2"}) })
		}
		return nil
	}
	request := apply(document)
	request.Wait, request.WaitTimeout = true, durationpb.New(5*time.Minute)
	answer, err := h.client(t, "n1", "n1").Apply(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if n := answer.GetNodes()[1]; n.GetApplied() || n.GetReason() != errDied.Error() {
		t.Errorf("n2: %v", n)
	}
}
