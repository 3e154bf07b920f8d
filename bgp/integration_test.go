package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	vip4 = "198.51.100.1/32"
	vip6 = "2001:db8:100::1/128"
)

func neighbor(index int, asn, localASN uint32, routes ...Route) Neighbor {
	return Neighbor{
		Name: fmt.Sprintf("tor%d", index), Address: netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", index)),
		ASN: asn, LocalASN: localASN, HoldTime: 3 * time.Second, ConnectRetry: time.Second, Routes: routes,
	}
}

func state(neighbors ...Neighbor) State {
	return State{RouterID: netip.MustParseAddr("10.9.9.9"), Neighbors: neighbors}
}

func route(prefix, nextHop string) Route {
	return Route{Prefix: netip.MustParsePrefix(prefix), NextHop: netip.MustParseAddr(nextHop)}
}

func reconcile(t *testing.T, s *Speaker, st State) {
	t.Helper()
	if err := s.Reconcile(t.Context(), st); err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
}

func established(st SessionStatus) bool { return st.Established }

func TestFRRSeesRoutesWithTheirAttributes(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	s := startSpeaker(t)
	med := uint32(50)
	v4, v6 := route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")
	v4.Communities = []uint32{65000<<16 | 2, 0xffff0000 /* graceful-shutdown, RFC 8326 */, 65000<<16 | 2}
	v4.MED, v4.Prepend = &med, 2
	v6.Prepend = 1
	reconcile(t, s, state(neighbor(1, 65000, 65010, v4, v6)))
	awaitStatus(t, s, "tor1", "both prefixes announced", func(st SessionStatus) bool { return len(st.Announced) == 2 })

	var p4, p6 []path
	eventually(t, "both prefixes valid in FRR", func() bool {
		p4, p6 = r.paths("ipv4", vip4), r.paths("ipv6", vip6)
		// FRR resolves a next hop a moment after it has the route.
		return len(p4) == 1 && len(p6) == 1 && p4[0].Valid && p6[0].Valid
	})
	if got := p4[0]; got.Origin != "IGP" || got.ASPath.String != "65010 65010 65010" ||
		got.MED == nil || *got.MED != 50 || got.Community.String != "65000:2 graceful-shutdown" || got.Nexthops[0].IP != "10.0.1.2" {
		t.Errorf("IPv4 path: %+v", got)
	}
	global := slices.IndexFunc(p6[0].Nexthops, func(h struct {
		IP    string `json:"ip"`
		Scope string `json:"scope"`
	},
	) bool {
		return h.Scope == "global" && h.IP == "fd00:1::2"
	})
	if got := p6[0]; got.Origin != "IGP" || got.ASPath.String != "65010 65010" || global < 0 {
		t.Errorf("IPv6 path: %+v", got)
	}

	// Another MED, and no community: the session must not notice.
	before := r.peer("10.0.1.2")
	med2 := uint32(7)
	v4.MED, v4.Communities = &med2, nil
	reconcile(t, s, state(neighbor(1, 65000, 65010, v4, v6)))
	eventually(t, "the new MED in FRR", func() bool {
		p := r.paths("ipv4", vip4)
		return len(p) == 1 && p[0].MED != nil && *p[0].MED == 7 && p[0].Community.String == ""
	})
	if after := r.peer("10.0.1.2"); after.Established != before.Established || after.Dropped != before.Dropped {
		t.Errorf("the session was reset by a change of attributes: before %+v, after %+v", before, after)
	}

	// Withdrawing one leaves the other.
	reconcile(t, s, state(neighbor(1, 65000, 65010, v4)))
	eventually(t, "the IPv6 prefix gone from FRR", func() bool { return len(r.paths("ipv6", vip6)) == 0 })
	if len(r.paths("ipv4", vip4)) != 1 {
		t.Error("the IPv4 prefix went with the IPv6 one")
	}
	if err := s.WithdrawAll(t.Context()); err != nil {
		t.Fatalf("WithdrawAll: %v", err)
	}
	eventually(t, "all prefixes gone from FRR", func() bool { return len(r.paths("ipv4", vip4)) == 0 })
	reconcile(t, s, state(neighbor(1, 65000, 65010, v4)))
	eventually(t, "the prefix back in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
	if st := s.Status()[0]; st.Flaps != 0 || !st.Established {
		t.Errorf("status: %+v", st)
	}
}

func TestFRRSeesCeaseAtTheEnd(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	s := New(Config{Logger: testLogger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reconcile(t, s, state(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2")))) // kept for Run
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("Run: %v", err)
	}
	var p peerState
	eventually(t, "FRR to notice the end", func() bool { p = r.peer("10.0.1.2"); return p.State != "Established" })
	if !strings.Contains(p.LastNotify, "Cease/Administrative Shutdown") {
		t.Errorf("FRR's last notification: %+v", p)
	}
	if err := s.Reconcile(t.Context(), State{}); err == nil {
		t.Error("Reconcile after Run succeeded")
	}
}

func TestIBGP(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65010, remote: 65010})
	s := startSpeaker(t)
	reconcile(t, s, state(neighbor(1, 65010, 65010, route(vip4, "10.0.1.2"))))
	var p []path
	eventually(t, "the prefix valid in FRR", func() bool { p = r.paths("ipv4", vip4); return len(p) == 1 && p[0].Valid })
	if p[0].ASPath.String != "Local" || p[0].LocalPref == nil || *p[0].LocalPref != 100 {
		t.Errorf("path: %+v", p[0])
	}
}

func TestIPv6Transport(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	s := startSpeaker(t)
	n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2"))
	n.Address = netip.MustParseAddr("fd00:1::1")
	reconcile(t, s, state(n))
	eventually(t, "both prefixes in FRR", func() bool {
		return len(r.paths("ipv4", vip4)) == 1 && len(r.paths("ipv6", vip6)) == 1
	})
	if st := r.peer("fd00:1::2").State; st != "Established" {
		t.Errorf("FRR's session over IPv6: %s", st)
	}
}

func TestRouterRestart(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	s := startSpeaker(t)
	reconcile(t, s, state(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))))
	eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })

	r.kill("bgpd")
	st := awaitStatus(t, s, "tor1", "loss noticed", func(st SessionStatus) bool { return !st.Established })
	if st.Flaps != 1 || st.LastError == "" || len(st.Announced) != 0 {
		t.Errorf("status after the loss: %+v", st)
	}
	r.startDaemon("bgpd")
	back := time.Now()
	awaitStatus(t, s, "tor1", "session back", established)
	t.Logf("session back %s after bgpd's start", time.Since(back).Round(time.Millisecond))
	eventually(t, "the prefix in FRR again", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
}

