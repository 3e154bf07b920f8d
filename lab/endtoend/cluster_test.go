package endtoend

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	hop1, hop2, hop3 = "10.0.1.2", "10.0.2.2", "10.0.3.2"
	vip4             = "http://198.51.100.1/"
	vip6             = "http://[2001:db8:100::1]/"
)

// TestCluster goes through the life of one cluster, on a binary with the race
// detector. The steps build on one another.
func TestCluster(t *testing.T) {
	t.Setenv("GORACE", "halt_on_error=1 exitcode=66")
	s := bringUp(t, "cluster", true)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"both families are served", bothFamilies},
		{"a bad document is refused whole", badDocument},
		{"a second init is refused", secondInit},
		{"a second node in one directory is refused", secondServe},
		{"a token is good for one join", tokenOnce},
		{"a join to a dead address is refused", deadJoin},
		{"a taken port keeps that node on the old configuration", takenPort},
		{"a drain survives a restart", drainSurvives},
		{"SIGTERM leaves nothing on the loopback interface", gracefulStop},
		{"without quorum, serving and restarting go on and writing is refused", noQuorum},
		{"a leader killed in the middle of applies loses nothing acknowledged", leaderKilled},
		{"a damaged log is told, and the node can join again", damagedLog},
	} {
		if !t.Run(step.name, func(t *testing.T) { s.t = t; step.run(t, s) }) {
			break
		}
	}
	s.t = t
	for _, n := range []string{"n1", "n2", "n3"} {
		if strings.Contains(s.log(n), "DATA RACE") {
			t.Errorf("%s: a data race", n)
		}
	}
}

func bothFamilies(t *testing.T, s *site) {
	s.awaitNextHops(hop1, hop2, hop3)
	for _, url := range []string{vip4, vip6} {
		if _, err := s.fetch(url); err != nil {
			t.Error(err)
		}
	}
	if out := s.must("n3", "pharos", "explain", "vip", "web"); !strings.Contains(out, "3 of 3 nodes announce") {
		t.Errorf("explain vip web:\n%s", out)
	}
}

func (s *site) version(asked string) uint64 {
	s.t.Helper()
	var got struct{ Version uint64 }
	out := s.must(asked, "pharos", "get", "-o", "json")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		s.t.Fatal(err)
	}
	return got.Version
}

func badDocument(t *testing.T, s *site) {
	before := s.version("n1")
	doc := s.write("bad.yaml", `vips:
  - {name: web, addresses: [198.51.100.1]}
listeners:
  - {name: a, vip: web, port: 80, protocol: http, pool: missing}
  - {name: b, vip: web, port: 80, protocol: http, pool: app}
pools:
  - name: app
    servers:
      - {name: s, address: "10.0.21.2:8080", wieght: 3}
`)
	s.refused("n2", []string{"pharos", "apply", "-f", doc},
		"bad.yaml:4:", "listeners[0].pool", "listeners[1].port", "bad.yaml:9:", "wieght", "weight")
	if after := s.version("n1"); after != before {
		t.Errorf("version %d became %d", before, after)
	}
}

func secondInit(t *testing.T, s *site) {
	before := s.must("n1", "sh", "-c", "ls -lR $PHAROS_DIR/security $PHAROS_DIR/pharos.yaml")
	s.refused("n1", []string{"pharos", "init", "--name", "n1", "--address", hop1}, "already")
	if after := s.must("n1", "sh", "-c", "ls -lR $PHAROS_DIR/security $PHAROS_DIR/pharos.yaml"); after != before {
		t.Errorf("files changed:\n%s\n%s", before, after)
	}
}

func secondServe(_ *testing.T, s *site) {
	s.refused("n1", []string{"pharos", "serve"}, "address already in use")
}

var tokenPattern = regexp.MustCompile(`--token (\S+)`)

