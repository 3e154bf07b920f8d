package arp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/pharos-lb/pharos/vip/netnstest"
)

func TestMain(m *testing.M) { netnstest.Run(m, netnstest.LoUp) }

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
	netnstest.Need(t)
	netnstest.IP(t, "link", "add", "near", "type", "veth", "peer", "name", "far")
	t.Cleanup(func() { netnstest.IP(t, "link", "del", "near") })
	for i, name := range []string{"near", "far"} {
		netnstest.IP(t, "addr", "add", fmt.Sprintf("192.0.2.%d/24", 10+i), "dev", name)
		netnstest.IP(t, "link", "set", name, "up")
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
	netnstest.IP(t, "link", "set", "near", "down")
	netnstest.IP(t, "link", "set", "near", "up")
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
