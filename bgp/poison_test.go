package bgp

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/bgp/guard"
	"github.com/pharos-lb/pharos/bgp/guard/guardtest"
)

// listener is a router that was established, and from then on notes what it
// hears.
type listener struct {
	announced, withdrawn, keepalives int
	last                             uint32 // the MED of the last announcement
	ended                            error
}

// listen reads until the connection ends, and answers each KEEPALIVE with one
// if it may.
func (p *peer) listen(heard func(listener)) {
	var l listener
	_ = p.conn.SetReadDeadline(time.Time{})
	for {
		msg, err := readMessage(p.conn, p.buf)
		if err != nil {
			l.ended = err
			heard(l)
			return
		}
		switch typeOf(msg) {
		case typeUpdate:
			withdrawn, announced, err := parseUpdate(msg)
			l.announced, l.withdrawn = l.announced+len(announced), l.withdrawn+len(withdrawn)
			if l.ended = err; len(announced) > 0 {
				l.last = medOf(msg)
			}
		case typeKeepalive:
			l.keepalives++
		case typeNotification:
			n, _ := parseNotification(msg)
			p.t.Logf("the router is told: %s", n)
		}
		heard(l)
	}
}

// medOf is the MULTI_EXIT_DISC of an UPDATE of ours for IPv4.
func medOf(msg []byte) uint32 {
	attributes, _, _ := cut16(msg[headerLen+2:])
	for len(attributes) > 0 {
		kind, value, rest, err := cutAttribute(attributes)
		if err != nil {
			return 0
		}
		if kind == 4 {
			return binary.BigEndian.Uint32(value)
		}
		attributes = rest
	}
	return 0
}

// Each of these is dropped, the session stands, and what is announced stays.
func TestNoPoisonEndsTheSession(t *testing.T) {
	r := newFakeRouter(t, withRefresh())
	s := startSpeaker(t)
	n := r.neighbor("one", route(vip4, "10.0.1.2"))
	reconcile(t, s, state(n))
	p := r.accept()
	p.awaitPrefixes([]string{vip4}, nil)
	changes := make(chan listener, 1000)
	go p.listen(func(l listener) { changes <- l })
	med := uint32(0)
	// alive says that the session still takes changes, in the order of what was sent.
	alive := func(after string) {
		t.Helper()
		med++
		value := med
		n.Routes = []Route{n.Routes[0]}
		n.Routes[0].MED = &value
		reconcile(t, s, state(n))
		deadline := time.After(20 * time.Second)
		for {
			select {
			case l := <-changes:
				if l.ended != nil || l.withdrawn > 0 {
					t.Fatalf("after %s: %+v; status: %+v", after, l, s.Status()[0])
				}
				if l.last == value {
					return
				}
			case <-deadline:
				t.Fatalf("not within 20s: MED %d after %s; status: %+v", value, after, s.Status()[0])
			}
		}
	}
	alive("the beginning")
	for _, poison := range guardtest.Poisons() {
		p.send(poison.Message)
		p.send(appendMessage(nil, typeKeepalive))
		alive(poison.Name)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		for range 500 {
			body := make([]byte, 4+random.IntN(maxMessage-headerLen-4))
			for i := range body {
				body[i] = byte(random.Uint32())
			}
			p.send(appendMessage(nil, typeUpdate, body...))
		}
		p.send(appendMessage(nil, typeKeepalive))
		alive("random UPDATEs")
	}
	p.send(askAgain)
	for l := (listener{}); l.announced <= int(med); { // each change once, and the answer
		select {
		case l = <-changes:
			if l.ended != nil || l.withdrawn > 0 {
				t.Fatalf("asked again behind all that, the router heard %+v", l)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not within 20s: the answer to a ROUTE-REFRESH; %+v", s.Status()[0])
		}
	}
	if st := s.Status()[0]; !st.Established || st.Flaps != 0 || len(st.Announced) != 1 {
		t.Errorf("status: %+v", st)
	}
}

// withRefresh is the OPEN of a router that may ask again (RFC 2918).
func withRefresh() []byte {
	return openMessage(65000, 3, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 65, 4, 0, 0, 0xfd, 0xe8)
}

// askAgain is a ROUTE-REFRESH: its answer shows that all that was sent before
// it has been read.
var askAgain = appendMessage(nil, guard.TypeRouteRefresh, 0, 1, 0, 1)

// A stream that is no BGP at all costs its own session, with a reason, and the
// next one comes about.
func TestRandomStreamsCostTheirOwnSessionAlone(t *testing.T) {
	bad, good := newFakeRouter(t, bothFamilies()), newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(bad.neighbor("bad", route(vip4, "10.0.1.2")), good.neighbor("good", route(vip4, "10.0.1.2"))))
	g := good.accept()
	g.awaitPrefixes([]string{vip4}, nil)
	go g.listen(func(l listener) {
		if l.ended == nil {
			_, _ = g.conn.Write(appendMessage(nil, typeKeepalive))
		}
	})
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 20 {
		var p *peer
		if i%2 == 0 {
			p = bad.acceptOnly()
		} else {
			p = bad.accept()
			p.awaitPrefixes([]string{vip4}, nil)
		}
		body := make([]byte, 100+random.IntN(8000))
		for j := range body {
			body[j] = byte(random.Uint32())
		}
		// Half of them begin as a message does.
		if i%4 >= 2 {
			copy(body, appendMessage(nil, typeKeepalive)[:16])
			binary.BigEndian.PutUint16(body[16:], uint16(random.IntN(200)))
			body[18] = byte(random.IntN(7))
		}
		_, _ = p.conn.Write(body)
		if c, ok := p.conn.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
		_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			if _, err := readMessage(p.conn, p.buf); err != nil {
				break
			}
		}
		_ = p.conn.Close()
	}
	bad.accept().awaitPrefixes([]string{vip4}, nil)
	if st := s.Status()[1]; !st.Established || st.Flaps != 0 || len(st.Announced) != 1 {
		t.Errorf("the other session: %+v", st)
	}
}

