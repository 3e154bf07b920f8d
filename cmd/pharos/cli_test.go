package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/apitest"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/node"
)

// control is a node whose answers are fixed.
type control struct {
	pharosv1.UnimplementedControlServer
	address  string // its own, once it is known
	applied  []*pharosv1.ApplyRequest
	drained  []time.Duration
	removed  []string
	operated []*pharosv1.OperateServersRequest
	routed   []*pharosv1.RoutingRequest
}

const configJSON = `{
  "vips": [{"name": "web", "addresses": ["198.51.100.1", "2001:db8:100::1"], "mode": "bgp"}],
  "neighbors": [{"name": "tor-n1", "address": "10.0.1.1", "port": 179, "asn": 65000, "local_asn": 65010, "nodes": ["n1", "n3", "n9"], "hold_time": "3s", "connect_retry": "1s"}],
  "certificates": [{"name": "api", "chain": "-----BEGIN CERTIFICATE-----\nMIHgMIGToAMCAQICAQEwBQYDK2VwMAAwHhcNMjYwMTAxMDAwMDAwWhcNMjcwMTAx\nMDAwMDAwWjAAMCowBQYDK2VwAyEAzpaC5ANf6zjVHIcX4tcgqo8f6BFEAH/kt+51\nqj+2TAyjMjAwMC4GA1UdEQEB/wQkMCKCD2FwaS5leGFtcGxlLmNvbYIPd3d3LmV4\nYW1wbGUuY29tMAUGAytlcANBAHk926buKq4Z8N5yP/GWk0B0Yam9MmmmR/N620RO\nD5Z4+y5dBEqWQ9q9GO4c3CvL++5Sg12/LO5aj2hkXyoWQA8=\n-----END CERTIFICATE-----\n", "key": "sealed:v1:c2VhbGVk"}],
  "listeners": [{"name": "http", "vip": "web", "port": 80, "protocol": "http", "pool": "app", "routes": [{"name": "pay", "hosts": ["api.example.com"], "path": "/v1", "methods": ["POST"], "pool": "app"}, {"name": "old", "path_exact": "/old", "redirect": {"path": "/new"}}]}, {"name": "echo", "vip": "web", "port": 81, "protocol": "tcp", "pool": "echo"}],
  "pools": [
    {"name": "app", "balance": "round_robin", "health_check": {"http": "/healthz", "expect_status": [200], "interval": "2s", "timeout": "2s", "fall": 3, "rise": 5},
     "servers": [{"name": "b1", "address": "10.0.21.2:8080", "weight": 3}, {"name": "b2", "address": "10.0.22.2:8080", "weight": 1, "backup": true}]},
    {"name": "echo", "balance": "round_robin", "servers": [{"name": "b1", "address": "10.0.21.2:8081", "weight": 1}]}
  ]
}`

var dawn = timestamppb.New(time.Date(2026, 11, 22, 5, 4, 3, 0, time.UTC))

func (c *control) Get(context.Context, *pharosv1.GetRequest) (*pharosv1.GetResponse, error) {
	return &pharosv1.GetResponse{Version: 7, ConfigJson: []byte(configJSON)}, nil
}

func (c *control) members() []*pharosv1.Member {
	return []*pharosv1.Member{
		{Name: "n1", ControlAddress: c.address, Addresses: []string{"10.0.1.2"}, Alive: true, Ready: true, Voter: true, Leader: true, AppliedVersion: 7, Load: 0.25, ClockOffset: durationpb.New(0)},
		{Name: "n2", ControlAddress: "10.0.2.2:7443", Alive: true, Draining: true, Voter: true, AppliedVersion: 6, Load: 1.5, ClockOffset: durationpb.New(time.Hour)},
		{Name: "n3", ControlAddress: "10.0.3.2:7443", Voter: true},
		{Name: "n4", ControlAddress: "10.0.4.2:7443"},
	}
}

func (c *control) Members(context.Context, *pharosv1.MembersRequest) (*pharosv1.MembersResponse, error) {
	return &pharosv1.MembersResponse{Members: c.members()}, nil
}

