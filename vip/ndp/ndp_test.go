package ndp

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

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"

	"github.com/pharos-lb/pharos/vip/netnstest"
)

func TestMain(m *testing.M) { netnstest.Run(m, netnstest.LoUp) }

const patience = 20 * time.Second // for a message that ought to come at once

var vip = netip.MustParseAddr("2001:db8:100::1")

// bench is a link with this node on one end and a test's socket on the other.
type bench struct {
	link   *Link
	held   atomic.Bool
	rivals chan net.HardwareAddr
	far    *Link // opened for its socket alone
	heard  chan message
}

var benches int

type message struct {
	ndp.Message
	from netip.Addr
}

func newBench(t *testing.T) *bench {
	t.Helper()
	netnstest.Need(t)
	// Names that were not used before: package net remembers for a minute which
	// index a name had.
	benches++
	near, far := fmt.Sprintf("near%d", benches), fmt.Sprintf("far%d", benches)
	netnstest.IP(t, "link", "add", near, "type", "veth", "peer", "name", far)
	t.Cleanup(func() { netnstest.IP(t, "link", "del", near) })
	for _, name := range []string{near, far} {
		netnstest.IP(t, "link", "set", name, "addrgenmode", "none")
		netnstest.IP(t, "link", "set", name, "up")
	}
	for i, name := range []string{near, far} {
		netnstest.IP(t, "addr", "add", fmt.Sprintf("fe80::%d/64", 10+i), "dev", name, "nodad")
	}
	running(t, near)
	running(t, far)
	b := &bench{rivals: make(chan net.HardwareAddr, 16), heard: make(chan message, 64)}
	var err error
	b.link, err = Open(Config{
		Interface: near,
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
	if err := b.link.Watch([]netip.Addr{vip, netip.MustParseAddr("192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	if b.far, err = Open(Config{Interface: far}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.link.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() {
		for {
			m, cm, from, err := b.far.conn.ReadFrom()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				continue
			}
			if cm.IfIndex == b.far.ifi.Index {
				b.heard <- message{m, from}
			}
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

// ask has the far end ask for the VIP, as a host does that has to send there.
func (b *bench) ask(t *testing.T) {
	t.Helper()
	group, err := ndp.SolicitedNodeMulticast(vip)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, &ndp.NeighborSolicitation{TargetAddress: vip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: b.far.ifi.HardwareAddr}}}, b.far.control(), group)
}

func (b *bench) claim(t *testing.T, control *ipv6.ControlMessage) {
	t.Helper()
	b.write(t, &ndp.NeighborAdvertisement{Override: true, TargetAddress: vip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: b.far.ifi.HardwareAddr}}}, control, allNodes)
}

func (b *bench) write(t *testing.T, m ndp.Message, control *ipv6.ControlMessage, to netip.Addr) {
	t.Helper()
	if err := b.far.conn.WriteTo(m, control, to); err != nil {
		t.Fatal(err)
	}
}

// hear waits for an advertisement of the VIP by the node.
func (b *bench) hear(t *testing.T) *ndp.NeighborAdvertisement {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-b.heard:
			if na, ok := m.Message.(*ndp.NeighborAdvertisement); ok && na.TargetAddress == vip && m.from.WithZone("") == b.link.own.WithZone("") {
				return na
			}
		case <-deadline:
			t.Fatal("nothing came from the VIP")
		}
	}
}

// hearProbe waits for a question for the VIP.
func (b *bench) hearProbe(t *testing.T) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-b.heard:
			if ns, ok := m.Message.(*ndp.NeighborSolicitation); ok && ns.TargetAddress == vip {
				return
			}
		case <-deadline:
			t.Fatal("no probe came")
		}
	}
}

func (b *bench) awaitRival(t *testing.T) {
	t.Helper()
	select {
	case other := <-b.rivals:
		if other.String() != b.far.ifi.HardwareAddr.String() {
			t.Fatalf("the rival is %s, want %s", other, b.far.ifi.HardwareAddr)
		}
	case <-time.After(patience):
		t.Fatal("the rival was not heard")
	}
}

func TestAnswersAndAnnouncesOnlyWhileHeld(t *testing.T) {
	b := newBench(t)
	if err := b.link.Announce(vip); err != nil {
		t.Fatal(err)
	}
	b.ask(t)
	b.claim(t, b.far.control()) // judged by the same loop, behind the question
	b.awaitRival(t)

	b.held.Store(true)
	if err := b.link.Announce(vip); err != nil {
		t.Fatal(err)
	}
	na := b.hear(t)
	if na.Solicited || !na.Override || linkLayer(na.Options, ndp.Target).String() != b.link.ifi.HardwareAddr.String() {
		t.Fatalf("the announcement is %+v, want one unsolicited, with the override flag (RFC 4861 section 7.2.6)", na)
	}
	b.ask(t)
	if na := b.hear(t); !na.Solicited || !na.Override {
		t.Fatalf("the answer is %+v, want a solicited one: the first messages must not have been answered", na)
	}
}

func TestMessagesFromOtherLinksAreIgnored(t *testing.T) {
	b := newBench(t)
	forged := b.far.control()
	forged.HopLimit = 254 // RFC 4861 section 7.1
	b.claim(t, forged)
	b.claim(t, b.far.control())
	b.awaitRival(t)
	b.claim(t, b.far.control())
	b.awaitRival(t)
	if len(b.rivals) > 0 {
		t.Fatal("a message with a hop limit of 254 counts")
	}
}

func TestProbeFindsWhoHasTheAddress(t *testing.T) {
	b := newBench(t)
	if answered, err := b.link.Probe(t.Context(), vip); err != nil || answered {
		t.Fatalf("answered %v, error %v on a silent link", answered, err)
	}
	if err := b.far.Watch([]netip.Addr{vip}); err != nil { // joins the group that probes go to
		t.Fatal(err)
	}
	for len(b.heard) > 0 {
		<-b.heard
	}
	done := make(chan bool)
	go func() {
		answered, _ := b.link.Probe(t.Context(), vip)
		done <- answered
	}()
	b.hearProbe(t)
	b.claim(t, b.far.control())
	if !<-done {
		t.Fatal("the probe found nobody")
	}
}

func FuzzJudge(f *testing.F) {
	self := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b, err := ndp.MarshalMessage(&ndp.NeighborAdvertisement{TargetAddress: vip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: self}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ndp.ParseMessage(b)
		if err != nil {
			return
		}
		for _, from := range []netip.Addr{netip.IPv6Unspecified(), netip.MustParseAddr("fe80::2")} {
			if v, a, _ := judge(m, from, self, func(a netip.Addr) bool { return a == vip }); v != nothing && a != vip {
				t.Fatalf("verdict %d on %s, which is not watched", v, a)
			}
		}
	})
}