func TestAMillionRoutesCostNothing(t *testing.T) {
	const routes, each = 1_000_000, 4
	r := newFakeRouter(t, withRefresh())
	s := startSpeaker(t)
	n := r.neighbor("one", route(vip4, "10.0.1.2"))
	reconcile(t, s, state(n))
	p := r.accept()
	p.awaitPrefixes([]string{vip4}, nil)
	heard := make(chan listener, 1)
	go p.listen(func(l listener) {
		select {
		case <-heard:
		default:
		}
		heard <- l
	})
	awaitStatus(t, s, "one", "established", established)

	before := memory(t)
	update := appendMessage(nil, typeUpdate, append([]byte{0, 0, 0, 20, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8, 0x40, 3, 4, 10, 0, 1, 1}, make([]byte, 4*each)...)...)
	binary.BigEndian.PutUint16(update[headerLen+2:], 20)
	batch := make([]byte, 0, 64*len(update))
	start, changes := time.Now(), 0
	for sent := 0; sent < routes; {
		batch = batch[:0]
		for range 64 {
			msg := len(batch)
			batch = append(batch, update...)
			for i := range each {
				at := batch[msg+len(update)-4*(each-i):]
				at[0], at[1], at[2], at[3] = 24, byte(1+sent>>16), byte(sent>>8), byte(sent)
				sent++
			}
		}
		if sent%16384 == 0 {
			batch = appendMessage(batch, typeKeepalive)
		}
		p.send(batch)
		if sent%(64*each*400) == 0 {
			med := uint32(sent)
			n.Routes = []Route{n.Routes[0]}
			n.Routes[0].MED = &med
			reconcile(t, s, state(n)) // in the midst of it
			changes++
		}
	}
	last := uint32(7)
	n.Routes = []Route{n.Routes[0]}
	n.Routes[0].MED = &last
	reconcile(t, s, state(n))
	changes++
	p.send(askAgain)
	var l listener
	// As often as there was a change, and once more as the answer.
	for l.last != last || l.announced < changes+1 {
		select {
		case l = <-heard:
			if l.ended != nil || l.withdrawn > 0 {
				t.Fatalf("during the table: %+v; status: %+v", l, s.Status()[0])
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not within 20s: the last MED; %+v", s.Status()[0])
		}
	}
	took := time.Since(start)
	after := memory(t)
	t.Logf("%d routes in %s; heap %d -> %d KiB, from the system %d -> %d KiB, resident %d -> %d KiB; changes announced meanwhile: %d",
		routes, took.Round(time.Millisecond), before.heap>>10, after.heap>>10, before.system>>10, after.system>>10, before.resident>>10, after.resident>>10, l.announced)
	const most = 10 << 20
	if grown := int64(after.heap) - int64(before.heap); grown > most {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
	// What was ever taken from the system is not given back to this figure.
	if grown := int64(after.system) - int64(before.system); grown > most {
		t.Errorf("what was taken from the system grew by %d KiB", grown>>10)
	}
	if st := s.Status()[0]; !st.Established || st.Flaps != 0 || len(st.Announced) != 1 || st.Announced[0] != netip.MustParsePrefix(vip4) {
		t.Errorf("status: %+v", st)
	}
}

type usage struct{ heap, system, resident uint64 } // octets

func memory(t *testing.T) usage {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{heap: m.HeapAlloc, system: m.Sys}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			u.resident = kib << 10
		}
	}
	return u
}

func TestARouterThatSaysNothingIsGivenUp(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	n := r.neighbor("one", route(vip4, "10.0.1.2"))
	reconcile(t, s, state(n))
	r.acceptOnly().await(typeOpen) // and says nothing
	awaitStatus(t, s, "one", "the reason", func(st SessionStatus) bool {
		return strings.Contains(st.LastError, "took the connection and then said nothing")
	})
	r.accept().awaitPrefixes([]string{vip4}, nil)
}

func TestARouterThatSaysNothingButItsOpenIsGivenUp(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one", route(vip4, "10.0.1.2"))))
	p := r.acceptOnly()
	p.send(r.open)
	awaitStatus(t, s, "one", "the reason", func(st SessionStatus) bool {
		return strings.Contains(st.LastError, "hold timer expired")
	})
	_ = p.conn.Close()
	r.accept().awaitPrefixes([]string{vip4}, nil)
}
