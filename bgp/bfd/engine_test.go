package bfd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// fakePeer speaks BFD over loopback, as the test tells it.
type fakePeer struct {
	t      *testing.T
	conn   *net.UDPConn
	engine netip.AddrPort // where it receives
	host   string
	ours   uint32
	last   Packet
	from   netip.AddrPort
	hops   int
}

func freePort(t *testing.T, host string) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Skipf("no loopback address %s: %v", host, err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func newFakePeer(t *testing.T, host string) *fakePeer {
	t.Helper()
	port := freePort(t, host)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &fakePeer{t: t, conn: conn, host: host, ours: 0xbbbb, engine: netip.AddrPortFrom(netip.MustParseAddr(host), port)}
	p.setHops(hopLimit)
	p.control(func(fd int) error {
		return errors.Join(
			ignoreIn(host == "::1", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)),
			ignoreIn(host != "::1", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)))
	})
	return p
}

func ignoreIn(ignore bool, err error) error {
	if ignore {
		return nil
	}
	return err
}

func (p *fakePeer) control(f func(fd int) error) {
	p.t.Helper()
	raw, err := p.conn.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(raw.Control(func(fd uintptr) { err = f(int(fd)) }), err); err != nil {
		p.t.Fatal(err)
	}
}

func (p *fakePeer) setHops(n int) {
	p.t.Helper()
	p.control(func(fd int) error {
		if p.host == "::1" {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, n)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, n)
	})
}

func (p *fakePeer) options(failed func(string, Status), changed func()) Options {
	out := io.Discard
	if testing.Verbose() {
		out = p.t.Output()
	}
	return Options{
		Logger: slog.New(slog.NewTextHandler(out, nil)), Failed: failed, Changed: changed,
		listen: p.engine.Port(), to: uint16(p.conn.LocalAddr().(*net.UDPAddr).Port),
	}
}

func (p *fakePeer) peer(c Config) Peer {
	return Peer{Name: "tor1", Address: p.engine.Addr(), Config: c}
}

// read takes the engine's next packet.
func (p *fakePeer) read() Packet {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, oob := make([]byte, 100), make([]byte, 100)
	n, oobn, _, from, err := p.conn.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		p.t.Fatalf("waiting for a packet: %v", err)
	}
	if p.last, err = Parse(b[:n]); err != nil {
		p.t.Fatalf("%x: %v", b[:n], err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		p.t.Fatalf("control messages: %v, %v", messages, err)
	}
	p.hops, p.from = int(messages[0].Data[0]), from
	return p.last
}

// send says state, with timers of 50 ms, to whom the last packet came from.
func (p *fakePeer) send(state State, change ...func(*Packet)) {
	p.t.Helper()
	out := Packet{
		State: state, DetectMult: 3, MyDiscriminator: p.ours, YourDiscriminator: p.last.MyDiscriminator,
		DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms,
	}
	for _, c := range change {
		c(&out)
	}
	if _, err := p.conn.WriteToUDPAddrPort(out.Append(nil), p.engine); err != nil {
		p.t.Fatal(err)
	}
}

// until answers each packet of the engine with answer, up to one that is right.
func (p *fakePeer) until(what string, answer func(Packet), right func(Packet) bool) Packet {
	p.t.Helper()
	for range 1000 {
		if got := p.read(); right(got) {
			return got
		}
		if answer != nil {
			answer(p.last)
		}
	}
	p.t.Fatalf("no such packet in a thousand: %s; the last one was %v", what, p.last)
	return Packet{}
}

func in(s State) func(Packet) bool { return func(p Packet) bool { return p.State == s } }

// up brings the session Up on both sides, with wide timers: a test machine may
// stand still for a while.
func (p *fakePeer) up() {
	p.t.Helper()
	p.read()
	p.until("Up", func(got Packet) {
		state := Init
		if got.State == Init {
			state = Up
		}
		p.send(state, calm)
	}, in(Up))
	p.send(Up, calm, func(out *Packet) { out.Final = true })
}

// calm makes of the peer one that sends every 5 s.
func calm(p *Packet) { p.DesiredMinTx, p.DetectMult = 5*time.Second, 10 }

