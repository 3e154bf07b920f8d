package bgp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/bgp/bfd"
)

// wide are timers that a busy test machine keeps.
var wide = bfd.Config{Interval: 300 * time.Millisecond, Multiplier: 5}

// watchedRouter is a router with BFD on both its sessions with us.
func watchedRouter(t *testing.T) *router {
	t.Helper()
	return startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: " neighbor NODES bfd profile nodes", bfd: true})
}

// bfdPeer is what FRR knows of a BFD session, in part.
type bfdPeer struct {
	Peer       string `json:"peer"`
	Status     string `json:"status"`
	Diagnostic string `json:"diagnostic"`
	Transmit   int    `json:"remote-transmit-interval"`
	Receive    int    `json:"remote-receive-interval"`
	Multiplier int    `json:"remote-detect-multiplier"`
	Downs      int    `json:"session-down"`
}

func (r *router) bfd(address string) bfdPeer {
	var out bfdPeer
	for _, what := range []string{"show bfd peers json", "show bfd peers counters json"} {
		var peers []json.RawMessage
		_ = json.Unmarshal(r.vtysh(what), &peers)
		for _, p := range peers {
			var named bfdPeer
			if json.Unmarshal(p, &named) == nil && named.Peer == address {
				_ = json.Unmarshal(p, &out)
			}
		}
	}
	return out
}

func bfdUp(st SessionStatus) bool {
	return st.Established && st.BFD != nil && st.BFD.State == bfd.Up
}

func watched(n Neighbor, c bfd.Config) Neighbor {
	n.BFD = &c
	return n
}

func TestBFDWithFRR(t *testing.T) {
	for name, c := range map[string]struct{ router, us string }{
		"IPv4": {"10.0.1.1", "10.0.1.2"},
		"IPv6": {"fd00:1::1", "fd00:1::2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := watchedRouter(t)
			s := startSpeaker(t)
			n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
			n.Address = netip.MustParseAddr(c.router)
			reconcile(t, s, state(watched(n, wide)))
			awaitStatus(t, s, "tor1", "BGP and BFD up", bfdUp)
			eventually(t, "FRR says up, with our timers", func() bool {
				p := r.bfd(c.us)
				return p.Status == "up" && p.Transmit == 300 && p.Receive == 300 && p.Multiplier == 5
			})

			// Timers change on the session as it is: in a poll sequence.
			reconcile(t, s, state(watched(n, bfd.Config{Interval: 400 * time.Millisecond, Multiplier: 6})))
			eventually(t, "FRR has the new timers", func() bool {
				p := r.bfd(c.us)
				return p.Transmit == 400 && p.Receive == 400 && p.Multiplier == 6
			})
			awaitStatus(t, s, "tor1", "the new interval in use", func(st SessionStatus) bool { return st.BFD.Transmit == 400*time.Millisecond })
			r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "bfd", "-c", "profile nodes", "-c", "receive-interval 500", "-c", "transmit-interval 600")
			awaitStatus(t, s, "tor1", "FRR's new timers in use", func(st SessionStatus) bool {
				return st.BFD.Transmit == 500*time.Millisecond && st.BFD.Detection == 5*600*time.Millisecond
			})
			if st := s.Status()[0]; st.Flaps != 0 || st.BFD.Failures != 0 || r.bfd(c.us).Downs != 0 {
				t.Errorf("a change of timers was not without an interruption: %+v, %+v; FRR: %+v", st, st.BFD, r.bfd(c.us))
			}
		})
	}
}