func sessions() []*pharosv1.SessionStatus {
	return []*pharosv1.SessionStatus{
		{Neighbor: "tor-n1", Address: "10.0.1.1", Asn: 65000, State: "established", Since: dawn, Announced: []string{"198.51.100.1/32"}, Bfd: &pharosv1.BFDStatus{
			State: "up", Since: dawn, RemoteState: "up", Transmit: durationpb.New(50 * time.Millisecond), Detection: durationpb.New(150 * time.Millisecond),
			Diagnostic: "none", RemoteDiagnostic: "none", Failures: 1, Discriminator: 7, RemoteDiscriminator: 8,
		}},
		{Neighbor: "tor-b", Address: "10.0.9.1", Asn: 65000, State: "active", Flaps: 2, LastError: "connection refused"},
	}
}

func (c *control) Status(context.Context, *pharosv1.StatusRequest) (*pharosv1.StatusResponse, error) {
	return &pharosv1.StatusResponse{
		Leader: "n1", Version: 8, Members: c.members(),
		Node: &pharosv1.NodeStatusResponse{
			Name: "n1", SoftwareVersion: "v0.1.0", Engine: "epoll", Started: dawn, AppliedVersion: 7, ApplyError: "listener http: port 80 is taken",
			Connections: 12, InFlight: 3, Warnings: []string{"the disk is full"},
			Vips: []*pharosv1.VIPStatus{
				{Name: "web", Addresses: []string{"198.51.100.1", "2001:db8:100::1"}, Announcing: true, Since: dawn, Neighbors: []string{"tor-n1"}},
				{Name: "dns", Addresses: []string{"198.51.100.2"}, Reasons: []*pharosv1.Reason{{Code: "draining", Message: "the node is draining", Since: dawn}, {Code: "listener_not_bound", Message: "listener dns is not bound"}}},
				office("n1"), office("n2"),
			},
			Sessions: sessions(),
			Listeners: []*pharosv1.ListenerStatus{
				{Name: "http", Protocol: "http", Addresses: []string{"198.51.100.1:80"}, Accepting: true, Connections: 12, Accepted: 100, Requests: 900, Failed: 1},
			},
			Pools: []*pharosv1.PoolStatus{{Name: "app", Healthy: 1, Servers: []*pharosv1.ServerStatus{
				{Name: "b1", Address: "10.0.21.2:8080", Weight: 3, Healthy: true, InFlight: 3, Connections: 50, LastCheck: dawn, LastReason: "200 OK", Id: "8b1e", State: "HEALTHY"},
				{Name: "b2", Address: "10.0.22.2:8080", Weight: 1, Backup: true, Failures: 4, LastReason: "connection refused", Id: "8b2e", State: "MAINTENANCE"},
			}}},
		},
	}, nil
}

func (c *control) Explain(_ context.Context, r *pharosv1.ExplainRequest) (*pharosv1.ExplainResponse, error) {
	if r.GetVip() == "office" {
		return &pharosv1.ExplainResponse{Nodes: []*pharosv1.NodeExplanation{
			{Node: "n1", Vip: office("n1"), Sessions: sessions()},
			{Node: "n2", Vip: office("n2")},
			{Node: "n3", Vip: office("n3")},
			{Node: "n4", Error: "it is not alive: no heartbeats come from it"},
		}}, nil
	}
	if r.GetVip() != "web" {
		return nil, status.Errorf(codes.NotFound, "there is no VIP %q: \"pharos get vip\" lists them", r.GetVip())
	}
	addresses := []string{"198.51.100.1"}
	return &pharosv1.ExplainResponse{Nodes: []*pharosv1.NodeExplanation{
		{Node: "n1", Vip: &pharosv1.VIPStatus{Name: "web", Addresses: addresses, Announcing: true, Since: dawn, Neighbors: []string{"tor-n1"}}, Sessions: sessions()},
		{Node: "n2", Vip: &pharosv1.VIPStatus{Name: "web", Addresses: addresses, Since: dawn, Reasons: []*pharosv1.Reason{{Code: "draining", Message: "the node is draining"}}}},
		{Node: "n3", Error: "it is not alive: no heartbeats come from it"},
		{Node: "n4", Vip: &pharosv1.VIPStatus{Name: "web", Addresses: addresses, Announcing: true}},
	}}, nil
}