// start runs an engine until the test ends.
func start(t *testing.T, o Options, peers ...Peer) (*Engine, func()) {
	t.Helper()
	e := New(o)
	if err := e.Set(peers); err != nil {
		t.Fatal(err)
	}
	return e, runEngine(t, e)
}

func runEngine(t *testing.T, e *Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func awaitState(t *testing.T, e *Engine, changed <-chan struct{}, what string, ok func(Status) bool) Status {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		st, _ := e.Status("tor1")
		if ok(st) {
			return st
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("not within 20 s: %s; status %+v", what, st)
		}
	}
}

func signal() (chan struct{}, func()) {
	c := make(chan struct{}, 1)
	return c, func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func TestSessionOverSockets(t *testing.T) {
	for name, host := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			p := newFakePeer(t, host)
			changed, tell := signal()
			failed := make(chan Status, 1)
			e, stop := start(t, p.options(func(_ string, s Status) { failed <- s }, tell), p.peer(config()))
			p.up()
			if p.hops != hopLimit { // RFC 5881 5
				t.Errorf("sent with a TTL of %d", p.hops)
			}
			if port := p.from.Port(); port < firstSourcePort { // RFC 5881 4
				t.Errorf("source port %d", port)
			}
			st := awaitState(t, e, changed, "up", func(s Status) bool { return s.State == Up && s.Transmit == 50*ms })
			if st.Reason != "" || st.Since.IsZero() || st.Failures != 0 || st.Detection != 50*time.Second {
				t.Errorf("status: %+v", st)
			}

			// Other timers, without an interruption.
			if err := e.Set([]Peer{p.peer(Config{Interval: 100 * ms, Multiplier: 5})}); err != nil {
				t.Fatal(err)
			}
			p.until("a poll with the new timers", nil, func(got Packet) bool {
				return got.Poll && got.DesiredMinTx == 100*ms && got.RequiredMinRx == 100*ms && got.DetectMult == 5
			})
			p.send(Up, calm, func(out *Packet) { out.Final = true })
			p.until("the end of the poll", nil, func(got Packet) bool { return !got.Poll })

			// It says that it has lost us.
			p.send(Down, func(out *Packet) { out.Diag = DiagExpired })
			if s := <-failed; s.Failures != 1 || !strings.Contains(s.Reason, "detection time expired") {
				t.Errorf("failure: %+v", s)
			}
			p.until("Down", nil, in(Down))
			p.up()
			stop()
			p.until("AdminDown", nil, in(AdminDown))
			if _, ok := e.Status("tor1"); ok {
				t.Error("there is a session after the end")
			}
			if s := e.Sender(); s.Priority == "" || s.Lateness == [len(s.Lateness)]uint64{} {
				t.Errorf("sender: %+v", s)
			}
		})
	}
}

func TestSilenceIsAFailureAndAdminDownIsNone(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	changed, tell := signal()
	failed := make(chan Status, 4)
	e, _ := start(t, p.options(func(_ string, s Status) { failed <- s }, tell), p.peer(config()))
	p.up()
	p.send(AdminDown)
	st := awaitState(t, e, changed, "AdminDown noticed", func(s Status) bool { return s.State == Down && s.RemoteAdmin })
	if st.Failures != 0 || !strings.Contains(st.Reason, "on purpose") {
		t.Errorf("status: %+v", st)
	}
	p.until("Down", nil, in(Down))
	p.up()
	p.send(Up) // every 50 ms, three times: and no more
	st = <-failed
	if st.Failures != 1 || st.Diag != DiagExpired || st.Reason != "nothing heard from the router for 150ms" {
		t.Errorf("after a silence: %+v", st)
	}
}