// The router takes its side down on purpose: BGP goes on.
func TestBFDAdminDownOfFRR(t *testing.T) {
	r := watchedRouter(t)
	s := startSpeaker(t)
	reconcile(t, s, state(watched(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")), wide)))
	awaitStatus(t, s, "tor1", "BGP and BFD up", bfdUp)
	profile := func(command string) {
		t.Helper()
		r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "bfd", "-c", "profile nodes", "-c", command)
	}
	profile("shutdown")
	st := awaitStatus(t, s, "tor1", "AdminDown noticed", func(st SessionStatus) bool { return st.BFD.RemoteAdmin })
	if st.BFD.Failures != 0 || !strings.Contains(st.BFD.Reason, "on purpose") {
		t.Errorf("BFD after AdminDown: %+v", st.BFD)
	}
	profile("no shutdown")
	st = awaitStatus(t, s, "tor1", "up again", bfdUp)
	if st.BFD.Failures != 0 {
		t.Errorf("BFD after the return: %+v", st.BFD)
	}
}

// Who no longer asks for BFD here leaves it to the router to end it: FRR 8.4 and
// BIRD 2.0 would end BGP, too, if we did.
func TestBFDThatIsNoLongerAskedForEndsWithTheRouters(t *testing.T) {
	r := watchedRouter(t)
	s := startSpeaker(t)
	n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
	reconcile(t, s, state(watched(n, wide)))
	awaitStatus(t, s, "tor1", "BGP and BFD up", bfdUp)
	eventually(t, "FRR says up", func() bool { return r.bfd("10.0.1.2").Status == "up" })
	before := r.peer("10.0.1.2")

	reconcile(t, s, state(n))
	// FRR hears us still: it agrees to another timer.
	r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "bfd", "-c", "profile nodes", "-c", "transmit-interval 600")
	awaitStatus(t, s, "tor1", "FRR's new timer", func(st SessionStatus) bool {
		return st.BFD != nil && st.BFD.State == bfd.Up && st.BFD.Detection == 5*600*time.Millisecond
	})
	r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "router bgp 65000", "-c", "no neighbor NODES bfd profile nodes", "-c", "no neighbor NODES bfd")
	awaitStatus(t, s, "tor1", "the end of BFD", func(st SessionStatus) bool { return st.BFD == nil })

	// And it can begin again, from either side.
	reconcile(t, s, state(watched(n, wide)))
	r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "router bgp 65000", "-c", "neighbor NODES bfd profile nodes")
	awaitStatus(t, s, "tor1", "up again", bfdUp)
	if after := r.peer("10.0.1.2"); after.Established != before.Established || after.Dropped != before.Dropped {
		t.Errorf("BGP before %+v, after %+v", before, after)
	}
}

