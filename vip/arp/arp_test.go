package arp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

// The tests below act on a network namespace of their own: the test process
// re-executes itself in one, and, without root, in a user namespace around it.

const envInside = "PHAROS_ARP_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no network namespace, its tests are skipped:", err)
		os.Exit(m.Run())
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

const patience = 20 * time.Second // for a packet that ought to come at once

var vip = netip.MustParseAddr("192.0.2.1")

// bench is a link with this node on one end and a test's raw socket on the other.
type bench struct {
	link   *Link
	held   atomic.Bool
	rivals chan net.HardwareAddr
	far    *arp.Client
	farMAC net.HardwareAddr
	heard  chan *arp.Packet // by the far end
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Getenv(envInside) == "" {
		if os.Getenv("PHAROS_REQUIRE_ROOT") == "1" {
			t.Fatal("needs a network namespace")
		}
		t.Skip("needs a network namespace: root, or user namespaces")
	}
	ip(t, "link", "add", "near", "type", "veth", "peer", "name", "far")
	t.Cleanup(func() { ip(t, "link", "del", "near") })
	for i, name := range []string{"near", "far"} {
		ip(t, "addr", "add", fmt.Sprintf("192.0.2.%d/24", 10+i), "dev", name)
		ip(t, "link", "set", name, "up")
	}
	running(t, "near")
	running(t, "far")
	b := &bench{rivals: make(chan net.HardwareAddr, 16), heard: make(chan *arp.Packet, 64)}
	link, err := Open(Config{
		Interface: "near",
		WhileHeld: func(_ netip.Addr, send func()) {
			if b.held.Load() {
				send()
			}
		},
		Rival: func(_ netip.Addr, other net.HardwareAddr) {
			select {
			case b.rivals <- other:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.link = link
	if err := link.Watch([]netip.Addr{vip}); err != nil {
		t.Fatal(err)
	}
	far, err := net.InterfaceByName("far")
	if err != nil {
		t.Fatal(err)
	}
	b.farMAC = far.HardwareAddr
	if b.far, err = arp.Dial(far); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := link.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() {
		for {
			p, _, err := b.far.Read()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				continue
			}
			b.heard <- p
		}
	})
	t.Cleanup(func() { cancel(); _ = b.far.Close(); wg.Wait() })
	return b
}

// running waits until an interface has a carrier: what is sent before is lost.
func running(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if ifi, err := net.InterfaceByName(name); err == nil && ifi.Flags&net.FlagRunning != 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come up", name)
		}
		runtime.Gosched()
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// send has the far end say something.
func (b *bench) send(t *testing.T, op arp.Operation, sender, target netip.Addr) {
	t.Helper()
	p, err := arp.NewPacket(op, b.farMAC, sender, make(net.HardwareAddr, 6), target)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.far.WriteTo(p, ethernet.Broadcast); err != nil {
		t.Fatal(err)
	}
}

// hear waits for a packet from the VIP's holder.
func (b *bench) hear(t *testing.T) *arp.Packet {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case p := <-b.heard:
			if p.SenderIP == vip {
				return p
			}
		case <-deadline:
			t.Fatal("nothing came from the VIP")
		}
	}
}

// hearProbe waits for a question for the VIP from nobody.
func (b *bench) hearProbe(t *testing.T) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case p := <-b.heard:
			if p.TargetIP == vip && p.SenderIP.IsUnspecified() {
				return
			}
		case <-deadline:
			t.Fatal("no probe came")
		}
	}
}

func TestAnswersOnlyWhileHeld(t *testing.T) {
	b := newBench(t)
	early, late := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")
	b.send(t, arp.OperationRequest, early, vip)
	// Heard by the same loop, behind the request: that one has been judged then.
	b.send(t, arp.OperationReply, vip, early)
	select {
	case <-b.rivals:
	case <-time.After(patience):
		t.Fatal("the rival was not heard")
	}
	b.held.Store(true)
	b.send(t, arp.OperationRequest, late, vip)
	if p := b.hear(t); p.Operation != arp.OperationReply || p.SenderHardwareAddr.String() != b.link.self.String() || p.TargetIP != late {
		t.Fatalf("the first answer is %+v, want one to %s", p, late)
	}
}

func TestAnnouncesOnlyWhileHeld(t *testing.T) {
	b := newBench(t)
	announce := func() {
		t.Helper()
		if err := b.link.Announce(vip); err != nil {
			t.Fatal(err)
		}
	}
	announce() // not held
	b.held.Store(true)
	b.send(t, arp.OperationRequest, netip.MustParseAddr("192.0.2.11"), vip)
	if p := b.hear(t); p.Operation != arp.OperationReply {
		t.Fatalf("announced without holding: %+v", p)
	}
	announce()
	if p := b.hear(t); p.Operation != arp.OperationRequest || p.TargetIP != vip {
		t.Fatalf("the announcement is %+v, want a request whose sender is its target (RFC 5227 section 3)", p)
	}
}

func TestProbeFindsWhoHasTheAddress(t *testing.T) {
	b := newBench(t)
	if answered, err := b.link.Probe(t.Context(), vip); err != nil || answered {
		t.Fatalf("answered %v, error %v on a silent link", answered, err)
	}
	for name, say := range map[string]func(){
		"an answer":       func() { b.send(t, arp.OperationReply, vip, netip.IPv4Unspecified()) },
		"another's probe": func() { b.send(t, arp.OperationRequest, netip.IPv4Unspecified(), vip) },
	} {
		t.Run(name, func(t *testing.T) {
			for len(b.heard) > 0 {
				<-b.heard
			}
			done := make(chan bool)
			go func() {
				answered, _ := b.link.Probe(t.Context(), vip)
				done <- answered
			}()
			b.hearProbe(t)
			say()
			if !<-done {
				t.Fatal("the probe found nobody")
			}
		})
	}
}

func TestALinkThatGoesDownAndUpIsHeardAgain(t *testing.T) {
	b := newBench(t)
	b.held.Store(true)
	ip(t, "link", "set", "near", "down")
	ip(t, "link", "set", "near", "up")
	running(t, "near")
	b.send(t, arp.OperationRequest, netip.MustParseAddr("192.0.2.11"), vip)
	b.hear(t)
}

func TestOpenTellsWhyNot(t *testing.T) {
	for _, name := range []string{"absent0", "lo"} {
		if l, err := Open(Config{Interface: name}); err == nil {
			_ = l.Close()
			t.Errorf("opened %s", name)
		}
	}
}

func FuzzJudge(f *testing.F) {
	self := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	p, err := arp.NewPacket(arp.OperationRequest, net.HardwareAddr{2, 0, 0, 0, 0, 2}, netip.MustParseAddr("192.0.2.11"), make(net.HardwareAddr, 6), vip)
	if err != nil {
		f.Fatal(err)
	}
	b, _ := p.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p arp.Packet
		if p.UnmarshalBinary(b) != nil {
			return
		}
		v, a := judge(&p, self, func(a netip.Addr) bool { return a == vip })
		if v != nothing && a != vip {
			t.Fatalf("verdict %d on %s, which is not watched", v, a)
		}
		if v != nothing && p.SenderHardwareAddr.String() == self.String() {
			t.Fatal("judges our own packets")
		}
	})
}
