package endtoend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What one run of TestUpgradesUnderLoad is.
const (
	loadRequests = 100_000
	loadChanges  = 100
	loadUpgrades = 5
	loadClients  = 24 // a third of them makes a new connection for each request
)

// TestUpgradesUnderLoad: not one request through the router fails while the
// configuration changes 100 times and nodes are upgraded 5 times, and the
// router's routes do not change, nor its BFD sessions.
func TestUpgradesUnderLoad(t *testing.T) {
	s := bringUp(t, "upgrades", false)
	s.awaitNextHops(hop1, hop2, hop3)
	routes := s.watchRoutes()
	sameBFD := s.watchBFD()
	held := s.hold(6)
	load := s.startLoad()
	var slow func() error
	changes, upgrades := 0, 0
	for (load.answered.Load() < loadRequests || changes < loadChanges || upgrades < loadUpgrades) && !t.Failed() {
		// Progress is the clock, so that a slow machine has the same test.
		switch done := min(load.answered.Load(), loadRequests); {
		case done >= int64(upgrades)*loadRequests/loadUpgrades+loadRequests/20 && upgrades < loadUpgrades:
			node := []string{"n1", "n2", "n3"}[upgrades%3]
			upgrades++
			if slow == nil {
				slow = s.askSlowly(6)
			}
			t.Logf("%d requests: upgrade %d, of %s: %s", done, upgrades, node, strings.TrimSpace(s.must(node, "pharos", "upgrade")))
		case done >= int64(changes)*loadRequests/loadChanges && changes < loadChanges:
			changes++
			doc := s.clusterYAML(`{name: b1, address: "10.0.21.2:8080"}`,
				fmt.Sprintf(`{name: b1, address: "10.0.21.2:8080", weight: %d}`, 1+changes%4))
			s.await(fmt.Sprintf("change %d", changes), func() error {
				if r := s.on([]string{"n1", "n2", "n3"}[changes%3], "pharos", "apply", "-f", doc); r.code != 0 {
					return fmt.Errorf("exit code %d: %s", r.code, r.stderr) // no leader, for a moment
				}
				return nil
			})
		default:
			time.Sleep(time.Millisecond) // between looks
		}
	}
	took := load.stop()
	t.Logf("%d requests (%d on new connections) in %s, %d failed; %d changes, %d upgrades",
		load.answered.Load(), load.fresh.Load(), took.Round(time.Millisecond), load.failed.Load(), changes, upgrades)
	if slow == nil {
		t.Fatal("not one upgrade was begun")
	}
	if err := slow(); err != nil {
		t.Errorf("an answer that took longer than the first upgrade: %v", err)
	}
	for i, c := range held {
		if err := echo(c); err != nil {
			t.Errorf("connection %d, held since before the first upgrade: %v", i, err)
		}
		_ = c.Close()
	}
	if lines := routes(); len(lines) > 0 {
		t.Errorf("the router's routes to the VIP changed:\n%s", strings.Join(lines, "\n"))
	}
	sameBFD(t)
	for _, node := range []string{"n1", "n2", "n3"} {
		if pid, err := s.lab.Pid(node); err != nil {
			t.Errorf("the process that the lab knows of %s: %d, %v", node, pid, err)
		}
	}
	s.upgradesThatFail(t)
}

// upgradesThatFail: the node carries on, and says why.
func (s *site) upgradesThatFail(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type seen struct {
		Started  string
		Sessions []struct {
			State string
			Flaps int
		}
	}
	status := func() (out seen) {
		if err := json.Unmarshal([]byte(s.must("n1", "pharos", "status", "-o", "json")), &out); err != nil {
			t.Fatal(err)
		}
		if out.Started == "" || len(out.Sessions) != 1 || out.Sessions[0].Flaps != 0 {
			t.Fatalf("status: %+v", out)
		}
		return out
	}
	before := status()
	for _, tt := range []struct {
		name, binary string
		words        []string
	}{
		{"a binary that is missing", filepath.Join(dir, "missing"), []string{"runs as before", "no such file"}},
		{"one that is none", s.write("text", "nothing"), []string{"runs as before", "permission denied"}},
		{"one that ends at once", script("ends", "exit 3"), []string{"runs as before", "exit status 3"}},
		{"one that crashes", script("crashes", "kill -SEGV $$"), []string{"runs as before", "signal: segmentation fault"}},
		{"one that hangs", script("hangs", "exec sleep 600"), []string{"runs as before", "was not ready within 300ms"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			s.refused("n1", []string{"pharos", "upgrade", "--binary", tt.binary, "--start-timeout", "300ms"}, tt.words...)
		})
	}
	s.t = t
	if after := status(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("status before %+v, after %+v", before, after)
	}
	if _, err := s.fetch(vip4); err != nil {
		t.Error(err)
	}

	t.Run("a node that is drained stays so, and can be brought back", func(t *testing.T) {
		s.t = t
		s.must("n3", "pharos", "drain", "n3")
		s.awaitNextHops(hop1, hop2)
		s.must("n3", "pharos", "upgrade")
		s.must("n3", "pharos", "undrain", "n3") // refused if it were not
		s.awaitNextHops(hop1, hop2, hop3)
	})
	t.Run("SIGUSR2 upgrades, and SIGTERM reaches the successor", func(t *testing.T) {
		s.t = t
		pid, err := s.lab.Pid("n2")
		if err != nil {
			t.Fatal(err)
		}
		started := strings.Count(s.log("n2"), "node runs")
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		s.await("another process that runs n2", func() error {
			if n := strings.Count(s.log("n2"), "node runs"); n != started+1 {
				return fmt.Errorf("%d have begun to, %d before", n, started)
			}
			return nil
		})
		s.awaitNextHops(hop1, hop2, hop3)
		s.end("n2", syscall.SIGTERM)
		s.awaitNextHops(hop1, hop3)
		if out := s.must("n2", "ip", "-br", "addr", "show", "lo"); strings.Contains(out, "198.51.100.1") {
			t.Errorf("lo after SIGTERM: %s", out)
		}
	})
	t.Run("killing the process that the lab knows ends the node", func(t *testing.T) {
		s.t = t
		s.end("n1", syscall.SIGKILL)
		s.awaitNextHops(hop3)
	})
}