func TestBFDRestarts(t *testing.T) {
	r := watchedRouter(t)
	s := startSpeaker(t)
	reconcile(t, s, state(watched(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")), wide)))
	first := awaitStatus(t, s, "tor1", "BGP and BFD up", bfdUp)

	// The router's BFD dies: that is a failure, by silence or by its word.
	r.kill("bfdd")
	st := awaitStatus(t, s, "tor1", "the loss", func(st SessionStatus) bool { return st.BFD.Failures == 1 })
	awaitStatus(t, s, "tor1", "the end of BGP", func(st SessionStatus) bool { return st.Flaps == 1 })
	if st.BFD.Diag != bfd.DiagExpired {
		t.Errorf("why: %+v", st.BFD)
	}
	r.startDaemon("bfdd")
	st = awaitStatus(t, s, "tor1", "up again", bfdUp)
	if st.BFD.Discriminator != first.BFD.Discriminator || st.BFD.RemoteDiscriminator == first.BFD.RemoteDiscriminator {
		t.Errorf("before %+v, after %+v", first.BFD, st.BFD)
	}
}

func TestBFDGoesOnInASuccessorWithFRR(t *testing.T) {
	r := watchedRouter(t)
	st := state(watched(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")), wide))
	var before SessionStatus
	sessions := detached(t, st, func(s *Speaker) {
		before = awaitStatus(t, s, "tor1", "BGP and BFD up", func(st SessionStatus) bool { return bfdUp(st) && len(st.Announced) == 1 })
		eventually(t, "FRR says up", func() bool { return r.bfd("10.0.1.2").Status == "up" })
	})
	if len(sessions) != 1 || sessions[0].BFD == nil {
		t.Fatalf("handed over: %+v", sessions)
	}
	s := successor(t, st, sessions)
	after := awaitStatus(t, s, "tor1", "up in the successor", bfdUp)
	if after.BFD.Discriminator != before.BFD.Discriminator || !after.BFD.Since.Equal(before.BFD.Since) || after.BFD.Failures != 0 {
		t.Errorf("before %+v, after %+v", before.BFD, after.BFD)
	}
	// It is alive: its timers can change.
	reconcile(t, s, state(watched(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")), bfd.Config{Interval: 350 * time.Millisecond, Multiplier: 5})))
	eventually(t, "FRR has the new timers", func() bool { return r.bfd("10.0.1.2").Transmit == 350 })
	if p := r.bfd("10.0.1.2"); p.Status != "up" || p.Downs != 0 {
		t.Errorf("FRR: %+v", p)
	}
}

// Forged packets by the thousand, from the router's own machine: with a TTL
// that shows a router between, from a stranger, and from the router's address
// with a wrong discriminator.
func TestBFDFloodOfForgedPackets(t *testing.T) {
	r := watchedRouter(t)
	r.run("ip", "addr", "add", "10.0.1.9/24", "dev", "eth0")
	s := startSpeaker(t)
	reconcile(t, s, state(watched(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")), wide)))
	st := awaitStatus(t, s, "tor1", "BGP and BFD up", bfdUp)
	packet := bfd.Packet{
		State: bfd.Down, Diag: bfd.DiagExpired, DetectMult: 3, MyDiscriminator: 1, YourDiscriminator: st.BFD.Discriminator,
		DesiredMinTx: time.Second, RequiredMinRx: time.Second,
	}
	wrong := packet
	wrong.YourDiscriminator++
	unasked := packet
	unasked.State, unasked.YourDiscriminator = bfd.Up, 0
	const count = 100_000
	for _, forged := range []struct {
		name, from string
		ttl        int
		packet     bfd.Packet
	}{
		{"through a router", "10.0.1.1", 254, packet},
		{"from a stranger", "10.0.1.9", 255, packet},
		{"for another session", "10.0.1.1", 255, wrong},
		{"for none, in Up", "10.0.1.1", 255, unasked},
	} {
		flood, err := json.Marshal(forgery{forged.from, forged.ttl, forged.packet.Append(nil), count})
		if err != nil {
			t.Fatal(err)
		}
		r.run("env", envForge+"="+string(flood), executable(t))
	}
	// The session has outlived it, and is alive: FRR's next change comes through.
	r.run("vtysh", "--vty_socket", r.dir, "-c", "configure", "-c", "bfd", "-c", "profile nodes", "-c", "transmit-interval 350")
	st = awaitStatus(t, s, "tor1", "FRR's new timer", func(st SessionStatus) bool { return st.BFD.Detection == 5*350*time.Millisecond })
	if !bfdUp(st) || st.BFD.Failures != 0 || st.Flaps != 0 || r.bfd("10.0.1.2").Downs != 0 {
		t.Errorf("after %d packets of each kind: %+v, %+v", count, st, st.BFD)
	}
}

func TestBFDOfTwoNeighborsAtOneAddress(t *testing.T) {
	a, b := watched(neighbor(1, 65000, 65010), wide), watched(neighbor(1, 65000, 65010), wide)
	b.Name, b.Port = "other", 1179
	bad := watched(neighbor(2, 65000, 65010), bfd.Config{Interval: time.Millisecond, Multiplier: 1})
	err := state(a, b, bad).Validate()
	var paths []string
	if invalid, ok := err.(*InvalidStateError); ok {
		for _, f := range invalid.Faults {
			paths = append(paths, f.Path)
		}
	}
	if !slices.Equal(paths, []string{"neighbors[1].bfd", "neighbors[2].bfd"}) {
		t.Errorf("faults: %v", err)
	}
}

// forgery is what the flood's process does: it sends one packet, many times.
type forgery struct {
	From   string
	TTL    int
	Packet []byte
	Count  int
}

func (f forgery) send() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(f.From)})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, f.TTL) })
	if err := errors.Join(controlErr, err); err != nil {
		return err
	}
	to := netip.MustParseAddrPort("10.0.1.2:3784")
	for range f.Count {
		if _, err := conn.WriteToUDPAddrPort(f.Packet, to); err != nil {
			return err
		}
	}
	return nil
}

// forgeMain is the process that forges.
func forgeMain() int {
	var f forgery
	err := json.Unmarshal([]byte(os.Getenv(envForge)), &f)
	if err == nil {
		err = f.send()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func executable(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