func (c *control) Apply(_ context.Context, r *pharosv1.ApplyRequest) (*pharosv1.ApplyResponse, error) {
	c.applied = append(c.applied, r)
	switch text := string(r.GetDocument()); {
	case strings.Contains(text, "fault"):
		st, err := status.New(codes.InvalidArgument, "the configuration has 2 fault(s); nothing was changed").WithDetails(&pharosv1.Faults{Faults: []*pharosv1.Fault{
			{File: r.GetFile(), Line: 3, Column: 9, Path: "listeners[0].vip", Message: `there is no VIP "wbe", did you mean "web"?`},
			{File: r.GetFile(), Line: 7, Column: 1, Message: "unknown key"},
		}})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	case strings.Contains(text, "leaderless"):
		return nil, status.Error(codes.Unavailable, "no answer is possible")
	case strings.Contains(text, "same"):
		return &pharosv1.ApplyResponse{Version: 7}, nil
	}
	answer := &pharosv1.ApplyResponse{Version: 8, Changes: []*pharosv1.Change{
		{Kind: "vip", Name: "web", Action: "add", Fields: []string{"mode: bgp"}},
		{Kind: "server", Name: "app/b1", Action: "change", Fields: []string{"weight: 1 -> 3", "backup: false -> true"}},
		{Kind: "pool", Name: "old", Action: "remove"},
	}}
	if r.GetDryRun() {
		answer.Version = 7
	}
	if r.GetWait() {
		answer.Nodes = []*pharosv1.NodeApplied{{Node: "n1", Applied: true, Took: durationpb.New(1234567)}}
		if strings.Contains(string(r.GetDocument()), "stuck") {
			answer.Nodes = append(answer.Nodes, &pharosv1.NodeApplied{Node: "n2", Reason: "listener http: port 80 is taken", Took: durationpb.New(2 * time.Second)})
		}
	}
	return answer, nil
}

func (c *control) CreateToken(_ context.Context, r *pharosv1.CreateTokenRequest) (*pharosv1.CreateTokenResponse, error) {
	if r.GetTtl().AsDuration() > 24*time.Hour {
		return nil, status.Errorf(codes.InvalidArgument, "a token's life of %v: 1s to 24h are allowed", r.GetTtl().AsDuration())
	}
	return &pharosv1.CreateTokenResponse{Token: "pharos-aeaq", Expires: dawn, Address: "10.0.1.2:7443"}, nil
}

func (c *control) RemoveMember(_ context.Context, r *pharosv1.RemoveMemberRequest) (*pharosv1.RemoveMemberResponse, error) {
	c.removed = append(c.removed, r.GetName())
	return &pharosv1.RemoveMemberResponse{}, nil
}

func (c *control) Drain(_ context.Context, r *pharosv1.DrainRequest) (*pharosv1.DrainResponse, error) {
	c.drained = append(c.drained, r.GetDeadline().AsDuration())
	return &pharosv1.DrainResponse{InFlight: 4, LingerTook: durationpb.New(time.Second), ShutTook: durationpb.New(320 * time.Millisecond), Finished: 3, Cut: 1, WithdrawTook: durationpb.New(120 * time.Millisecond), Took: durationpb.New(2345 * time.Millisecond)}, nil
}

func (c *control) Undrain(context.Context, *pharosv1.UndrainRequest) (*pharosv1.UndrainResponse, error) {
	return &pharosv1.UndrainResponse{}, nil
}

// pharos runs the command line on a node home.
func pharos(t *testing.T, home nodeHome, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	root := newRootOn(home)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(args)
	code = execute(t.Context(), root)
	return out.String(), errs.String(), code
}

// founded makes a data directory with a node that a made-up control API runs
// for.
func founded(t *testing.T) (dir string, c *control) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "n1")
	if _, err := api.Found(dir, "n1", time.Hour); err != nil {
		t.Fatal(err)
	}
	c = &control{}
	c.address = apitest.Serve(t, apitest.Node{Dir: dir, Control: c})
	config, err := newConfig("n1", c.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.WriteConfig(dir, config); err != nil {
		t.Fatal(err)
	}
	return dir, c
}

