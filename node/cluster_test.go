package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// patience bounds every wait for an event. It is no measure of anything.
const patience = 2 * time.Minute

// trio is a cluster of three real nodes on loopback: real Raft, gossip, mutual
// TLS and files. What of a node touches the machine (addresses of VIPs) does
// not run, so tests have no listeners.
type trio struct {
	dirs  map[string]string
	nodes map[string]*Node
	stops map[string]func()
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	c := &trio{dirs: map[string]string{}, nodes: map[string]*Node{}, stops: map[string]func(){}}
	// Addresses of this process's own: another one that tests at the same time
	// cannot take a port between its choice and its use.
	host := func(i int) string { return fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>8&0x7f, os.Getpid()&0xff, i) }
	port := func(i int) string {
		l, err := net.Listen("tcp", net.JoinHostPort(host(i), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	gossip := port(9) // the same on all nodes: so they find each other
	config := func(i int) Config {
		control := port(i)
		for control == gossip {
			control = port(i)
		}
		return Config{
			Name: fmt.Sprintf("n%d", i), Address: net.JoinHostPort(host(i), control), Gossip: net.JoinHostPort(host(i), gossip), AccessLog: "access.log",
		}.WithDefaults()
	}
	first := config(1)
	c.dirs["n1"] = t.TempDir()
	made, err := api.Found(c.dirs["n1"], "n1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteConfig(c.dirs["n1"], first); err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(t.Context(), c.dirs["n1"], made.Token); err != nil {
		t.Fatal(err)
	}
	c.start(t, "n1")
	token := made.JoinToken
	for i := 2; i <= 3; i++ {
		own := config(i)
		c.dirs[own.Name] = filepath.Join(t.TempDir(), own.Name)
		if token == "" {
			c.ask(t, "n1", func(ctx context.Context, client *api.Client) error {
				answer, err := client.CreateToken(ctx, &pharosv1.CreateTokenRequest{})
				token = answer.GetToken()
				return err
			})
		}
		_, err := api.Join(t.Context(), api.Joining{Server: first.Address, Token: token, Name: own.Name, Address: own.Address, Dir: c.dirs[own.Name]})
		if err != nil {
			t.Fatal(err)
		}
		own.Peers, token = []string{first.Address}, ""
		if err := WriteConfig(c.dirs[own.Name], own); err != nil {
			t.Fatal(err)
		}
		c.start(t, own.Name)
	}
	c.await(t, "three live voters", func() bool {
		voting := 0
		for _, v := range c.nodes["n1"].store.Voters() {
			if v.Voting {
				voting++
			}
		}
		alive := 0
		for _, m := range c.nodes["n1"].members.Members() {
			if m.Alive {
				alive++
			}
		}
		return voting == 3 && alive == 3
	})
	return c
}

// start runs a node but for its part on the loopback interface.
func (c *trio) start(t *testing.T, name string) {
	t.Helper()
	log := &syncBuffer{}
	n, err := New(Options{Dir: c.dirs[name], Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	for _, part := range append([]task{
		{"proxy", n.proxy.Run}, {"reconciler", n.reconciler.Run}, {"speaker", n.speaker.Run},
	}, n.controlTasks()...) {
		group.Go(func() {
			if err := part.run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("%s of %s ended with %v", part.name, name, err)
			}
		})
	}
	n.serveLastApplied()
	c.nodes[name] = n
	c.stops[name] = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		if err := n.port.Close(); err != nil {
			t.Error(err)
		}
		// The log is kept with the rest of what the node wrote.
		if err := os.WriteFile(filepath.Join(c.dirs[name], "log-"+time.Now().Format(time.RFC3339Nano)), log.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(c.stops[name])
}

func (c *trio) client(t *testing.T, to string) *api.Client {
	t.Helper()
	client, err := api.DialDir(c.dirs[to], c.nodes[to].config.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// ask asks a node what may be asked twice, and again where a machine that is
// busy kept the answer away.
func (c *trio) ask(t *testing.T, of string, question func(context.Context, *api.Client) error) {
	t.Helper()
	client := c.client(t, of)
	var last error
	c.await(t, "an answer", func() bool {
		last = question(t.Context(), client)
		var answer *api.Error
		return last == nil || !errors.As(last, &answer) || answer.Code != grpccodes.Unavailable && answer.Code != grpccodes.DeadlineExceeded && answer.Code != grpccodes.Unknown
	})
	if last != nil {
		t.Fatal(last)
	}
}

// apply applies a document on a node, and waits for all.
func (c *trio) apply(t *testing.T, on, document string) *pharosv1.ApplyResponse {
	t.Helper()
	var answer *pharosv1.ApplyResponse
	c.ask(t, on, func(ctx context.Context, client *api.Client) (err error) {
		answer, err = client.Apply(ctx, &pharosv1.ApplyRequest{
			File: "cluster.yaml", Document: []byte(document), Wait: true, WaitTimeout: durationpb.New(patience),
		})
		return err
	})
	for _, n := range answer.GetNodes() {
		if !n.GetApplied() {
			t.Fatalf("%s does not run it: %s", n.GetNode(), n.GetReason())
		}
	}
	return answer
}

// leader is the node that leads, once there is one.
func (c *trio) leader(t *testing.T) string {
	t.Helper()
	name := ""
	c.await(t, "a leader", func() bool {
		for own, n := range c.nodes {
			if n != nil && n.store.IsLeader() {
				name = own
				return true
			}
		}
		return false
	})
	return name
}

// await waits until something is so.
func (c *trio) await(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("it did not come"))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, context.Cause(ctx))
		}
	}
}

// syncBuffer takes a log from several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// written gives all files below a directory, by name, that have a text.
func written(t *testing.T, dir string, text string) []string {
	t.Helper()
	var found []string
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte(text)) {
			found = append(found, strings.TrimPrefix(path, dir))
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files in %s, %v", files, dir, err)
	}
	return found
}
