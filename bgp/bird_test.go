package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/bgp/bfd"
)

// Tests against a real BIRD 2: the second implementation that a node's routers
// are likely to run.

const birdBin = "/usr/sbin/bird"

// bird is a router that runs BIRD.
type bird struct {
	*router
	interval time.Duration // of BFD
}

// startBird starts a router that waits for our BGP sessions over IPv4 and IPv6,
// with BFD on both.
func startBird(t *testing.T) *bird {
	t.Helper()
	needDaemon(t, birdBin, "bird2")
	b := &bird{router: startMachine(t, 1, t.TempDir()), interval: wide.Interval}
	b.configure()
	b.start()
	return b
}

func (b *bird) at(file string) string { return filepath.Join(b.dir, file) }

func (b *bird) configure() {
	b.t.Helper()
	var neighbors strings.Builder
	for family, addresses := range map[string][2]string{"four": {"10.0.1.1", "10.0.1.2"}, "six": {"fd00:1::1", "fd00:1::2"}} {
		fmt.Fprintf(&neighbors, `protocol bgp %s {
	local %s as 65000;
	neighbor %s as 65010;
	passive on;
	bfd on;
	hold time 3;
	ipv4 { import all; export none; };
	ipv6 { import all; export none; };
}
`, family, addresses[0], addresses[1])
	}
	b.write("bird.conf", fmt.Sprintf(`router id 10.0.1.1;
protocol device {}
protocol bfd watch {
	interface "eth0" { interval %d ms; multiplier %d; };
}
%s`, b.interval.Milliseconds(), wide.Multiplier, neighbors.String()))
}

func (b *bird) start() {
	b.t.Helper()
	b.run(birdBin, "-c", b.at("bird.conf"), "-s", b.at("bird.ctl"), "-P", b.at("bird.pid"))
}

