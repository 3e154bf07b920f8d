package bgp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// fakeRouter speaks just enough BGP over loopback for a session, and can do
// what FRR never would.
type fakeRouter struct {
	t        *testing.T
	listener net.Listener
	open     []byte
}

func newFakeRouter(t *testing.T, open []byte) *fakeRouter {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &fakeRouter{t: t, listener: l, open: open}
}

// bothFamilies is the OPEN of AS 65000 with a hold time of 3 s.
func bothFamilies() []byte {
	return openMessage(65000, 3, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfd, 0xe8)
}

func (r *fakeRouter) neighbor(name string, routes ...Route) Neighbor {
	addr := r.listener.Addr().(*net.TCPAddr).AddrPort()
	return Neighbor{
		Name: name, Address: addr.Addr(), Port: addr.Port(), ASN: 65000, LocalASN: 65010,
		HoldTime: 3 * time.Second, ConnectRetry: time.Second, Routes: routes,
	}
}

// peer is one accepted session.
type peer struct {
	t    *testing.T
	conn net.Conn
	buf  []byte
}

// accept takes the next connection up to established.
func (r *fakeRouter) accept() *peer {
	r.t.Helper()
	p := r.acceptOnly()
	p.send(r.open)
	p.await(typeOpen)
	p.send(appendMessage(nil, typeKeepalive))
	return p
}