func tokenOnce(t *testing.T, s *site) {
	m := tokenPattern.FindStringSubmatch(s.must("n1", "pharos", "token", "create"))
	if m == nil {
		t.Fatal("no token was printed")
	}
	first, second := filepath.Join(t.TempDir(), "n4"), filepath.Join(t.TempDir(), "n5")
	join := func(name, dir string) []string {
		return []string{"pharos", "join", hop1, "--token", m[1], "--name", name, "--address", "10.0.31.2", "--dir", dir}
	}
	s.must("client", join("n4", first)...)
	s.refused("client", join("n5", second), "already used")
	if entries, err := os.ReadDir(second); err == nil && len(entries) > 0 {
		t.Errorf("the refused join left %v", entries)
	}
	mistyped := join("n5", second)
	mistyped[4] = m[1][:len(m[1])-1] + "x"
	if mistyped[4] == m[1] {
		mistyped[4] = m[1][:len(m[1])-1] + "y"
	}
	s.refused("client", mistyped, "token")
}

func deadJoin(t *testing.T, s *site) {
	m := tokenPattern.FindStringSubmatch(s.must("n1", "pharos", "token", "create"))
	s.refused("client", []string{"pharos", "join", "10.0.31.1", "--token", m[1], "--name", "n6", "--address", "10.0.31.2", "--dir", filepath.Join(t.TempDir(), "n6")},
		"10.0.31.1:7443")
}

// clusterYAML is the lab's configuration with a change.
func (s *site) clusterYAML(old, replacement string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.lab.ClusterFile())
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.Replace(string(b), old, replacement, 1)
	if old != replacement && text == string(b) {
		s.t.Fatalf("the lab's configuration has no %q", old)
	}
	return s.write("cluster.yaml", text)
}