// golden compares with testdata/NAME.golden; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestGoldens(t *testing.T) {
	dir, c := founded(t)
	t.Setenv("PHAROS_DIR", dir)
	cases := []struct {
		name  string
		args  string
		stdin string
	}{
		{name: "member-list", args: "member list"},
		{name: "member-list-json", args: "member list -o json"},
		{name: "member-remove", args: "member remove n3"},
		{name: "member-alone", args: "member lits"},
		{name: "token-create", args: "token create"},
		{name: "token-create-json", args: "token create -o json"},
		{name: "token-create-too-long", args: "token create --ttl 48h"},
		{name: "get", args: "get"},
		{name: "get-yaml", args: "get -o yaml"},
		{name: "get-pool-yaml", args: "get pool app -o yaml"},
		{name: "get-json", args: "get -o json"},
		{name: "get-servers", args: "get servers"},
		{name: "get-server", args: "get server app/b2"},
		{name: "get-certificates", args: "get certificates"},
		{name: "get-certificate-yaml", args: "get certificate api -o yaml"},
		{name: "get-routes", args: "get routes"},
		{name: "get-route-yaml", args: "get route http/old -o yaml"},
		{name: "get-vip", args: "get vips"},
		{name: "get-neighbors", args: "get neighbors"},
		{name: "get-neighbors-json", args: "get neighbors tor-n1 --node n1 -o json"},
		{name: "get-neighbors-yaml", args: "get neighbors -o yaml"},
		{name: "get-announcements", args: "get announcements"},
		{name: "get-announcements-json", args: "get announcement web --node n1 --neighbor tor-n1 -o json"},
		{name: "get-announcements-yaml", args: "get announcements --node n1 -o yaml"},
		{name: "get-announcements-unknown", args: "get announcements dns"},
		{name: "get-filter", args: "get vips --node n1"},
		{name: "get-unknown-kind", args: "get gizmos"},
		{name: "get-unknown-name", args: "get pool apq"},
		{name: "get-bfd", args: "get bfd"},
		{name: "get-bfd-json", args: "get bfd tor-n1 --node n1 -o json"},
		{name: "get-bfd-unknown", args: "get bfd tor-b"},
		{name: "get-too-much", args: "get pool app b1"},
		{name: "status", args: "status"},
		{name: "status-json", args: "status -o json"},
		{name: "status-yaml", args: "status -o yaml"},
		{name: "explain-vip", args: "explain vip web"},
		{name: "explain-vip-json", args: "explain vip web -o json"},
		{name: "explain-vip-arp", args: "explain vip office"},
		{name: "explain-vip-arp-json", args: "explain vip office -o json"},
		{name: "explain-vip-unknown", args: "explain vip dns"},
		{name: "explain-what", args: "explain"},
		{name: "apply", args: "apply -f -", stdin: "new"},
		{name: "apply-json", args: "apply -f - -o json --wait", stdin: "new"},
		{name: "apply-same", args: "apply -f -", stdin: "same"},
		{name: "apply-wait", args: "apply -f - --wait", stdin: "new"},
		{name: "apply-wait-stuck", args: "apply -f - --wait", stdin: "stuck"},
		{name: "apply-faults", args: "apply -f -", stdin: "fault"},
		{name: "apply-dry-run", args: "apply -f - --dry-run", stdin: "new"},
		{name: "apply-no-file", args: "apply"},
		{name: "apply-missing-file", args: "apply -f no-such-file.yaml"},
		{name: "apply-wait-timeout", args: "apply -f - --wait-timeout 0s", stdin: "new"},
		{name: "diff", args: "diff -f -", stdin: "new"},
		{name: "diff-exit-code", args: "diff -f - --exit-code", stdin: "new"},
		{name: "diff-same", args: "diff -f - --exit-code", stdin: "same"},
		{name: "diff-faults", args: "diff -f -", stdin: "fault"},
		{name: "drain", args: "drain n1"},
		{name: "drain-json", args: "drain n1 -o json"},
		{name: "drain-unknown", args: "drain n9"},
		{name: "drain-whom", args: "drain"},
		{name: "drain-negative", args: "drain n1 --deadline -1s"},
		{name: "undrain", args: "undrain n1"},
		{name: "server-list", args: "server list"},
		{name: "server-list-json", args: "server list --pool app -o json"},
		{name: "server-list-yaml", args: "server list --node n2 -o yaml"},
		{name: "server-list-unknown", args: "server list --pool apq"},
		{name: "server-drain", args: "server drain app/b1 app/b2"},
		{name: "server-drain-json", args: "server drain app/b1 --wait -o json"},
		{name: "server-drain-idle", args: "server drain app/busy --idle --timeout 7s"},
		{name: "server-drain-stuck", args: "server drain app/stuck --wait"},
		{name: "server-drain-unknown", args: "server drain app/b9"},
		{name: "server-drain-nothing", args: "server drain"},
		{name: "server-drain-name", args: "server drain b1"},
		{name: "server-ready", args: "server ready app/b1"},
		{name: "server-maintenance", args: "server maintenance app/b1 --wait"},
		{name: "server-weight", args: "server weight app/b1 7"},
		{name: "server-weight-reset", args: "server weight app/b1 reset --wait"},
		{name: "server-weight-too-large", args: "server weight app/b1 257"},
		{name: "server-weight-nothing", args: "server weight app/b1"},
		{name: "server-alone", args: "server"},
		{name: "unknown-command", args: "aply"},
		{name: "unknown-flag", args: "status --bogus"},
		{name: "unknown-format", args: "status -o xml"},
		{name: "bad-timeout", args: "status --timeout 0s"},
		{name: "bad-duration", args: "token create --ttl soon"},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			stdout, stderr, code := pharos(t, nodeFiles(), x.stdin, strings.Fields(x.args)...)
			got := fmt.Sprintf("$ pharos %s\n%s", x.args, stdout)
			if stderr != "" {
				got += "--- stderr\n" + stderr
			}
			got += fmt.Sprintf("--- exit code %d\n", code)
			// The port is all that differs from run to run. The kernel's free
			// ports have five digits, so the columns stay.
			golden(t, x.name, strings.ReplaceAll(got, c.address, "127.0.0.1:65000"))
		})
	}
	found, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(found) != len(cases) {
		t.Errorf("%d cases have %d goldens (%v)", len(cases), len(found), err)
	}
	if len(c.drained) != 2 || c.drained[0] != 30*time.Second {
		t.Errorf("the node was drained %v", c.drained)
	}
	checkOperated(t, c.operated)
	checkRouted(t, c.routed)
	if len(c.removed) != 1 || c.removed[0] != "n3" {
		t.Errorf("removed: %v", c.removed)
	}
}