func TestForgedPacketsChangeNothing(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	changed, tell := signal()
	e, _ := start(t, p.options(func(string, Status) { t.Error("the session failed") }, tell), p.peer(config()))
	p.up()
	awaitState(t, e, changed, "up", func(s Status) bool { return s.State == Up })
	p.setHops(254) // it has come through a router (RFC 5881 5)
	p.send(Down)
	p.setHops(hopLimit)
	p.send(Down, func(out *Packet) { out.YourDiscriminator++ })
	p.send(Down, func(out *Packet) { out.MyDiscriminator = 0 })
	p.send(Up, func(out *Packet) { out.YourDiscriminator = 0 })
	p.send(Down, func(out *Packet) { out.DetectMult = 0 })
	p.raw([]byte{0x20})
	p.raw(make([]byte, 1000))
	p.raw(nil)
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	genuine := p.conn
	p.conn = other
	p.setHops(hopLimit)
	for range 1000 { // from elsewhere
		p.send(Down)
	}
	p.conn = genuine
	// A packet after all of them shows that they have been dealt with.
	p.send(Up, calm, func(out *Packet) { out.Poll = true })
	p.until("an answer", nil, func(got Packet) bool { return got.Final })
	if st, _ := e.Status("tor1"); st.State != Up || st.Failures != 0 {
		t.Errorf("status: %+v", st)
	}
}

func (p *fakePeer) raw(b []byte) {
	p.t.Helper()
	if _, err := p.conn.WriteToUDPAddrPort(b, p.engine); err != nil {
		p.t.Fatal(err)
	}
}

func TestSessionGoesOnInTheSuccessor(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	changed, tell := signal()
	failed := func(string, Status) { t.Error("the session failed") }
	old, stop := start(t, p.options(failed, tell), p.peer(config()))
	p.up()
	before := awaitState(t, old, changed, "up", func(s Status) bool { return s.State == Up })
	first := p.read()
	from := p.from
	sessions := old.Detach([]string{"tor1", "other"})
	if len(sessions) != 1 || sessions[0].SourcePort != from.Port() || len(old.Detach([]string{"tor1"})) != 0 {
		t.Fatalf("handed over: %+v", sessions)
	}
	for range 20 {
		if got := p.read(); got.State != Up || got.MyDiscriminator != first.MyDiscriminator {
			t.Fatalf("while nobody holds it: %v", got)
		}
	}
	next := New(p.options(failed, tell))
	next.Adopt(sessions)
	if err := next.Set([]Peer{p.peer(config())}); err != nil {
		t.Fatal(err)
	}
	runEngine(t, next)
	poll := func(Packet) { p.send(Up, calm, func(out *Packet) { out.Poll = true }) }
	got := p.until("an answer", poll, func(got Packet) bool { return got.Final })
	if got.State != Up || got.MyDiscriminator != first.MyDiscriminator || p.from != from {
		t.Errorf("the successor sends %v from %v, before it was %v from %v", got, p.from, first, from)
	}
	stop()
	for range 20 {
		if got := p.read(); got.State != Up {
			t.Fatalf("after the old one has ended: %v", got)
		}
	}
	if st, _ := next.Status("tor1"); st.State != Up || st.Failures != 0 || !st.Since.Equal(before.Since) {
		t.Errorf("status %+v, before %+v", st, before)
	}
}

func TestHeldSessionIsSilentUntilItIsLetGo(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	changed, tell := signal()
	held := p.peer(config())
	held.Hold = true
	e, _ := start(t, p.options(nil, tell), held)
	st := awaitState(t, e, changed, "the reason", func(s Status) bool { return strings.Contains(s.Reason, "begins when the BGP session") })
	p.send(Down, func(out *Packet) { out.YourDiscriminator = 0 })
	p.raw(make([]byte, lengthMandatory)) // is refused after that one has been read
	for deadline := time.Now().Add(20 * time.Second); e.Sender().Refused == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("not within 20s: packets are read while the session is held")
		}
	}
	if err := e.Set([]Peer{p.peer(config())}); err != nil {
		t.Fatal(err)
	}
	if first := p.read(); first.State != Down || first.YourDiscriminator != 0 || first.MyDiscriminator != st.Discriminator {
		t.Errorf("the first packet: %v", first)
	}
	p.up()
	// One that is up goes on; it is held once it is down.
	if err := e.Set([]Peer{held}); err != nil {
		t.Fatal(err)
	}
	p.until("it is alive", func(Packet) { p.send(Up, calm, func(out *Packet) { out.Poll = true }) }, func(got Packet) bool { return got.Final })
	p.send(Down, func(out *Packet) { out.Diag = DiagExpired })
	awaitState(t, e, changed, "down", func(s Status) bool { return s.State == Down && s.Failures == 1 })
	if err := e.Set([]Peer{p.peer(config())}); err != nil {
		t.Fatal(err)
	}
	if st, _ := e.Status("tor1"); st.Diag != DiagNeighborDown || st.Failures != 1 {
		t.Errorf("what was is forgotten: %+v", st)
	}
	p.until("Down", nil, in(Down))
	p.up()
}