func (r *fakeRouter) acceptOnly() *peer {
	r.t.Helper()
	_ = r.listener.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := r.listener.Accept()
	if err != nil {
		r.t.Fatalf("no connection from the speaker: %v", err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return &peer{t: r.t, conn: conn, buf: make([]byte, maxMessage)}
}

func (p *peer) send(msg []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(msg); err != nil {
		p.t.Fatalf("the fake router cannot send: %v", err)
	}
}

// await reads up to the next message of a type, and keeps the session alive.
func (p *peer) await(want guard.Type) []byte {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		msg, err := readMessage(p.conn, p.buf)
		if err != nil {
			p.t.Fatalf("waiting for a message of type %d: %v", want, err)
		}
		if typeOf(msg) == want {
			return msg
		}
		if typeOf(msg) == typeKeepalive {
			_, _ = p.conn.Write(appendMessage(nil, typeKeepalive))
		}
	}
}

// awaitPrefixes reads UPDATEs until prefixes were announced and withdrawn.
func (p *peer) awaitPrefixes(announced, withdrawn []string) {
	p.t.Helper()
	for len(announced)+len(withdrawn) > 0 {
		w, a, err := parseUpdate(p.await(typeUpdate))
		if err != nil {
			p.t.Fatal(err)
		}
		in := func(list []netip.Prefix) func(string) bool {
			return func(s string) bool { return slices.Contains(list, netip.MustParsePrefix(s)) }
		}
		announced, withdrawn = slices.DeleteFunc(announced, in(a)), slices.DeleteFunc(withdrawn, in(w))
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r1, r2 := newFakeRouter(t, bothFamilies()), newFakeRouter(t, bothFamilies())
	s := New(Config{Logger: testLogger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	v4, v6 := route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")
	reconcile(t, s, state(r1.neighbor("one", v4), r2.neighbor("two", v4, v6)))
	first, second := r1.accept(), r2.accept()
	first.awaitPrefixes([]string{vip4}, nil)
	second.awaitPrefixes([]string{vip4, vip6}, nil)

	// One goes, and one is lost and returns.
	removed := make(chan error, 1)
	go func() { removed <- s.Reconcile(t.Context(), state(r1.neighbor("one", v4))) }()
	second.awaitPrefixes(nil, []string{vip4, vip6})
	if n, _ := parseNotification(second.await(typeNotification)); n.code != codeCease || n.subcode != ceaseAdminShutdown {
		t.Errorf("the removed neighbor was told: %v", n)
	}
	_ = second.conn.Close()
	if err := <-removed; err != nil {
		t.Errorf("Reconcile: %v", err)
	}
	_ = first.conn.Close()
	first = r1.accept()
	first.awaitPrefixes([]string{vip4}, nil)

	cancel()
	first.awaitPrefixes(nil, []string{vip4})
	if n, _ := parseNotification(first.await(typeNotification)); n.code != codeCease || n.subcode != ceaseAdminShutdown {
		t.Errorf("the neighbor was told: %v", n)
	}
	_ = first.conn.Close()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := s.Reconcile(context.Background(), State{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Reconcile after Run: %v", err)
	}
}

func TestReconcileReturnsWhenTheRouterHasIt(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	v4, v6 := route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")
	reconcile(t, s, state(r.neighbor("one", v4)))
	p := r.accept()
	awaitStatus(t, s, "one", "announcement", func(st SessionStatus) bool { return len(st.Announced) == 1 })

	// Everything is in the router's socket, and in Status, on return.
	reconcile(t, s, state(r.neighbor("one", v6)))
	if got := s.Status()[0].Announced; !slices.Equal(got, []netip.Prefix{v6.Prefix}) {
		t.Errorf("announced on return of Reconcile: %v", got)
	}
	if err := s.WithdrawAll(t.Context()); err != nil {
		t.Fatalf("WithdrawAll: %v", err)
	}
	if got := s.Status()[0].Announced; len(got) != 0 {
		t.Errorf("announced on return of WithdrawAll: %v", got)
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	p.awaitPrefixes([]string{vip4}, nil)
	p.awaitPrefixes([]string{vip6}, []string{vip4, vip6})
}

func TestInvalidStateChangesNothing(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one", route(vip4, "10.0.1.2"))))
	r.accept().awaitPrefixes([]string{vip4}, nil)
	// The router may have read the UPDATE before the speaker notes that it was sent.
	awaitStatus(t, s, "one", "announcement", func(st SessionStatus) bool { return len(st.Announced) == 1 })
	before := s.Status()
	bad := r.neighbor("one")
	bad.HoldTime = time.Second
	var invalid *InvalidStateError
	if err := s.Reconcile(t.Context(), state(bad)); !errors.As(err, &invalid) {
		t.Fatalf("Reconcile: %v", err)
	}
	after := s.Status()
	if len(after) != 1 || !after[0].Established || after[0].Since != before[0].Since || len(after[0].Announced) != 1 {
		t.Errorf("status before %+v, after %+v", before, after)
	}
}

// An UPDATE that no parser would like must neither end the session nor reach
// GoBGP: see "The deaf speaker" in the design.
func TestPoisonousUpdateIsNotHeard(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one", route(vip4, "10.0.1.2"))))
	p := r.accept()
	p.awaitPrefixes([]string{vip4}, nil)
	p.send(appendMessage(nil, typeUpdate, 0xff, 0xff, 0xff, 0xff, 0xff))
	p.send(appendMessage(nil, typeUpdate, 0, 0, 0, 5, 0xff, 14, 0xff, 0xff, 0xff))
	// What comes behind it is still dealt with, in order.
	reconcile(t, s, state(r.neighbor("one", route(vip6, "fd00:1::2"))))
	p.awaitPrefixes([]string{vip6}, []string{vip4})
	if st := s.Status()[0]; !st.Established || st.Flaps != 0 {
		t.Errorf("status: %+v", st)
	}
}

func TestGarbageEndsTheSessionWithAReason(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one")))
	p := r.accept()
	p.send([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	if n, _ := parseNotification(p.await(typeNotification)); n.code != codeHeader || n.subcode != 1 {
		t.Errorf("the router was told: %v", n)
	}
	_ = p.conn.Close()
	awaitStatus(t, s, "one", "the reason", func(st SessionStatus) bool { return strings.Contains(st.LastError, "marker") })
}

func TestRouterThatClosesAtOnce(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one", route(vip4, "10.0.1.2"))))
	for range 3 {
		_ = r.acceptOnly().conn.Close()
	}
	st := awaitStatus(t, s, "one", "an error", func(st SessionStatus) bool { return st.LastError != "" })
	if st.Flaps != 0 || !st.Since.IsZero() {
		t.Errorf("never established, but: %+v", st)
	}
	r.accept().awaitPrefixes([]string{vip4}, nil)
	if st := awaitStatus(t, s, "one", "established", established); st.LastError != "" {
		t.Errorf("last error, although established: %q", st.LastError)
	}
}

func TestSilentRouterRunsIntoTheHoldTime(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one")))
	p := r.accept()
	awaitStatus(t, s, "one", "established", established)
	go func() { _, _ = io.Copy(io.Discard, p.conn) }() // hears, says nothing
	awaitStatus(t, s, "one", "hold timer", func(st SessionStatus) bool {
		return !st.Established && strings.Contains(st.LastError, "hold timer expired: nothing heard from the router for 3s")
	})
}

func TestFamilyThatTheRouterLacksIsSaidInWords(t *testing.T) {
	r := newFakeRouter(t, openMessage(65000, 3)) // IPv4 alone
	s := startSpeaker(t)
	reconcile(t, s, state(r.neighbor("one", route(vip6, "fd00:1::2"), route(vip4, "10.0.1.2"))))
	r.accept().awaitPrefixes([]string{vip4}, nil)
	st := awaitStatus(t, s, "one", "announcement", func(st SessionStatus) bool { return len(st.Announced) > 0 })
	if len(st.Unspoken) != 1 || st.Unspoken[0] != netip.MustParsePrefix(vip6) {
		t.Errorf("unspoken: %v", st.Unspoken)
	}
	if len(st.Announced) != 1 || !strings.Contains(st.LastError, "did not negotiate IPv6 unicast") {
		t.Errorf("status: %+v", st)
	}
	// Nor does a change wait for what will never be sent.
	reconcile(t, s, state(r.neighbor("one", route("2001:db8::2/128", "fd00:1::2"), route(vip4, "10.0.1.2"))))
}

func TestRunsOnce(t *testing.T) {
	s := New(Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := s.Run(ctx); err == nil {
		t.Error("a second Run succeeded")
	}
}
