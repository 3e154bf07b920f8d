package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/lab/fault"
	"github.com/pharos-lb/pharos/lab/traffic"
	"github.com/pharos-lb/pharos/lab/traffic/record"
)

// TestMain makes the test binary the prober of the fake site, too.
func TestMain(m *testing.M) {
	if os.Getenv("DRILL_TEST_PROBE") != "" {
		if err := probe(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// probe is what "pharos drill probe" does with the arguments that Run gives it.
func probe(args []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	c := traffic.Config{MaxInFlight: 1000, Path: "/", ExpectStatus: 200}
	target := flags.String("target", "", "")
	flags.DurationVar(&c.Interval, "interval", 0, "")
	flags.DurationVar(&c.Timeout, "timeout", 0, "")
	flags.DurationVar(&c.Duration, "duration", 0, "")
	flags.IntVar(&c.Count, "count", 0, "")
	flags.BoolVar(&c.RequirePeer, "require-peer", false, "")
	flags.Bool("stop-with-stdin", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if c.Target, err = netip.ParseAddrPort(*target); err != nil {
		return err
	}
	p, err := traffic.New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	out := bufio.NewWriter(os.Stdout)
	if err := p.Run(ctx, func(l record.Line) {
		line, _ := record.Append(nil, l)
		_, _ = out.Write(line)
		if l.Probe != nil && l.Probe.Sequence%10 == 0 {
			_ = out.Flush()
		}
	}); err != nil {
		return err
	}
	return out.Flush()
}

// fakeSite is a cluster of three nodes that a test can break: a server on
// loopback that answers for the node that the "router" picks, and files that
// its "ip" prints.
type fakeSite struct {
	t       *testing.T
	target  netip.AddrPort
	routes  string // file: what "ip -j route show" prints
	monitor string // file: what "ip monitor" prints

	mu    sync.Mutex
	next  int
	hops  []string
	dead  map[string]bool
	fault fakeFault
}

// fakeFault says how the fake behaves, and counts what was done to it.
type fakeFault struct {
	site *fakeSite
	node string

	detects    time.Duration // from the fault until the router drops the node
	neverDrops bool
	deafIp     bool // the monitor misses what happens
	injectErr  error
	startsDead bool // what comes back does not serve, though the router has it
	harmless   bool // the node goes on serving, and the router keeps it, unless it passes
	passes     bool // the router drops the node for a moment
	met        uint64

	injected, reverted int
}

const fakeNodes = 3

func address(node string) string { return "10.0." + node[1:] + ".2" }

func newFakeSite(t *testing.T) *fakeSite {
	t.Helper()
	dir := t.TempDir()
	s := &fakeSite{t: t, routes: filepath.Join(dir, "routes"), monitor: filepath.Join(dir, "monitor"), hops: []string{"n1", "n2", "n3"}, dead: map[string]bool{}}
	s.fault = fakeFault{site: s, detects: 40 * time.Millisecond}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.target = l.Addr().(*net.TCPAddr).AddrPort()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	if err := os.WriteFile(s.monitor, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write()
	return s
}

func (s *fakeSite) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	s.mu.Lock()
	s.next++
	node := s.hops[s.next%len(s.hops)]
	dead := s.dead[node]
	s.mu.Unlock()
	if dead {
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"backend\":\"b1\",\"peer\":\"%s:99\"}", address(node))
}

// route changes the router's next hops.
func (s *fakeSite) route(hops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hops = hops
	s.write()
	if s.fault.deafIp {
		return
	}
	f, err := os.OpenFile(s.monitor, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.t.Error(err)
		return
	}
	line := fmt.Sprintf("[%s] %s proto bgp metric 20 ", time.Now().UTC().Format("2006-01-02T15:04:05.000000"), s.target.Addr())
	for _, h := range hops {
		line += fmt.Sprintf("\\\tnexthop via %s dev eth%s weight 1 ", address(h), h[1:])
	}
	_, err = f.WriteString(line + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Error(err)
	}
}

// write writes the routes' file; the caller holds mu.
func (s *fakeSite) write() {
	type hop map[string]any
	var nexthops []hop
	for _, h := range s.hops {
		nexthops = append(nexthops, hop{"gateway": address(h), "dev": "eth" + h[1:], "weight": 1})
	}
	out, _ := json.Marshal([]hop{{"dst": s.target.Addr().String(), "protocol": "bgp", "metric": 20, "nexthops": nexthops}})
	if err := os.WriteFile(s.routes, out, 0o600); err != nil {
		s.t.Error(err)
	}
}

func (s *fakeSite) Name() string           { return "fake" }
func (s *fakeSite) Target() netip.AddrPort { return s.target }
func (s *fakeSite) Nodes() []string        { return []string{"n1", "n2", "n3"} }
func (s *fakeSite) ProbeArgs() []string    { return []string{"--require-peer"} }
func (s *fakeSite) OneClock() bool         { return true }

func (s *fakeSite) NodeNames() map[string]string {
	names := map[string]string{}
	for _, n := range s.Nodes() {
		names[address(n)] = n
	}
	return names
}

func (s *fakeSite) Prober(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "DRILL_TEST_PROBE=1")
	return cmd
}

func (s *fakeSite) Router(ctx context.Context, argv ...string) *exec.Cmd {
	if slices.Contains(argv, "monitor") {
		return exec.CommandContext(ctx, "tail", "-n", "+1", "-f", s.monitor)
	}
	return exec.CommandContext(ctx, "cat", s.routes)
}

func (s *fakeSite) Fault(_ Kind, node string, _ ...string) (fault.Injector, error) {
	s.fault.node = node
	return &s.fault, nil
}

func (f *fakeFault) Inject(context.Context) (fault.Moment, error) {
	f.injected++
	m := fault.Moment{Began: time.Now()}
	if f.injectErr != nil {
		return m, f.injectErr
	}
	others := slices.DeleteFunc(f.site.Nodes(), func(n string) bool { return n == f.node })
	if f.passes {
		time.AfterFunc(f.detects, func() { f.site.route(others...) })
		time.AfterFunc(2*f.detects, func() { f.site.route(f.site.Nodes()...) })
	}
	if f.harmless {
		m.Done = time.Now()
		return m, nil
	}
	f.site.mu.Lock()
	f.site.dead[f.node] = true
	f.site.mu.Unlock()
	if !f.neverDrops {
		time.AfterFunc(f.detects, func() { f.site.route(others...) })
	}
	m.Done = time.Now()
	return m, nil
}

func (f *fakeFault) Revert(context.Context) (fault.Moment, error) {
	f.reverted++
	m := fault.Moment{Began: time.Now(), Done: time.Now()}
	f.site.mu.Lock()
	f.site.dead[f.node] = f.startsDead
	f.site.mu.Unlock()
	if !f.harmless {
		f.site.route(f.site.Nodes()...)
	}
	return m, nil
}

func (f *fakeFault) Count(context.Context) (uint64, error) {
	if f.met == 0 && !f.harmless {
		return 0, fault.ErrNoCount
	}
	return f.met, nil
}