func TestOccupiedPortIsSaidInWords(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(p.engine.Port())})
	if err != nil {
		t.Fatal(err)
	}
	changed, tell := signal()
	e, _ := start(t, p.options(nil, tell), p.peer(config()))
	awaitState(t, e, changed, "the reason", func(s Status) bool { return strings.Contains(s.Reason, "another BFD daemon") })
	_ = taken.Close()
	p.up() // it tries again
}

func TestPeersThatCannotBe(t *testing.T) {
	e := New(Options{})
	good := Peer{Name: "a", Address: netip.MustParseAddr("192.0.2.1"), Config: config()}
	for name, peers := range map[string][]Peer{
		"no address":         {{Name: "a", Config: config()}},
		"one name twice":     {good, {Name: "a", Address: netip.MustParseAddr("192.0.2.2"), Config: config()}},
		"one address twice":  {good, {Name: "b", Address: good.Address, Config: config()}},
		"interval too short": {{Name: "a", Address: good.Address, Config: Config{Interval: time.Millisecond, Multiplier: 3}}},
		"not whole µs":       {{Name: "a", Address: good.Address, Config: Config{Interval: 50*ms + 1, Multiplier: 3}}},
		"multiplier 1":       {{Name: "a", Address: good.Address, Config: Config{Interval: 50 * ms, Multiplier: 1}}},
	} {
		if e.Set(peers) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The thread must not wait for the collector's sake: it makes no garbage.
func TestSendingDoesNotAllocate(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	e := New(p.options(nil, nil))
	l, err := newLoop(e)
	if err != nil {
		t.Fatal(err)
	}
	l.set([]Peer{p.peer(config())}, nil)
	s := l.sessions["tor1"]
	t.Cleanup(func() { l.reserve(false); l.shut(s); l.closeReceivers(); l.close() })
	heard := Packet{State: Init, DetectMult: 10, MyDiscriminator: 1, YourDiscriminator: s.machine.localDiscr, DesiredMinTx: time.Second, RequiredMinRx: time.Microsecond}
	l.deliver(heard.Append(nil), s.source, hopLimit, time.Now())
	heard.State, heard.Poll = Up, true // each is answered, so each turn sends
	b := heard.Append(nil)
	l.turn()
	if n := testing.AllocsPerRun(200, func() {
		if _, err := p.conn.WriteToUDPAddrPort(b, p.engine); err != nil {
			t.Fatal(err)
		}
		l.turn()
	}); n != 0 {
		t.Errorf("%v allocations for each turn", n)
	}
	if s.last.State != Up || s.last.RemoteDiscriminator != 1 {
		t.Errorf("status: %+v", s.last)
	}
}

// A node that stood still finds its neighbor's packets in the queue, and the
// detection time long over: that is no silence.
func TestOurOwnStandstillIsNoSilence(t *testing.T) {
	p := newFakePeer(t, "127.0.0.1")
	l, err := newLoop(New(p.options(nil, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.set([]Peer{p.peer(config())}, nil)
	s := l.sessions["tor1"]
	t.Cleanup(func() { l.reserve(false); l.shut(s); l.closeReceivers(); l.close() })
	p.last.MyDiscriminator = s.machine.localDiscr
	heard := func(state State) []byte {
		return Packet{State: state, DetectMult: 3, MyDiscriminator: 1, YourDiscriminator: s.machine.localDiscr, DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms}.Append(nil)
	}
	l.deliver(heard(Init), s.source, hopLimit, time.Now())
	p.raw(heard(Up))
	s.machine.expire = time.Now().Add(-time.Second)
	l.turn()
	if s.machine.state != Up {
		t.Fatalf("with a packet in the queue: %v", s.machine.state)
	}
	s.machine.expire = time.Now().Add(-time.Second)
	l.turn()
	if s.machine.state != Down {
		t.Errorf("without one: %v", s.machine.state)
	}
}