func TestApplyRequest(t *testing.T) {
	dir, c := founded(t)
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := pharos(t, nodeFiles(), "", "apply", "--dir", dir, "-f", file, "--wait", "--wait-timeout", "3s", "--if-version", "0")
	if code != 0 {
		t.Fatal(stderr)
	}
	r := c.applied[0]
	if r.GetFile() != file || string(r.GetDocument()) != "new" || !r.GetWait() || r.GetDryRun() || r.GetWaitTimeout().AsDuration() != 3*time.Second || r.Base == nil || r.GetBase() != 0 {
		t.Errorf("request: %v", r)
	}
	if _, _, code := pharos(t, nodeFiles(), "", "diff", "--dir", dir, "-f", file); code != 0 {
		t.Error("diff failed")
	}
	if r := c.applied[1]; !r.GetDryRun() || r.GetWait() || r.Base != nil {
		t.Errorf("diff's request: %v", r)
	}
}

func TestWhereNobodyAnswers(t *testing.T) {
	dir, _ := founded(t)
	_, stderr, code := pharos(t, nodeFiles(), "", "status", "--dir", dir, "--address", "127.0.0.1:1", "--timeout", "10s")
	if code != exitFailed || !strings.HasPrefix(stderr, "pharos: cannot reach the node at 127.0.0.1:1: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	empty := t.TempDir()
	_, stderr, code = pharos(t, nodeFiles(), "", "status", "--dir", empty)
	if code != exitFailed || !strings.Contains(stderr, "pharos init") || !strings.Contains(stderr, empty) {
		t.Errorf("without a node: exit code %d: %s", code, stderr)
	}
}

// homeWith is the real node home, with a first state that is made by a test.
func homeWith(bootstrap func(context.Context, string, api.Founded) error) nodeHome {
	home := nodeFiles()
	home.bootstrap = bootstrap
	return home
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var made api.Founded
	home := homeWith(func(_ context.Context, in string, f api.Founded) error {
		if in != dir {
			t.Errorf("first state made in %s", in)
		}
		made = f
		return nil
	})
	stdout, stderr, code := pharos(t, home, "", "init", "--dir", dir, "--name", "n1", "--address", "127.0.0.1")
	if code != 0 {
		t.Fatal(stderr)
	}
	want := "\npharos join 127.0.0.1:7443 --token " + made.JoinToken + " --name NAME --address ADDRESS\n"
	if !strings.Contains(stdout, want) || !strings.Contains(stdout, "pharos serve --dir "+dir) {
		t.Errorf("init said:\n%s\nwant in it:%s", stdout, want)
	}
	config, err := node.LoadConfig(dir)
	if err != nil || config.Name != "n1" || config.Address != "127.0.0.1:7443" || len(config.Addresses) != 1 {
		t.Errorf("node file: %+v, %v", config, err)
	}
	if len(made.Token.Hash) != 32 || time.Until(made.Token.Expires) > time.Hour {
		t.Errorf("the first token: %+v", made.Token)
	}

	// A second one is refused, and changes nothing.
	before := snapshot(t, dir)
	_, stderr, code = pharos(t, home, "", "init", "--dir", dir, "--name", "n9", "--address", "127.0.0.1")
	if code != exitFailed || !strings.Contains(stderr, "holds a node already") {
		t.Errorf("second init: exit code %d: %s", code, stderr)
	}
	if err := os.Remove(filepath.Join(dir, "pharos.yaml")); err != nil {
		t.Fatal(err)
	}
	_, stderr, code = pharos(t, home, "", "init", "--dir", dir, "--name", "n9", "--address", "127.0.0.1")
	if code != exitFailed || !strings.Contains(stderr, "belongs to a cluster already") {
		t.Errorf("second init without a node file: exit code %d: %s", code, stderr)
	}
	if err := home.write(dir, config); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("the refused init changed\n%s\nto\n%s", before, after)
	}
}

