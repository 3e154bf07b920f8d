package member

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(runChild(spec))
	}
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second

var key = bytes.Repeat([]byte{7}, keyBytes)

// freeAddr gives a loopback address whose port is free for UDP and TCP.
func freeAddr(tb testing.TB) netip.AddrPort {
	tb.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenPacket("udp", addr.String())
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return addr
		}
	}
	tb.Fatal("no port is free for both UDP and TCP")
	return netip.AddrPort{}
}

type node struct {
	*Membership
	cfg  Config
	stop func() error
}

func logger(tb testing.TB, name string) *slog.Logger {
	level := slog.LevelError + 4
	if os.Getenv("PHAROS_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: level})).With("node", name)
}

func start(tb testing.TB, cfg Config) *node {
	tb.Helper()
	m, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	n := &node{Membership: m, cfg: cfg}
	n.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Run did not return after its context ended")
		}
	})
	tb.Cleanup(func() {
		if err := n.stop(); err != nil {
			tb.Errorf("stop %s: %v", cfg.Name, err)
		}
	})
	return n
}

// group starts nodes that know all addresses from the start.
func group(tb testing.TB, adjust func(*Config), names ...string) []*node {
	tb.Helper()
	var addrs []netip.AddrPort
	var seeds []string
	for range names {
		a := freeAddr(tb)
		addrs, seeds = append(addrs, a), append(seeds, a.String())
	}
	var nodes []*node
	for i, name := range names {
		cfg := Config{
			Name: name, BindAddr: addrs[i], SecretKey: key, Logger: logger(tb, name),
			Seeds: func() []string { return seeds },
		}
		if adjust != nil {
			adjust(&cfg)
		}
		nodes = append(nodes, start(tb, cfg))
	}
	for _, n := range nodes {
		n.await(tb, "all members alive", func(ms []Member) bool { return living(ms) == len(names) })
	}
	return nodes
}

func living(ms []Member) (n int) {
	for _, m := range ms {
		if m.Alive {
			n++
		}
	}
	return n
}

func find(ms []Member, name string) Member {
	for _, m := range ms {
		if m.Name == name {
			return m
		}
	}
	return Member{}
}

func (n *node) await(tb testing.TB, what string, ok func([]Member) bool) {
	tb.Helper()
	deadline := time.After(patience)
	for {
		ms, changed := n.Watch()
		if ok(ms) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			tb.Fatalf("%s waited in vain for %s: %+v", n.cfg.Name, what, ms)
		}
	}
}

func TestMembersFindEachOther(t *testing.T) {
	nodes := group(t, nil, "n1", "n2", "n3")
	if err := nodes[0].SetMeta(Meta{Control: "192.0.2.1:7443", Ready: true, AppliedVersion: 7}); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.await(t, "n1's metadata", func(ms []Member) bool {
			m := find(ms, "n1")
			return m.Ready && m.AppliedVersion == 7 && m.Control == "192.0.2.1:7443"
		})
		if self := find(n.Members(), n.cfg.Name); !self.Self || !self.Alive {
			t.Errorf("%s sees itself as %+v", n.cfg.Name, self)
		}
	}
}

func TestAPlannedLeaveIsSeen(t *testing.T) {
	nodes := group(t, nil, "n1", "n2", "n3")
	if err := nodes[2].stop(); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:2] {
		n.await(t, "n3's departure", func(ms []Member) bool { return !find(ms, "n3").Alive })
	}
	back := start(t, nodes[2].cfg)
	for _, n := range append(nodes[:2:2], back) {
		n.await(t, "n3's return", func(ms []Member) bool { return living(ms) == 3 })
	}
}

func TestALateSeedIsFound(t *testing.T) {
	late := freeAddr(t)
	seeds := func() []string { return []string{late.String()} }
	early := start(t, Config{Name: "n1", BindAddr: freeAddr(t), SecretKey: key, Seeds: seeds, Logger: logger(t, "n1")})
	early.await(t, "itself", func(ms []Member) bool { return living(ms) == 1 })
	start(t, Config{Name: "n2", BindAddr: late, SecretKey: key, Logger: logger(t, "n2")})
	early.await(t, "the late seed", func(ms []Member) bool { return living(ms) == 2 })
}