// kill ends BIRD by SIGKILL: neither BFD nor BGP say a word.
func (b *bird) kill() {
	b.t.Helper()
	pid, err := os.ReadFile(b.at("bird.pid"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.run("kill", "-9", strings.TrimSpace(string(pid)))
	_ = os.Remove(b.at("bird.ctl"))
}

// say gives BIRD a command.
func (b *bird) say(words ...string) string {
	b.t.Helper()
	return b.run(append([]string{"birdc", "-s", b.at("bird.ctl")}, words...)...)
}

// birdPeer is what BIRD knows of a BFD session.
type birdPeer struct {
	state             string
	interval, timeout time.Duration
}

// peer asks BIRD for its session with an address of ours.
func (b *bird) peer(address string) birdPeer {
	out, err := b.inside("birdc", "-s", b.at("bird.ctl"), "show", "bfd", "sessions").Output()
	if err != nil {
		return birdPeer{} // not up yet
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(address) + `\s+\S+\s+(\S+)\s+\S+(?: \S+)?\s+([0-9.]+)\s+([0-9.]+)\s*$`).FindSubmatch(out)
	if line == nil {
		return birdPeer{}
	}
	seconds := func(b []byte) time.Duration {
		d, _ := time.ParseDuration(string(b) + "s")
		return d
	}
	return birdPeer{state: string(line[1]), interval: seconds(line[2]), timeout: seconds(line[3])}
}

func birdNeighbor(address string, routes ...Route) Neighbor {
	n := neighbor(1, 65000, 65010, routes...)
	n.Address = netip.MustParseAddr(address)
	return n
}

func TestBFDWithBIRD(t *testing.T) {
	for name, c := range map[string]struct{ router, us string }{
		"IPv4": {"10.0.1.1", "10.0.1.2"},
		"IPv6": {"fd00:1::1", "fd00:1::2"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBird(t)
			s := startSpeaker(t)
			n := birdNeighbor(c.router, route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2"))
			reconcile(t, s, state(watched(n, wide)))
			awaitStatus(t, s, "tor1", "BGP and BFD up", func(st SessionStatus) bool { return bfdUp(st) && len(st.Announced) == 2 })
			eventually(t, "BIRD says up, with our timers", func() bool {
				p := b.peer(c.us)
				return p.state == "Up" && p.interval == 300*time.Millisecond && p.timeout == 1500*time.Millisecond
			})
			for _, vip := range []string{vip4, vip6} {
				if out := b.say("show", "route", vip, "all"); !strings.Contains(out, vip) || !strings.Contains(out, "BGP.as_path: 65010") {
					t.Errorf("BIRD's route to %s: %s", vip, out)
				}
			}

			// Timers change on the session as it is, from either side.
			reconcile(t, s, state(watched(n, bfd.Config{Interval: 400 * time.Millisecond, Multiplier: 6})))
			eventually(t, "BIRD has the new timers", func() bool {
				p := b.peer(c.us)
				return p.interval == 400*time.Millisecond && p.timeout == 2400*time.Millisecond
			})
			b.interval = 500 * time.Millisecond
			b.configure()
			b.say("configure")
			awaitStatus(t, s, "tor1", "BIRD's new timers in use", func(st SessionStatus) bool {
				return st.BFD.Transmit == 500*time.Millisecond && st.BFD.Detection == 2500*time.Millisecond
			})
			if st := s.Status()[0]; st.Flaps != 0 || st.BFD.Failures != 0 {
				t.Errorf("a change of timers was not without an interruption: %+v, %+v", st, st.BFD)
			}

			// BIRD dies, and comes back.
			b.kill()
			awaitStatus(t, s, "tor1", "the loss", func(st SessionStatus) bool { return !bfdUp(st) && st.Flaps == 1 })
			b.start()
			awaitStatus(t, s, "tor1", "up again", bfdUp)
			eventually(t, "BIRD says up again", func() bool { return b.peer(c.us).state == "Up" })
		})
	}
}

// runSpeaker runs a speaker until stop.
func runSpeaker(t *testing.T) (s *Speaker, stop func()) {
	t.Helper()
	s = New(Config{Logger: testLogger(t)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// BIRD 2.0 ends its BFD without a word, and takes our end of it for a failure.
func TestEndsOfBFDWithBIRD(t *testing.T) {
	b := startBird(t)
	s, stop := runSpeaker(t)
	n := birdNeighbor("10.0.1.1", route(vip4, "10.0.1.2"))
	reconcile(t, s, state(watched(n, wide)))
	awaitStatus(t, s, "tor1", "BGP and BFD up", bfdUp)
	eventually(t, "BIRD says up", func() bool { return b.peer("10.0.1.2").state == "Up" })

	b.say("disable", "watch")
	st := awaitStatus(t, s, "tor1", "the silence", func(st SessionStatus) bool { return st.Flaps == 1 })
	if st.BFD.Failures != 1 || st.BFD.Diag != bfd.DiagExpired {
		t.Errorf("after BIRD's BFD was disabled: %+v", st.BFD)
	}
	b.say("enable", "watch")
	st = awaitStatus(t, s, "tor1", "up again", bfdUp)
	eventually(t, "BIRD says up again", func() bool { return b.peer("10.0.1.2").state == "Up" })

	// Who does not ask for BFD any more has BGP go on.
	n.Routes = append(n.Routes, route("198.51.100.2/32", "10.0.1.2"))
	reconcile(t, s, state(n))
	eventually(t, "the second route", func() bool { return strings.Contains(b.say("show", "route"), "198.51.100.2/32") })
	reconcile(t, s, state(watched(n, wide)))
	if now := awaitStatus(t, s, "tor1", "as before", bfdUp); now.Flaps != 1 || !now.Since.Equal(st.Since) || now.BFD.Failures != 1 {
		t.Errorf("before %+v, after %+v, %+v", st, now, now.BFD)
	}

	// We stop, and are back.
	stop()
	eventually(t, "the routes gone", func() bool { return !strings.Contains(b.say("show", "route"), "198.51.100") })
	s, _ = runSpeaker(t)
	reconcile(t, s, state(watched(n, wide)))
	awaitStatus(t, s, "tor1", "BGP and BFD up with the next process", bfdUp)
}

// BIRD hears at once that our side of a session is taken down on purpose: its
// detection time is over a minute.
func TestBIRDHearsAdminDown(t *testing.T) {
	needDaemon(t, birdBin, "bird2")
	b := &bird{router: startMachine(t, 1, t.TempDir())}
	b.write("bird.conf", `router id 10.0.1.1;
protocol device {}
protocol bfd watch {
	interface "eth0" { interval 300 ms; multiplier 5; };
	neighbor 10.0.1.2 dev "eth0" local 10.0.1.1;
	neighbor fd00:1::2 dev "eth0" local fd00:1::1;
}
`)
	b.start()
	e := bfd.New(bfd.Options{Logger: testLogger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	c := bfd.Config{Interval: 300 * time.Millisecond, Multiplier: bfd.MaxMultiplier}
	four := bfd.Peer{Name: "four", Address: netip.MustParseAddr("10.0.1.1"), Config: c}
	six := bfd.Peer{Name: "six", Address: netip.MustParseAddr("fd00:1::1"), Config: c}
	if err := e.Set([]bfd.Peer{four, six}); err != nil {
		t.Fatal(err)
	}
	state := func(address, want string) {
		t.Helper()
		eventually(t, "BIRD says "+want+" of "+address, func() bool { return b.peer(address).state == want })
	}
	state("10.0.1.2", "Up")
	state("fd00:1::2", "Up")
	if err := e.Set([]bfd.Peer{six}); err != nil {
		t.Fatal(err)
	}
	state("10.0.1.2", "Down")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	state("fd00:1::2", "Down")
}