// load is requests from the client to the VIP, one after the other for each
// of its clients.
type load struct {
	answered, fresh, failed atomic.Int64
	stop                    func() time.Duration
}

func (s *site) startLoad() *load {
	l := &load{}
	var ended atomic.Bool
	var running sync.WaitGroup
	start := time.Now()
	for i := range loadClients {
		running.Go(func() {
			fresh := i%3 == 0
			// POST: what a client may not send again on its own is not sent again.
			transport := &http.Transport{DisableKeepAlives: fresh, DialContext: s.dialFromClient}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for !ended.Load() {
				if err := ask(client); err != nil {
					s.t.Errorf("request %d, client %d, new connection %v: %v", l.answered.Load(), i, fresh, err)
					if l.failed.Add(1) > 20 {
						return
					}
				}
				l.answered.Add(1)
				if fresh {
					l.fresh.Add(1)
				}
			}
		})
	}
	l.stop = sync.OnceValue(func() time.Duration {
		ended.Store(true)
		running.Wait()
		return time.Since(start)
	})
	s.t.Cleanup(func() { l.stop() })
	return l
}

func ask(client *http.Client) error {
	response, err := client.Post(vip4, "text/plain", strings.NewReader("once"))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(`"backend"`)) {
		return fmt.Errorf("%s, %q, %w", response.Status, b, err)
	}
	return nil
}

// askSlowly begins requests whose answers come bit by bit, over two seconds, and
// returns when all of them have begun to come. What it gives waits for their ends.
func (s *site) askSlowly(n int) (await func() error) {
	s.t.Helper()
	results := make(chan error, n)
	for range n {
		client := &http.Client{Transport: &http.Transport{DialContext: s.dialFromClient}, Timeout: patience}
		response, err := client.Get(vip4 + "slow?ms=2000&stream=1")
		if err != nil {
			s.t.Fatal(err)
		}
		go func() {
			defer client.CloseIdleConnections()
			defer response.Body.Close()
			b, err := io.ReadAll(response.Body)
			if err == nil && !bytes.Contains(b, []byte(`"backend"`)) {
				err = fmt.Errorf("it ends too early: %q", b)
			}
			results <- err
		}()
	}
	return func() (err error) {
		for range n {
			err = errors.Join(err, <-results)
		}
		return err
	}
}

// hold opens TCP connections that stay.
func (s *site) hold(n int) []net.Conn {
	s.t.Helper()
	var out []net.Conn
	for range n {
		c, err := s.dialFromClient(s.t.Context(), "tcp", "198.51.100.1:81")
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = c.Close() })
		if err := echo(c); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// echo has the backend say something again.
func echo(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "still there?\n"); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	for {
		// The backend of the lab may greet first.
		line, err := r.ReadString('\n')
		if err != nil || line == "still there?\n" {
			return err
		}
	}
}

// watchRoutes follows the router's routes to the VIP from now on; what it gives
// ends that, and tells of the changes.
func (s *site) watchRoutes() (changes func() []string) {
	s.t.Helper()
	cmd := s.lab.Command(s.t.Context(), "tor1", "ip", "monitor", "route")
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
		_ = cmd.Wait()
	}()
	// A monitor that says nothing must be known to listen: a route of ours, at
	// the beginning and at the end, is what it has to tell.
	mark := func(address string) (before []string) {
		deadline := time.After(patience)
		for again := time.After(0); ; {
			select {
			case <-again: // it may not have listened yet
				_ = s.on("tor1", "ip", "route", "del", "blackhole", address) // what is there already is no news
				s.must("tor1", "ip", "route", "add", "blackhole", address)
				again = time.After(100 * time.Millisecond)
			case line, ok := <-lines:
				if !ok {
					s.t.Fatal("the monitor of the router's routes has ended")
				}
				if strings.Contains(line, address) {
					return before
				}
				before = append(before, line)
			case <-deadline:
				s.t.Fatalf("waited %s for the monitor to tell of %s", patience, address)
			}
		}
	}
	mark("192.0.2.1")
	return func() []string {
		var changes []string
		for _, line := range mark("192.0.2.2") {
			if strings.Contains(line, "198.51.100.1") || strings.Contains(line, "2001:db8:100::1") {
				changes = append(changes, line)
			}
		}
		return changes
	}
}