// snapshot is every file under dir with its contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestInitThatFailsLeavesNothing(t *testing.T) {
	full := errors.New("no space left on device")
	failing := homeWith(func(context.Context, string, api.Founded) error { return full })
	unwritable := nodeFiles()
	unwritable.write = func(string, node.Config) error { return full }
	for name, x := range map[string]struct {
		home nodeHome
		args []string
		code int
		text string
	}{
		"first state":       {failing, []string{"--name", "n1", "--address", "127.0.0.1"}, exitFailed, full.Error()},
		"node file":         {unwritable, []string{"--name", "n1", "--address", "127.0.0.1"}, exitFailed, full.Error()},
		"no name":           {failing, []string{"--address", "127.0.0.1"}, exitUsage, "--name and --address are required"},
		"no address":        {failing, []string{"--name", "n1"}, exitUsage, "--name and --address are required"},
		"bad name":          {failing, []string{"--name", "N1", "--address", "127.0.0.1"}, exitFailed, "name"},
		"bad address":       {failing, []string{"--name", "n1", "--address", "0.0.0.0"}, exitFailed, "address"},
		"bad node address":  {failing, []string{"--name", "n1", "--address", "127.0.0.1", "--node-address", "here"}, exitFailed, "--node-address"},
		"bad token's life":  {failing, []string{"--name", "n1", "--address", "127.0.0.1", "--token-ttl", "25h"}, exitFailed, "24h"},
		"too many words":    {failing, []string{"cluster", "--name", "n1", "--address", "127.0.0.1"}, exitUsage, "takes no arguments"},
		"address of a name": {failing, []string{"--name", "n1", "--address", "a name"}, exitFailed, "address"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			_, stderr, code := pharos(t, x.home, "", append([]string{"init", "--dir", dir}, x.args...)...)
			if code != x.code || !strings.Contains(stderr, x.text) || !strings.HasPrefix(stderr, "pharos: ") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			if exists(dir) {
				t.Errorf("the failed init left\n%s", snapshot(t, dir))
			}
		})
	}
}

