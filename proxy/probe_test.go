package proxy

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/proxytest"
)

// A loop that hangs owes an answer for as long as it does, and is asked once; the
// others are asked on.
func TestALoopThatHangsOwesAnAnswer(t *testing.T) {
	eachEngine(t, func(t *testing.T, options Options) {
		options.Loops = 2
		p := startWith(t, options, oneListener(TCP, Server{Name: "a", Address: deadAddress(t), Weight: 1}))
		p.Beat()
		proxytest.Eventually(t, "both loops have answered", func() bool { return p.owing() == 0 })
		hangs, goOn := make(chan struct{}), make(chan struct{})
		loop := p.http.Loops()[1]
		loop.Post(func() { close(hangs); <-goOn })
		<-hangs
		proxytest.Eventually(t, "a loop owes an answer for 50 ms", func() bool { return p.Beat() >= 50*time.Millisecond })
		proxytest.Eventually(t, "the other one has answered", func() bool { return p.owing() == 1 })
		close(goOn)
		proxytest.Eventually(t, "nobody owes one", func() bool { return p.owing() == 0 })
		if owed := p.Beat(); owed != 0 {
			t.Errorf("owed %s by a loop that has answered", owed)
		}
	})
}

// owing counts the loops that have not answered.
func (p *Proxy) owing() (n int) {
	for _, b := range *p.probes.loops.Load() {
		if b.asked.Load() != 0 {
			n++
		}
	}
	return n
}

// With all loops hanging the kernel still takes connections: only the word that a
// loop sends proves that it serves.
func TestAProbeIsNotAnsweredByTheKernel(t *testing.T) {
	p := startWith(t, Options{Loops: 1}, oneListener(TCP, Server{Name: "a", Address: proxytest.TCP(t, naming("a")), Weight: 1}))
	hangs, goOn := make(chan struct{}), make(chan struct{})
	p.http.Loops()[0].Post(func() { close(hangs); <-goOn })
	<-hangs
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(netip.MustParseAddrPort(freePort(t)).Port())}
	p.ExpectProbe(TransportTCP, uint16(local.Port))
	c, err := (&net.Dialer{LocalAddr: local}).Dial("tcp", listening(p))
	if err != nil {
		t.Fatal(err) // the kernel has taken it all the same
	}
	defer func() { _ = c.Close() }()
	answered := make(chan string, 1)
	go func() {
		b := make([]byte, 100)
		n, _ := c.Read(b)
		answered <- string(b[:n])
	}()
	if n := p.Status().Listeners[0].Accepted; n != 0 {
		t.Errorf("%d accepted", n)
	}
	select {
	case got := <-answered:
		t.Errorf("a loop that hangs has answered %q", got)
	default:
	}
	close(goOn)
	if got := <-answered; got != ProbeWord {
		t.Errorf("got %q", got)
	}
	p.ForgetProbe(TransportTCP, uint16(local.Port))
	if n := p.Status().Listeners[0].Accepted; n != 0 {
		t.Errorf("%d accepted", n)
	}
	// What comes from there now is a client.
	if got := ask(t, listening(p)); got != "a" {
		t.Errorf("got %q", got)
	}
	proxytest.Eventually(t, "the client is counted", func() bool { return p.Status().Listeners[0].Accepted == 1 })
}

// freePort is an address that can be bound.
func freePort(t *testing.T) string { return deadAddress(t).String() }

func TestProbesAreOnlyFromTheLoopbackInterface(t *testing.T) {
	var p listener.Probes
	p.Expect(0)
	p.Expect(40000)
	p.Expect(65535)
	for source, want := range map[string]bool{
		"127.0.0.1:40000": true, "127.0.0.1:65535": true, "127.0.0.1:0": true, "[::1]:40000": true, "[::ffff:127.0.0.1]:40000": true,
		"127.0.0.1:40001": false, "127.0.0.1:39999": false, "198.51.100.1:40000": false, "[2001:db8::1]:40000": false,
	} {
		if got := p.Are(netip.MustParseAddrPort(source)); got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
	p.Forget(40000)
	if p.Are(netip.MustParseAddrPort("127.0.0.1:40000")) || !p.Are(netip.MustParseAddrPort("127.0.0.1:65535")) {
		t.Error("the wrong one is forgotten")
	}
	source := netip.MustParseAddrPort("127.0.0.1:40000")
	if n := testing.AllocsPerRun(100, func() { p.Are(source) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkProbesAre(b *testing.B) {
	var p listener.Probes
	p.Expect(40000)
	source := netip.MustParseAddrPort("203.0.113.9:51234")
	b.ReportAllocs()
	for b.Loop() {
		p.Are(source)
	}
}
