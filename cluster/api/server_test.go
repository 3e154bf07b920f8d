package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/cluster/security"
)

func TestStrangersAreRefused(t *testing.T) {
	h := newHouse(t)
	address := h.members["n1"].address
	t.Run("without a certificate", func(t *testing.T) {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := pharosv1.NewControlClient(conn).Get(t.Context(), &pharosv1.GetRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("Get: %v, want Unavailable", err)
		}
	})
	t.Run("of another cluster", func(t *testing.T) {
		other, err := security.Create(filepath.Join(t.TempDir(), "other"), "n1")
		if err != nil {
			t.Fatal(err)
		}
		client, err := Dial(other, address)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Get(t.Context(), &pharosv1.GetRequest{})
		failed(t, err, codes.Unavailable, address)
	})
}

func TestDeadAddress(t *testing.T) {
	h := newHouse(t)
	h.members["n1"].stop()
	client, err := Dial(h.members["n1"].identity, h.members["n1"].address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Get(t.Context(), &pharosv1.GetRequest{})
	if e := failed(t, err, codes.Unavailable, "pharos serve"); !e.Unreached {
		t.Error("a dead address counts as an answer")
	}
}

func TestGet(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	if _, err := client.Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	answer, err := client.Get(t.Context(), &pharosv1.GetRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var config registry.Config
	if err := json.Unmarshal(answer.GetConfigJson(), &config); err != nil {
		t.Fatal(err)
	}
	want, err := registry.Parse("", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetVersion() != 1 || !config.Equal(want) {
		t.Errorf("version %d: %+v", answer.GetVersion(), config)
	}
}

func TestMembers(t *testing.T) {
	h := newHouse(t, "n10", "n2")
	h.gossip.set(LiveMember{Name: "n2", Alive: false, Ready: true})
	h.gossip.set(LiveMember{Name: "n10", Alive: true, Ready: true, AppliedVersion: 7, ClockOffset: time.Hour})
	h.gossip.set(LiveMember{Name: "stranger", Alive: true})
	answer, err := h.client(t, "n1", "n1").Members(t.Context(), &pharosv1.MembersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range answer.GetMembers() {
		got = append(got, fmt.Sprintf("%s alive=%v ready=%v voter=%v leader=%v v=%d off=%v", m.GetName(), m.GetAlive(), m.GetReady(), m.GetVoter(), m.GetLeader(), m.GetAppliedVersion(), m.GetClockOffset().AsDuration()))
	}
	want := []string{
		"n1 alive=true ready=true voter=true leader=true v=0 off=0s",
		"n2 alive=false ready=false voter=true leader=false v=0 off=0s",
		"n10 alive=true ready=true voter=true leader=false v=7 off=1h0m0s",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("members:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExplain(t *testing.T) {
	h := newHouse(t, "n2", "n3", "n4")
	client := h.client(t, "n1", "n1")
	if _, err := client.Explain(t.Context(), &pharosv1.ExplainRequest{Vip: "web"}); err == nil {
		t.Fatal("explained a VIP that is not there")
	} else {
		failed(t, err, codes.NotFound, "pharos get vip")
	}
	if _, err := client.Apply(t.Context(), apply(document)); err != nil {
		t.Fatal(err)
	}
	h.members["n1"].node.status = &pharosv1.NodeStatusResponse{Name: "n1", Vips: []*pharosv1.VIPStatus{{Name: "web", Announcing: true}}}
	h.members["n2"].node.status = &pharosv1.NodeStatusResponse{Name: "n2", ApplyError: "port 80 is taken"}
	h.gossip.set(LiveMember{Name: "n3"})
	h.members["n4"].stop() // alive by gossip, but mute
	answer, err := client.Explain(t.Context(), &pharosv1.ExplainRequest{Vip: "web"})
	if err != nil {
		t.Fatal(err)
	}
	nodes := answer.GetNodes()
	if len(nodes) != 4 || !nodes[0].GetVip().GetAnnouncing() {
		t.Fatalf("nodes: %v", nodes)
	}
	if r := nodes[1].GetVip().GetReasons(); len(r) != 1 || r[0].GetMessage() != "port 80 is taken" {
		t.Errorf("n2: %v", nodes[1])
	}
	if !strings.Contains(nodes[2].GetError(), "not alive") {
		t.Errorf("n3: %v", nodes[2])
	}
	if !strings.Contains(nodes[3].GetError(), "could not be asked") {
		t.Errorf("n4: %v", nodes[3])
	}
}

func TestDrain(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	answer, err := client.Drain(t.Context(), &pharosv1.DrainRequest{})
	if err != nil || answer.GetFinished() != 3 || answer.GetCut() != 1 {
		t.Errorf("Drain: %v, %v", answer, err)
	}
	if _, err := client.Drain(t.Context(), &pharosv1.DrainRequest{Deadline: durationpb.New(time.Minute)}); err != nil {
		t.Error(err)
	}
	if _, err := client.Undrain(t.Context(), &pharosv1.UndrainRequest{}); err != nil {
		t.Error(err)
	}
	n := h.members["n1"].node
	if len(n.drains) != 2 || n.drains[0] != defaultDrain || n.drains[1] != time.Minute || n.undrains != 1 {
		t.Errorf("the node drained %v, and undrained %d times", n.drains, n.undrains)
	}
	_, err = client.Drain(t.Context(), &pharosv1.DrainRequest{Deadline: durationpb.New(-1)})
	failed(t, err, codes.InvalidArgument)
	n.stuck = true
	_, err = client.Drain(t.Context(), &pharosv1.DrainRequest{})
	failed(t, err, codes.Internal, "another drain")
}

func TestTokenLife(t *testing.T) {
	h := newHouse(t)
	client := h.client(t, "n1", "n1")
	for _, ttl := range []time.Duration{-1, 0, 25 * time.Hour} {
		_, err := client.CreateToken(t.Context(), &pharosv1.CreateTokenRequest{Ttl: durationpb.New(ttl)})
		failed(t, err, codes.InvalidArgument)
	}
	answer, err := client.CreateToken(t.Context(), &pharosv1.CreateTokenRequest{Ttl: durationpb.New(2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	token, err := security.ParseToken(answer.GetToken())
	if err != nil {
		t.Fatal(err)
	}
	state, _ := h.watch()
	stored := state.Tokens[token.ID()]
	if string(stored.Hash) != string(token.Hash()) || !stored.Expires.Equal(answer.GetExpires().AsTime()) {
		t.Errorf("stored %+v for %v", stored, answer)
	}
}

// A token is spent once, through a follower as well, and a lost answer is never
// tried again.
func TestTokenIsSpentOnce(t *testing.T) {
	h := newHouse(t, "n2")
	ctx := t.Context()
	spend := func(token security.Token, node string) error {
		return h.members["n2"].server.Admitter().Admit(ctx, token.ID(), token.Hash(), node, "127.0.0.1:7443")
	}
	create := func() security.Token {
		made, err := h.client(t, "n1", "n2").CreateToken(ctx, &pharosv1.CreateTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		token, err := security.ParseToken(made.GetToken())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := create()
	if err := spend(token, "n3"); err != nil {
		t.Fatal(err)
	}
	if err := spend(token, "n4"); !errors.Is(err, fsm.ErrTokenUsed) {
		t.Errorf("second use: %v, want ErrTokenUsed", err)
	}
	if err := spend(create(), "n3"); !errors.Is(err, fsm.ErrNameTaken) {
		t.Errorf("a second n3: %v, want ErrNameTaken", err)
	}
	last := create()
	h.late = func(fsm.Command) error { return fmt.Errorf("leadership lost: %w", ErrUncertain) }
	before := h.submitted()
	if err := spend(last, "n5"); !errors.Is(err, security.ErrUncertain) || h.submitted() != before+1 {
		t.Errorf("ambiguous use: %v after %d tries, want ErrUncertain after one", err, h.submitted()-before)
	}
	h.late = nil
	h.lead("")
	if err := spend(last, "n6"); !errors.Is(err, security.ErrRetry) {
		t.Errorf("use without a leader: %v, want ErrRetry", err)
	}
}

func TestRemoveMember(t *testing.T) {
	h := newHouse(t, "n2", "n3")
	removed := h.client(t, "n3", "n1")
	if _, err := removed.Get(t.Context(), &pharosv1.GetRequest{}); err != nil {
		t.Fatal(err)
	}
	client := h.client(t, "n1", "n2") // a follower, so both steps go to the leader
	if _, err := client.RemoveMember(t.Context(), &pharosv1.RemoveMemberRequest{Name: "n3"}); err != nil {
		t.Fatal(err)
	}
	state, _ := h.watch()
	if _, ok := state.Members["n3"]; ok || len(h.voters) != 2 {
		t.Errorf("members %v, voters %v", state.Members, h.voters)
	}
	_, err := client.RemoveMember(t.Context(), &pharosv1.RemoveMemberRequest{Name: "n3"})
	failed(t, err, codes.NotFound, "pharos member list")

	for _, client := range []*Client{removed, h.client(t, "n3", "n2")} {
		_, err := client.Get(t.Context(), &pharosv1.GetRequest{})
		failed(t, err, codes.PermissionDenied, "n3 is not a member")
	}

	// What a failure between the two steps left is finished by asking again.
	h.voters["n3"] = "left over"
	if _, err := client.RemoveMember(t.Context(), &pharosv1.RemoveMemberRequest{Name: "n3"}); err != nil || len(h.voters) != 2 {
		t.Errorf("second try: %v, voters %v", err, h.voters)
	}
	// A node can be asked for its own removal.
	if _, err := client.RemoveMember(t.Context(), &pharosv1.RemoveMemberRequest{Name: "n2"}); err != nil {
		t.Fatal(err)
	}
	_, err = h.client(t, "n1", "n1").RemoveMember(t.Context(), &pharosv1.RemoveMemberRequest{Name: "n1"})
	failed(t, err, codes.FailedPrecondition, "last member")
}

// A node that restarted without a quorum has an old list of members.
func TestANodeAnswersItselfWhateverItKnows(t *testing.T) {
	h := newHouse(t, "n2")
	h.mu.Lock()
	h.state = fsm.New()
	h.state.Members = map[string]fsm.Member{"n9": {Name: "n9", Address: "127.0.0.1:9"}}
	h.mu.Unlock()
	if _, err := h.client(t, "n2", "n2").Status(t.Context(), &pharosv1.StatusRequest{}); err != nil {
		t.Error(err)
	}
	_, err := h.client(t, "n1", "n2").Status(t.Context(), &pharosv1.StatusRequest{})
	failed(t, err, codes.PermissionDenied)
}

func TestRegister(t *testing.T) {
	h := newHouse(t, "n2", "n3")
	ctx := t.Context()
	peer := func(as, to string) pharosv1.PeerClient {
		conn, err := dial(h.members[as].identity, "", h.members[to].address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return pharosv1.NewPeerClient(conn)
	}
	_, err := peer("n2", "n1").Register(ctx, &pharosv1.RegisterRequest{Name: "n3", ControlAddress: "127.0.0.1:9"})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("in another's name: %v", err)
	}
	_, err = peer("n2", "n1").Register(ctx, &pharosv1.RegisterRequest{Name: "n2", ControlAddress: "0.0.0.0:9"})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("with a useless address: %v", err)
	}
	_, err = peer("n2", "n3").Register(ctx, &pharosv1.RegisterRequest{Name: "n2", ControlAddress: "127.0.0.1:9"})
	if detail, ok := detailOf[*pharosv1.NotLeader](err); !ok || detail.GetLeaderAddress() != h.members["n1"].address {
		t.Errorf("on a follower: %v", err)
	}
	// A node that moved registers its new address by way of a follower.
	if err := h.members["n2"].server.RegisterAt(ctx, "127.0.0.1:9", func() []string { return []string{"127.0.0.1:1", h.members["n3"].address} }); err != nil {
		t.Fatal(err)
	}
	state, _ := h.watch()
	if state.Members["n2"].Address != "127.0.0.1:9" || h.voters["n2"] != "127.0.0.1:9" {
		t.Errorf("member %v, voter %q", state.Members["n2"], h.voters["n2"])
	}
}

func TestRegisterAtEndsWithItsContext(t *testing.T) {
	h := newHouse(t)
	h.lead("")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := h.members["n1"].server.RegisterAt(ctx, "127.0.0.1:9", func() []string { return []string{h.members["n1"].address} }); err == nil {
		t.Error("registered without a leader")
	}
}

func TestPeerSubmit(t *testing.T) {
	h := newHouse(t, "n2")
	conn, err := dial(h.members["n2"].identity, "n1", h.members["n1"].address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer := pharosv1.NewPeerClient(conn)
	for _, garbage := range [][]byte{nil, {0}, []byte("\x01{}"), []byte("hello")} {
		answer, err := peer.Submit(t.Context(), &pharosv1.SubmitRequest{Command: garbage})
		if status.Code(err) != codes.InvalidArgument {
			result, _ := fsm.DecodeResult(answer.GetResult())
			if err != nil || result.Err() == nil {
				t.Errorf("command %q: %v, %v", garbage, result, err)
			}
		}
	}
	encoded, err := fsm.EncodeCommand(fsm.Command{At: time.Unix(0, 0), PutMember: &fsm.PutMember{Name: "n9", Address: "127.0.0.1:9"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Submit(t.Context(), &pharosv1.SubmitRequest{Command: encoded}); err != nil {
		t.Fatal(err)
	}
	state, _ := h.watch()
	if joined := state.Members["n9"].Joined; time.Since(joined) > time.Hour {
		t.Errorf("the asking node's clock was believed: %v", joined)
	}
	// One name's connection is not another's, even at the same address.
	wrong, err := dial(h.members["n2"].identity, "n7", h.members["n1"].address)
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if _, err := pharosv1.NewPeerClient(wrong).NodeStatus(t.Context(), &pharosv1.NodeStatusRequest{}); err == nil {
		t.Error("n1 passed for n7")
	}
}

func TestCompareNames(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"n2", "n10", -1}, {"n10", "n2", 1}, {"n2", "n2", 0}, {"a", "b", -1}, {"a9", "b1", -1}, {"", "n1", -1}, {"7", "12", -1}} {
		if got := compareNames(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