func takenPort(t *testing.T, s *site) {
	ctx := t.Context()
	squatter := s.lab.Command(ctx, "n2", "pharos", "lab", "backend", "--listen", ":8090", "--tcp", ":8091", "--name", "squatter")
	if err := squatter.Start(); err != nil {
		t.Fatal(err)
	}
	s.await("the squatter to listen", func() error {
		if out := s.must("n2", "ss", "-Hltn", "sport", "=", "8090"); out == "" {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	doc := s.clusterYAML("listeners:\n", "listeners:\n  - {name: extra, vip: web, port: 8090, protocol: http, pool: web}\n")
	s.refused("n1", []string{"pharos", "apply", "-f", doc, "--wait"}, "n2")
	if out := s.must("n2", "pharos", "status"); !strings.Contains(out, "8090") {
		t.Errorf("status on n2 does not give the reason:\n%s", out)
	}
	s.awaitNextHops(hop1, hop2, hop3) // the old configuration is served
	if err := squatter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = squatter.Wait()
	s.await("n2 to run the configuration once the port is free", func() error {
		for _, n := range s.members("n1") {
			if n.Name == "n2" && n.AppliedVersion != s.version("n1") {
				return fmt.Errorf("it runs %d", n.AppliedVersion)
			}
		}
		return nil
	})
	s.must("n1", "pharos", "apply", "-f", s.lab.ClusterFile(), "--wait")
}

func drainSurvives(t *testing.T, s *site) {
	s.must("n1", "pharos", "drain", "n3")
	s.awaitNextHops(hop1, hop2)
	s.end("n3", syscall.SIGTERM)
	s.start("n3")
	s.await("n3 to be back", func() error {
		if r := s.on("n3", "pharos", "status"); r.code != 0 {
			return fmt.Errorf("%s", r.stderr)
		}
		return nil
	})
	if out := s.must("n1", "pharos", "explain", "vip", "web"); !strings.Contains(out, "drain") {
		t.Errorf("explain does not say that n3 is drained:\n%s", out)
	}
	s.must("n1", "pharos", "undrain", "n3")
	s.awaitNextHops(hop1, hop2, hop3)
}

func gracefulStop(t *testing.T, s *site) {
	if out := s.must("n3", "ip", "addr", "show", "dev", "lo"); !strings.Contains(out, "198.51.100.1") {
		t.Fatalf("the VIP is not there in the first place:\n%s", out)
	}
	s.end("n3", syscall.SIGTERM)
	s.awaitNextHops(hop1, hop2)
	if out := s.must("n3", "ip", "addr", "show", "dev", "lo"); strings.Contains(out, "198.51.100.1") || strings.Contains(out, "2001:db8:100::1") {
		t.Errorf("left behind:\n%s", out)
	}
	s.start("n3")
	s.awaitNextHops(hop1, hop2, hop3)
}

func noQuorum(t *testing.T, s *site) {
	version := s.version("n1")
	s.end("n2", syscall.SIGKILL)
	s.end("n3", syscall.SIGKILL)
	s.awaitNextHops(hop1)
	if _, err := s.fetch(vip4); err != nil {
		t.Error(err)
	}
	s.await("n1 to know that nobody leads", func() error {
		if out := s.must("n1", "pharos", "status", "-o", "json"); !strings.Contains(out, `"leader": ""`) {
			return errors.New("it still names a leader")
		}
		return nil
	})
	s.refused("n1", []string{"pharos", "apply", "-f", s.clusterYAML("interval: 500ms", "interval: 600ms"), "--timeout", "10s"}, "no leader", "majority")
	// The last one alive restarts: it has nobody to ask what to serve.
	s.end("n1", syscall.SIGKILL)
	s.awaitNextHops()
	s.start("n1")
	s.awaitNextHops(hop1)
	if _, err := s.fetch(vip4); err != nil {
		t.Error(err)
	}
	if after := s.version("n1"); after != version {
		t.Errorf("without a leader n1 shows version %d, and ran %d", after, version)
	}
	s.start("n2", "n3")
	s.awaitNextHops(hop1, hop2, hop3)
	s.leader("n1")
	s.must("n1", "pharos", "apply", "-f", s.lab.ClusterFile(), "--wait")
}

func leaderKilled(t *testing.T, s *site) {
	nodes := []string{"n1", "n2", "n3"}
	weight := 1
	for range 3 {
		leader := s.leader("n1")
		other := nodes[(slices.Index(nodes, leader)+1)%3]
		stop, done := make(chan struct{}), make(chan int)
		first := make(chan struct{})
		// acked is the last weight whose apply was acknowledged; later ones
		// may or may not have been carried out.
		go func() {
			acked := weight
			defer func() { done <- acked }()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				weight = weight%256 + 1
				doc := s.clusterYAML(`address: "10.0.21.2:8080"}`, fmt.Sprintf(`address: "10.0.21.2:8080", weight: %d}`, weight))
				if r := s.on(other, "pharos", "apply", "-f", doc); r.code == 0 {
					acked = weight
				}
				if n == 2 {
					close(first)
				}
			}
		}()
		<-first
		s.end(leader, syscall.SIGKILL)
		s.leader(other)
		close(stop)
		acked := <-done
		s.start(leader)
		s.awaitNextHops(hop1, hop2, hop3)
		s.must("n1", "pharos", "member", "list")
		for _, n := range nodes {
			s.await(n+" to have what was acknowledged", func() error {
				got := s.weight(n)
				// Weights count upwards: what was acknowledged, or one tried since.
				if since := (got - acked + 256) % 256; since > (weight-acked+256)%256 {
					return fmt.Errorf("weight %d, acknowledged %d, last tried %d", got, acked, weight)
				}
				return nil
			})
		}
	}
	s.must("n1", "pharos", "apply", "-f", s.lab.ClusterFile(), "--wait")
}

var weightPattern = regexp.MustCompile(`10\.0\.21\.2:8080", weight: (\d+)`)

func (s *site) weight(asked string) int {
	s.t.Helper()
	out := s.must(asked, "pharos", "get", "pools", "web", "-o", "yaml")
	m := weightPattern.FindStringSubmatch(out)
	if m == nil {
		s.t.Fatalf("no weight in:\n%s", out)
	}
	w, err := strconv.Atoi(m[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

func damagedLog(t *testing.T, s *site) {
	s.end("n2", syscall.SIGTERM)
	path := filepath.Join(s.lab.NodeDir("n2"), "raft", "log.db")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()/3); err != nil {
		t.Fatal(err)
	}
	s.refused("n2", []string{"pharos", "serve"}, "log.db", "remove")
	if err := os.RemoveAll(filepath.Join(s.lab.NodeDir("n2"), "raft")); err != nil {
		t.Fatal(err)
	}
	s.start("n2")
	s.awaitNextHops(hop1, hop2, hop3)
	s.await("n2 to have the cluster's configuration", func() error {
		if r := s.on("n2", "pharos", "get", "-o", "json"); r.code != 0 || !strings.Contains(r.stdout, `"vips"`) {
			return fmt.Errorf("%s%s", r.stdout, r.stderr)
		}
		return nil
	})
}
