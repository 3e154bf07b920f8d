package fault

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// machines are two network namespaces with a cable between them: eth1 on both,
// 10.9.0.1 and fd09::1 here, 10.9.0.2 and fd09::2 there.
type machines struct {
	t           *testing.T
	here, there string
}

func newMachines(t *testing.T) machines {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("this test needs root, and PHAROS_REQUIRE_ROOT=1 says that it must run")
		}
		t.Skip("needs root")
	}
	m := machines{t, fmt.Sprintf("pharos-fault-%d-a", os.Getpid()), fmt.Sprintf("pharos-fault-%d-b", os.Getpid())}
	for _, name := range []string{m.here, m.there} {
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
		m.must("ip", "netns", "add", name)
	}
	m.must("ip", "link", "add", "eth1", "netns", m.here, "type", "veth", "peer", "name", "eth1", "netns", m.there)
	for i, name := range []string{m.here, m.there} {
		in := []string{"ip", "-n", name}
		m.must(append(in, "addr", "add", fmt.Sprintf("10.9.0.%d/24", i+1), "dev", "eth1")...)
		m.must(append(in, "addr", "add", fmt.Sprintf("fd09::%d/64", i+1), "dev", "eth1", "nodad")...)
		m.must(append(in, "link", "set", "lo", "up")...)
		m.must(append(in, "link", "set", "eth1", "up")...)
	}
	return m
}

func (m machines) must(argv ...string) string {
	m.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

func (m machines) run(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", m.here}, argv...)...)
}

func (m machines) shell(ctx context.Context, script string) *exec.Cmd {
	return m.run(ctx, "sh", "-c", script)
}

// inside makes a socket in one of the namespaces: it stays in the one that its
// thread was in.
func (m machines) inside(namespace string, open func() error) {
	m.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		m.t.Fatal(err)
	}
	defer own.Close()
	to, err := netns.GetFromName(namespace)
	if err != nil {
		m.t.Fatal(err)
	}
	defer to.Close()
	if err := netns.Set(to); err != nil {
		m.t.Fatal(err)
	}
	err = open()
	if back := netns.Set(own); back != nil {
		panic(back) // anything that this thread does next would be in the wrong place
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// reaches says whether a datagram of there comes to a port here. That it does not,
// the counter must tell.
func (m machines) reaches(address string, port int, counter Injector) bool {
	m.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
	before, err := Count(m.t.Context(), counter)
	if err != nil {
		before = 0 // there is no fault
	}
	var in, out *net.UDPConn
	m.inside(m.here, func() (err error) { in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); return err })
	defer in.Close()
	m.inside(m.there, func() (err error) { out, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at)); return err })
	defer out.Close()
	if _, err := out.Write([]byte("hello")); err != nil {
		m.t.Fatal(err)
	}
	for m.t.Context().Err() == nil {
		_ = in.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := in.Read(make([]byte, 16)); err == nil {
			return true
		}
		if n, err := Count(m.t.Context(), counter); err == nil && n > before {
			return false
		}
	}
	m.t.Fatal("the datagram neither came nor was it counted")
	return false
}

func TestLoss(t *testing.T) {
	m := newMachines(t)
	peer4, peer6, other := netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2"), netip.MustParseAddr("10.9.0.77")
	for _, tc := range []struct {
		name   string
		loss   Loss
		passes []int // of the ports 7946 and 53, by IPv4 and IPv6 both
	}{
		{name: "all packets"},
		{name: "a port", loss: Loss{UDP: []uint16{7946}}, passes: []int{53}},
		{name: "ports of TCP alone", loss: Loss{TCP: []uint16{7946, 53}}, passes: []int{7946, 53}},
		{name: "a port of a machine", loss: Loss{UDP: []uint16{7946}, Of: []netip.Addr{peer4, peer6}}, passes: []int{53}},
		{name: "of another machine", loss: Loss{Of: []netip.Addr{other}}, passes: []int{7946, 53}},
		{name: "one way", loss: Loss{UDP: []uint16{7946}, OneWay: true}, passes: []int{53}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := m
			m.t = t
			i := tc.loss.Script().Injector(m.shell)
			if _, err := i.Inject(t.Context()); err != nil {
				t.Fatal(err)
			}
			lost := uint64(0)
			for _, address := range []string{"10.9.0.1", "fd09::1"} {
				for _, port := range []int{7946, 53} {
					want := slices.Contains(tc.passes, port)
					if got := m.reaches(address, port, i); got != want {
						t.Errorf("a datagram to %s, port %d, came: %v", address, port, got)
					}
					if !want {
						lost++
					}
				}
			}
			if n, err := Count(t.Context(), i); err != nil || n < lost || (lost == 0 && n > 0) {
				t.Errorf("counted %d, %v; lost %d at least", n, err, lost)
			}
			for range 2 {
				if _, err := i.Revert(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, address := range []string{"10.9.0.1", "fd09::1"} {
				if !m.reaches(address, 7946, i) {
					t.Errorf("after the revert a datagram to %s did not come", address)
				}
			}
		})
	}
}

func TestLinkComesBackAsItWas(t *testing.T) {
	m := newMachines(t)
	m.must("ip", "-n", m.here, "route", "add", "default", "via", "10.9.0.2")
	m.must("ip", "-n", m.here, "-6", "route", "add", "default", "via", "fd09::2")
	m.must("ip", "-n", m.here, "route", "add", "10.10.0.0/16", "via", "10.9.0.2", "proto", "bgp") // not ours to put back
	state := func() string {
		var lines []string
		for _, args := range [][]string{{"-4", "addr"}, {"-6", "addr"}, {"-4", "route"}, {"-6", "route"}} {
			out := m.must(append(append([]string{"ip", "-n", m.here, "-o"}, args...), "show", "dev", "eth1")...)
			for line := range strings.Lines(out) {
				if !strings.Contains(line, "fe80:") && !strings.Contains(line, "proto bgp") && !strings.Contains(line, "ff00:") {
					lines = append(lines, strings.Join(strings.Fields(line), " "))
				}
			}
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	before := state()
	if !strings.Contains(before, "default via fd09::2") {
		t.Fatal(before)
	}
	l := &Link{Device: "eth1", Run: m.run}
	guarded := l.Guarded()
	mend, err := guarded.(*Guarded).Mend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, revert := range map[string]func() error{
		"by hand":      func() error { _, err := guarded.Revert(t.Context()); return err },
		"by the guard": mend.Run,
	} {
		if _, err := guarded.Inject(t.Context()); err != nil {
			t.Fatal(err)
		}
		if down := state(); strings.Contains(down, "default") {
			t.Errorf("the link is up:\n%s", down)
		}
		if err := revert(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if after := state(); after != before {
			t.Errorf("%s: before:\n%s\nafter:\n%s", name, before, after)
		}
		if _, err := guarded.Revert(t.Context()); err != nil { // harmless
			t.Fatal(err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	m := newMachines(t)
	dir := t.TempDir()
	s := FullDisk(dir)
	free := "df --output=avail " + dir + " | tail -n 1\n"
	out := m.must("unshare", "--mount", "sh", "-c", "set -e\nmount -t tmpfs -o size=1500k none "+dir+"\n"+free+"("+s.Break+")\n"+free+"("+s.Mend+")\n"+free+"("+s.Mend+")\n")
	if got := strings.Fields(out); !slices.Equal(got, []string{"1500", "0", "1500"}) {
		t.Errorf("KiB free before, while and after: %v", got)
	}
}