func TestWrongASNIsSaidInWords(t *testing.T) {
	t.Run("the router's", func(t *testing.T) {
		startRouter(t, routerConfig{index: 1, asn: 65001, remote: 65010})
		s := startSpeaker(t)
		reconcile(t, s, state(neighbor(1, 65000, 65010)))
		awaitStatus(t, s, "tor1", "error about the ASN", func(st SessionStatus) bool {
			return strings.Contains(st.LastError, "AS 65001") && strings.Contains(st.LastError, "asn is 65000")
		})
	})
	t.Run("ours", func(t *testing.T) {
		startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65011})
		s := startSpeaker(t)
		reconcile(t, s, state(neighbor(1, 65000, 65010)))
		awaitStatus(t, s, "tor1", "error about the ASN", func(st SessionStatus) bool {
			return strings.Contains(st.LastError, "bad peer AS") && strings.Contains(st.LastError, "65010")
		})
	})
}

func TestUnreachableRouterIsSaidInWords(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	r.kill("bgpd")
	s := startSpeaker(t)
	reconcile(t, s, state(neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))))
	st := awaitStatus(t, s, "tor1", "refused connection", func(st SessionStatus) bool {
		return strings.Contains(st.LastError, "connection refused")
	})
	if st.Established || st.State != "active" && st.State != "connect" {
		t.Errorf("status: %+v", st)
	}
}

func TestChangesTouchNoOtherSession(t *testing.T) {
	r1 := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	s := startSpeaker(t)
	first := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
	reconcile(t, s, state(first))
	awaitStatus(t, s, "tor1", "established", established)
	eventually(t, "FRR 1 established", func() bool { return r1.peer("10.0.1.2").State == "Established" })
	before := r1.peer("10.0.1.2")

	r2 := startRouter(t, routerConfig{index: 2, asn: 65002, remote: 65020})
	second := neighbor(2, 65002, 65020, route(vip4, "10.0.2.2")) // another local ASN and next hop
	reconcile(t, s, state(first, second))
	var p []path
	eventually(t, "the prefix in the second FRR", func() bool { p = r2.paths("ipv4", vip4); return len(p) == 1 })
	if p[0].ASPath.String != "65020" || p[0].Nexthops[0].IP != "10.0.2.2" {
		t.Errorf("the second router's path: %+v", p[0])
	}
	second.LocalASN = 65021 // wrong: the second session must go, and only that
	reconcile(t, s, state(second, first))
	awaitStatus(t, s, "tor2", "refused", func(st SessionStatus) bool { return strings.Contains(st.LastError, "65021") })
	reconcile(t, s, state(first))
	eventually(t, "the prefix gone from the second FRR", func() bool { return len(r2.paths("ipv4", vip4)) == 0 })
	if after := r1.peer("10.0.1.2"); after.Established != before.Established || after.Dropped != before.Dropped {
		t.Errorf("the first session was reset: before %+v, after %+v", before, after)
	}
	if got := s.Status(); len(got) != 1 || got[0].Flaps != 0 || len(got[0].Announced) != 1 {
		t.Errorf("status: %+v", got)
	}
}

// A killed process must be noticed by its closed socket, not by the hold time,
// which is a minute here.
func TestKilledProcessLosesItsRouteAtOnce(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: " neighbor NODES timers 20 60"})
	n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
	n.HoldTime = time.Minute
	config, err := json.Marshal(state(n))
	if err != nil {
		t.Fatal(err)
	}
	monitor := r.inside("ip", "monitor", "route")
	changes, err := monitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = monitor.Process.Kill(); _ = monitor.Wait() })
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(changes); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	await := func(what string, match func(string) bool) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case line := <-lines:
				if strings.Contains(line, "198.51.100.1") && match(line) {
					return
				}
			case <-deadline:
				t.Fatalf("not within 20s: %s", what)
			}
		}
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), envSpeaker+"="+string(config))
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	await("route in the router's kernel", func(l string) bool { return !strings.HasPrefix(l, "Deleted") })
	killed := time.Now()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await("route gone from the router's kernel", func(l string) bool { return strings.HasPrefix(l, "Deleted") })
	t.Logf("route gone %s after SIGKILL", time.Since(killed).Round(time.Millisecond))
	_ = child.Wait()
}

// speakerMain is the process that gets killed.
func speakerMain() int {
	var st State
	if err := json.Unmarshal([]byte(os.Getenv(envSpeaker)), &st); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := New(Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err := s.Reconcile(context.Background(), st); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := s.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
