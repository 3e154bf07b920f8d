package arpwatch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ownNetwork moves the test to a network namespace of its own, with a cable
// from "port" to "host", where the kernel answers for 10.9.0.1 and 2001:db8:9::1.
func ownNetwork(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("PHAROS_REQUIRE_ROOT=1, and this is not root")
		}
		t.Skip("makes a network namespace: needs root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ip(t, "link add port type veth peer name host")
	ip(t, "link set port address 02:00:00:00:00:aa")
	ip(t, "link set host address 02:00:00:00:00:01")
	ip(t, "addr add 10.9.0.1/24 dev host")
	ip(t, "addr add 2001:db8:9::1/64 dev host nodad")
	ip(t, "link set port up")
	ip(t, "link set host up")
}

func ip(t *testing.T, words string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", words, err, out)
	}
}

var (
	answers4 = netip.MustParseAddr("10.9.0.1")
	silent4  = netip.MustParseAddr("10.9.0.2")
	answers6 = netip.MustParseAddr("2001:db8:9::1")
	observer = Identity{MAC: MAC{2, 0, 0, 0, 0, 0xbb}, IPv4: netip.MustParseAddr("10.9.0.98"), IPv6: netip.MustParseAddr("2001:db8:9::98")}
)

// The kernel is who answers here: what it makes of our questions, and we of
// its answers, is what the world makes of them.
func TestWatchHearsTheKernelAnswer(t *testing.T) {
	ownNetwork(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var lines []Line
	claims := map[netip.Addr]int{}
	knocked := false
	config := Config{Ports: []string{"port"}, Addresses: []netip.Addr{answers4, silent4, answers6}, Interval: MinInterval, Self: &observer}
	err := Watch(ctx, config, func(l Line) error {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, l)
		if c := l.Claim; c != nil {
			claims[c.Address]++
			if c.Kind == Answer && c.MAC != (MAC{2, 0, 0, 0, 0, 1}) || c.Port != "port" {
				t.Errorf("claim %+v is not the host's", c)
			}
		}
		if claims[answers4] >= 20 && claims[answers6] >= 20 {
			knocked = true
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !knocked || claims[silent4] != 0 {
		t.Errorf("claims %v, want many of %s and %s, and none of %s", claims, answers4, answers6, silent4)
	}
	begin, end := lines[0].Begin, lines[len(lines)-1].End
	if begin == nil || end == nil || end.Lost != 0 || end.Unasked != 0 || end.Claims != len(lines)-2 || end.Asked < 60 {
		t.Fatalf("begin %+v, end %+v of %d lines", begin, end, len(lines))
	}
	last := begin.At
	for _, l := range lines[1 : len(lines)-1] {
		if l.Claim.At.Before(last) || l.Claim.At.After(end.At) {
			t.Fatalf("a claim at %v, after one at %v, in a record that ends at %v", l.Claim.At, last, end.At)
		}
		last = l.Claim.At
	}
}

// Who asks is on the segment itself: a host that sends to it finds it.
func TestWatchAnswersForItself(t *testing.T) {
	ownNetwork(t)
	// On the one cable of this namespace the way to the observer is by "host".
	for _, to := range []netip.Addr{observer.IPv4, observer.IPv6} {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan error, 1)
	// In this thread's namespace, unlike what a goroutine would start.
	monitor := exec.Command("ip", "monitor", "neigh")
	out, err := monitor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer cancel()
		var text strings.Builder
		buffer := make([]byte, 4096)
		for {
			n, err := out.Read(buffer)
			text.Write(buffer[:n])
			known := 0
			for line := range strings.Lines(text.String()) {
				for _, a := range []netip.Addr{observer.IPv4, observer.IPv6} {
					if strings.Contains(line, a.String()+" dev host lladdr "+observer.MAC.String()) {
						known++
					}
				}
			}
			if known >= 2 || err != nil {
				found <- err
				return
			}
		}
	}()
	config := Config{Ports: []string{"port"}, Addresses: []netip.Addr{silent4, answers6}, Interval: 100 * MinInterval, Self: &observer}
	if err := Watch(ctx, config, func(Line) error { return nil }); err != nil {
		t.Error(err)
	}
	_ = monitor.Process.Kill()
	if err := <-found; err != nil {
		t.Errorf("the host did not find the observer: %v", err)
	}
	_ = monitor.Wait() // killed
}

// A port that goes down and comes up again is a port that nobody was heard on
// for a while, and no more.
func TestWatchOutlivesAPortThatIsDown(t *testing.T) {
	ownNetwork(t)
	ip(t, "link set port down")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var end *End
	claims := 0
	raised := make(chan struct{})
	config := Config{Ports: []string{"port"}, Addresses: []netip.Addr{answers4}, Interval: 5 * MinInterval, Self: &observer}
	fd, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	go func() {
		defer close(raised)
		cmd := exec.Command("nsenter", "--net=/proc/self/fd/3", "ip", "link", "set", "port", "up")
		cmd.ExtraFiles = []*os.File{fd}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			cancel()
		}
	}()
	if err := Watch(ctx, config, func(l Line) error {
		if l.Claim != nil {
			if claims++; claims == 3 {
				cancel()
			}
		}
		if l.End != nil {
			end = l.End
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	<-raised
	if claims < 3 || end == nil || end.Claims != claims {
		t.Errorf("%d claims, end %+v", claims, end)
	}
}

func TestWatchFails(t *testing.T) {
	ownNetwork(t)
	good := Config{Ports: []string{"port"}, Addresses: []netip.Addr{answers4}, Interval: time.Second, Self: &observer}
	nothing := func(Line) error { return nil }
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no such port", func(c *Config) { c.Ports = []string{"nowhere"} }, "watch nowhere"},
		{"a port that is no Ethernet interface", func(c *Config) { c.Ports, c.Self = []string{"lo"}, nil }, "no Ethernet interface"},
		{"a host without an address", func(c *Config) { c.Self = nil }, "no address to ask for 10.9.0.1 from"},
		{"no port", func(c *Config) { c.Ports = nil }, "ports: there is none"},
		{"a host at two ports", func(c *Config) { c.Ports, c.Self = []string{"port", "host"}, nil }, "self: a host asks at one port, not at 2"},
		{"an interval of nothing", func(c *Config) { c.Interval = 0 }, "interval: 0s is not within 1ms to 1s"},
		{"nothing to ask for", func(c *Config) { c.Addresses = nil }, "addresses: there is none"},
		{"an address twice", func(c *Config) { c.Addresses = append(c.Addresses, answers4) }, "addresses[1]: 10.9.0.1"},
		{"an address of nobody", func(c *Config) { c.Addresses = []netip.Addr{netip.MustParseAddr("224.0.0.1")} }, "addresses[0]: 224.0.0.1"},
		{"to ask for oneself", func(c *Config) { c.Addresses = []netip.Addr{observer.IPv4} }, "self: 10.9.0.98 is no address to ask for 10.9.0.98 from"},
		{"to ask from no address", func(c *Config) { c.Self = &Identity{IPv4: observer.IPv4}; c.Addresses = []netip.Addr{answers6} }, "self: invalid IP is no address to ask for 2001:db8:9::1 from"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ownNetwork(t) // a test of its own has a thread of its own
			c := good
			tt.change(&c)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := Watch(ctx, c, nothing); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
	full := errors.New("the disk is full")
	if err := Watch(t.Context(), Config{Ports: []string{"port"}, Addresses: []netip.Addr{answers4}, Interval: MinInterval, Self: &observer}, func(l Line) error {
		if l.Claim != nil {
			return full
		}
		return nil
	}); !errors.Is(err, full) {
		t.Errorf("a record that cannot be kept: %v", err)
	}
}