// doorkeeper admits everyone, or nobody.
type doorkeeper struct{ refusal error }

func (d doorkeeper) Admit(context.Context, string, []byte, string, string) error { return d.refusal }

func (d doorkeeper) Members() map[string]string {
	return map[string]string{"n1": "127.0.0.1:7441", "n2": "127.0.0.1:7442"}
}

func TestJoin(t *testing.T) {
	first := filepath.Join(t.TempDir(), "n1")
	made, err := api.Found(first, "n1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	address := apitest.Serve(t, apitest.Node{Dir: first, Admitter: doorkeeper{}})
	dir := filepath.Join(t.TempDir(), "n2")
	args := []string{"join", address, "--token", made.JoinToken, "--name", "n2", "--address", "127.0.0.1:7442", "--dir", dir}
	stdout, stderr, code := pharos(t, nodeFiles(), "", args...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stdout, "pharos serve --dir "+dir) || !strings.Contains(stdout, made.ClusterID) {
		t.Errorf("join said:\n%s", stdout)
	}
	config, err := node.LoadConfig(dir)
	if err != nil || config.Name != "n2" || len(config.Peers) != 1 || config.Peers[0] != "127.0.0.1:7441" {
		t.Errorf("node file: %+v, %v", config, err)
	}
	before := snapshot(t, dir)
	_, stderr, code = pharos(t, nodeFiles(), "", args...)
	if code != exitFailed || !strings.Contains(stderr, "holds a node already") || snapshot(t, dir) != before {
		t.Errorf("second join: exit code %d: %s", code, stderr)
	}
}

func TestJoinThatFailsLeavesNothing(t *testing.T) {
	first := filepath.Join(t.TempDir(), "n1")
	made, err := api.Found(first, "n1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	open := apitest.Serve(t, apitest.Node{Dir: first, Admitter: doorkeeper{}})
	shut := apitest.Serve(t, apitest.Node{Dir: first, Admitter: doorkeeper{errors.New("shut")}})
	unwritable := nodeFiles()
	unwritable.write = func(string, node.Config) error { return errors.New("no space left on device") }
	good := []string{"--name", "n2", "--address", "127.0.0.1:7442"}
	for name, x := range map[string]struct {
		home nodeHome
		args []string
		code int
		text string
	}{
		"refused":       {nodeFiles(), append([]string{shut, "--token", made.JoinToken}, good...), exitFailed, "refused the join"},
		"dead address":  {nodeFiles(), append([]string{"127.0.0.1:1", "--token", made.JoinToken}, good...), exitFailed, "cannot connect"},
		"mistyped":      {nodeFiles(), append([]string{open, "--token", made.JoinToken + "x"}, good...), exitFailed, "not a join token"},
		"no token":      {nodeFiles(), append([]string{open}, good...), exitUsage, "pharos token create"},
		"no member":     {nodeFiles(), append([]string{"--token", made.JoinToken}, good...), exitUsage, "the address of a member"},
		"no space left": {unwritable, append([]string{open, "--token", made.JoinToken}, good...), exitFailed, "pharos member remove n2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			_, stderr, code := pharos(t, x.home, "", append([]string{"join", "--dir", dir}, x.args...)...)
			if code != x.code || !strings.Contains(stderr, x.text) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			if strings.Contains(stderr, made.JoinToken) {
				t.Error("the error shows the token")
			}
			if exists(dir) {
				t.Errorf("the failed join left\n%s", snapshot(t, dir))
			}
		})
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := pharos(t, nodeFiles(), "", "version")
	if code != 0 || !strings.HasPrefix(stdout, "pharos "+version+" (go") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// Each command has a line of help, and none of the shared flags is shadowed
// without a purpose: init and join mean another address than the rest.
func TestEveryCommandIsDescribed(t *testing.T) {
	commands := newRootOn(nodeFiles()).Commands()
	if len(commands) < 12 {
		t.Fatalf("only %d commands", len(commands))
	}
	for len(commands) > 0 {
		cmd := commands[0]
		commands = append(commands[1:], cmd.Commands()...)
		if cmd.Short == "" || cmd.RunE == nil {
			t.Errorf("%s has no help, or does nothing", cmd.CommandPath())
		}
	}
}