func TestAClockAnHourOffIsSeen(t *testing.T) {
	nodes := group(t, func(c *Config) {
		if c.Name == "n2" {
			c.Now = func() time.Time { return time.Now().Add(time.Hour) }
		}
	}, "n1", "n2", "n3")
	for _, c := range []struct {
		of, by string
		want   time.Duration
	}{{"n2", "n1", time.Hour}, {"n1", "n2", -time.Hour}, {"n3", "n1", 0}} {
		for _, n := range nodes {
			if n.cfg.Name != c.by {
				continue
			}
			n.await(t, "the clock of "+c.of, func(ms []Member) bool { return find(ms, c.of).ClockKnown })
			m := find(n.Members(), c.of)
			if off := (m.ClockOffset - c.want).Abs(); off > m.ClockError+time.Millisecond {
				t.Errorf("%s takes the clock of %s to be %v off, to within %v; want %v", c.by, c.of, m.ClockOffset, m.ClockError, c.want)
			}
		}
	}
}

// lockedBuffer is a log that a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAnotherKeyIsRefusedAndLoggedOnce(t *testing.T) {
	var log lockedBuffer
	ours := start(t, Config{
		Name: "n1", BindAddr: freeAddr(t), SecretKey: key,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	ours.await(t, "itself", func(ms []Member) bool { return living(ms) == 1 })
	asked := make(chan struct{}, 100)
	stranger := start(t, Config{
		Name: "x", BindAddr: freeAddr(t), SecretKey: bytes.Repeat([]byte{8}, keyBytes), Logger: logger(t, "x"),
		Seeds: func() []string { asked <- struct{}{}; return []string{ours.cfg.BindAddr.String()} },
	})
	for range 4 { // each but the first follows an attempt that has failed
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("the stranger has stopped trying")
		}
	}
	if n := living(ours.Members()); n != 1 {
		t.Errorf("%d members alive, want this one alone", n)
	}
	if n := living(stranger.Members()); n != 1 {
		t.Errorf("the stranger has %d members alive, want itself alone", n)
	}
	if n := strings.Count(log.String(), "decrypt"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
}

func TestConfigFaults(t *testing.T) {
	good := Config{Name: "n1", BindAddr: netip.MustParseAddrPort("127.0.0.1:7946"), SecretKey: key}
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"no name":          {func(c *Config) { c.Name = "" }, "name: missing"},
		"no address":       {func(c *Config) { c.BindAddr = netip.AddrPort{} }, "bind_addr: missing"},
		"a wildcard":       {func(c *Config) { c.BindAddr = netip.MustParseAddrPort("0.0.0.0:1") }, "advertise_addr: "},
		"no key":           {func(c *Config) { c.SecretKey = nil }, "secret_key: 0 bytes"},
		"a short key":      {func(c *Config) { c.SecretKey = key[:16] }, "secret_key: 16 bytes"},
		"a long timeout":   {func(c *Config) { c.ProbeTimeout = time.Hour }, "probe_timeout: "},
		"a negative grace": {func(c *Config) { c.SuspicionMult = -1 }, "suspicion_mult: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.spoil(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestATakenPortIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, err := New(Config{Name: "n1", BindAddr: l.Addr().(*net.TCPAddr).AddrPort(), SecretKey: key})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v, want that the address is in use", err)
	}
	if err := m.Run(context.Background()); err == nil {
		t.Error("a second Run is no error")
	}
}

func TestParseLine(t *testing.T) {
	for line, want := range map[string]struct {
		level slog.Level
		text  string
	}{
		"[DEBUG] memberlist: a\n": {slog.LevelDebug, "a"},
		"[INFO] memberlist: b":    {slog.LevelInfo, "b"},
		"[ERR] memberlist: c":     {slog.LevelWarn, "c"},
		"Err: plain":              {slog.LevelWarn, "Err: plain"},
	} {
		if level, text := parseLine(line); level != want.level || text != want.text {
			t.Errorf("%q gave %v, %q; want %v, %q", line, level, text, want.level, want.text)
		}
	}
}
