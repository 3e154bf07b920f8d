package bgp

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/bgp/guard"
)

// detached runs a speaker until all its neighbors are told their routes, and
// takes its sessions away.
func detached(t *testing.T, st State, ready func(*Speaker)) []Established {
	t.Helper()
	s := New(Config{Logger: testLogger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	reconcile(t, s, st)
	ready(s)
	sessions := s.Detach()
	if again := s.Detach(); len(again) != 0 {
		t.Errorf("a second Detach gave %d sessions", len(again))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	return sessions
}

// successor is a speaker that goes on with sessions.
func successor(t *testing.T, st State, sessions []Established) *Speaker {
	t.Helper()
	s := New(Config{Logger: testLogger(t)})
	reconcile(t, s, st)
	if err := s.Adopt(sessions); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func TestASessionGoesOnInTheSuccessor(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	v4, v6 := route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")
	stale4, stale6 := route("198.51.100.9/32", "10.0.1.2"), route("2001:db8:100::9/128", "fd00:1::2")
	var p *peer
	sessions := detached(t, state(r.neighbor("one", v4, v6, stale4, stale6)), func(s *Speaker) {
		p = r.accept()
		p.awaitPrefixes([]string{vip4, vip6, "198.51.100.9/32", "2001:db8:100::9/128"}, nil)
		p.send(appendMessage(nil, typeKeepalive)[:7]) // the rest comes to the successor
	})
	if len(sessions) != 1 || len(sessions[0].Told) != 4 {
		t.Fatalf("sessions: %+v", sessions)
	}
	p.send(appendMessage(nil, typeKeepalive)[7:])

	s := successor(t, state(r.neighbor("one", v4, v6)), sessions)
	p.awaitPrefixes([]string{vip4, vip6}, []string{"198.51.100.9/32", "2001:db8:100::9/128"})
	st := awaitStatus(t, s, "one", "both announced", func(st SessionStatus) bool { return len(st.Announced) == 2 })
	if !st.Established || st.Flaps != 0 || st.LastError != "" || !st.Since.Equal(sessions[0].Since) {
		t.Errorf("status: %+v", st)
	}
	// It is a session like any other: it lives, and is told of changes.
	p.send(appendMessage(nil, typeKeepalive))
	reconcile(t, s, state(r.neighbor("one", v4)))
	p.awaitPrefixes(nil, []string{vip6})
	p.await(typeKeepalive)
}

func TestASessionThatCannotGoOnIsDialledAnew(t *testing.T) {
	v4 := route(vip4, "10.0.1.2")
	for name, change := range map[string]func(*Neighbor, *Established){
		"another hold time":   func(n *Neighbor, _ *Established) { n.HoldTime *= 2 },
		"another AS of ours":  func(n *Neighbor, _ *Established) { n.LocalASN++ },
		"OPENs differ":        func(_ *Neighbor, e *Established) { e.Ours = append(bytes.Clone(e.Ours), 0) },
		"the engine refuses":  func(_ *Neighbor, e *Established) { e.Theirs = openMessage(65001, 3) },
		"not an OPEN of ours": func(_ *Neighbor, e *Established) { e.Theirs = []byte("nonsense") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newFakeRouter(t, bothFamilies())
			n := r.neighbor("one", v4)
			sessions := detached(t, state(n), func(*Speaker) { r.accept().awaitPrefixes([]string{vip4}, nil) })
			change(&n, &sessions[0])
			s := successor(t, state(n), sessions)
			r.accept().awaitPrefixes([]string{vip4}, nil)
			awaitStatus(t, s, "one", "established", established)
		})
	}
}

func TestASessionWithoutItsNeighborIsClosed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r := newFakeRouter(t, bothFamilies())
	var p *peer
	sessions := detached(t, state(r.neighbor("one", route(vip4, "10.0.1.2"))), func(*Speaker) {
		p = r.accept()
		p.awaitPrefixes([]string{vip4}, nil)
	})
	s := New(Config{Logger: testLogger(t)})
	if err := s.Adopt(sessions); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for {
		if _, err := readMessage(p.conn, p.buf); err != nil {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Adopt(nil); err == nil {
		t.Error("a speaker that has run adopts")
	}
}

func TestSessionsThatAreNotUpAreNotHandedOver(t *testing.T) {
	r := newFakeRouter(t, bothFamilies())
	sessions := detached(t, state(r.neighbor("one", route(vip4, "10.0.1.2"))), func(*Speaker) {
		r.acceptOnly().await(typeOpen) // and says nothing
	})
	if len(sessions) != 0 {
		t.Errorf("sessions: %+v", sessions)
	}
}

func TestFRRNoticesNothingOfASuccession(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	v4, v6 := route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2")
	st := state(neighbor(1, 65000, 65010, v4, v6))
	sessions := detached(t, st, func(s *Speaker) {
		awaitStatus(t, s, "tor1", "both announced", func(st SessionStatus) bool { return len(st.Announced) == 2 })
		eventually(t, "both valid in FRR", func() bool {
			p4, p6 := r.paths("ipv4", vip4), r.paths("ipv6", vip6)
			return len(p4) == 1 && len(p6) == 1 && p4[0].Valid && p6[0].Valid
		})
	})
	before := r.peer("10.0.1.2")
	if len(r.paths("ipv4", vip4)) != 1 {
		t.Error("the route is gone while nobody speaks")
	}
	s := successor(t, st, sessions)
	awaitStatus(t, s, "tor1", "established", established)
	// One more change shows that FRR listens.
	med := uint32(9)
	v4.MED = &med
	reconcile(t, s, state(neighbor(1, 65000, 65010, v4, v6)))
	eventually(t, "the new MED in FRR", func() bool {
		p := r.paths("ipv4", vip4)
		return len(p) == 1 && p[0].MED != nil && *p[0].MED == 9
	})
	if after := r.peer("10.0.1.2"); after.State != "Established" || after.Established != before.Established || after.Dropped != before.Dropped {
		t.Errorf("the session before %+v, after %+v", before, after)
	}
}

func TestWithdrawalsAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want netip.Prefix
		if rapid.Bool().Draw(t, "IPv4") {
			b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")
			want = netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
		} else {
			b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
			want = netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), rapid.IntRange(0, 128).Draw(t, "bits")).Masked()
			if want.Addr().Is4In6() {
				t.Skip("no IPv6 address")
			}
		}
		msg := withdrawal(want)
		if n, err := guard.CheckHeader(msg[:headerLen]); err != nil || n != len(msg) {
			t.Fatalf("header: %d of %d octets, %v", n, len(msg), err)
		}
		withdrawn, announced, err := parseUpdate(msg)
		if err != nil || len(announced) != 0 || !slices.Equal(withdrawn, []netip.Prefix{want}) {
			t.Fatalf("%v is read back as withdrawn %v, announced %v, %v", want, withdrawn, announced, err)
		}
	})
}
