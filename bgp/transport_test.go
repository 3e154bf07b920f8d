package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/bgp/guard"
)

const secret = guard.Password("correct-horse-battery-staple") // FRR takes one word

// over6 makes the session one over IPv6.
func over6(n *Neighbor) { n.Address = netip.MustParseAddr("fd00:1::1") }

func TestFRRAcceptsEveryTransport(t *testing.T) {
	password := fmt.Sprintf(" neighbor NODES password %s\n", string(secret))
	const ttlSecurity = " neighbor NODES ttl-security hops 1\n"
	for _, test := range []struct {
		name   string
		extra  string // of FRR
		change func(*Neighbor)
		peer   string // our address, as FRR has it
	}{
		{"password", password, func(n *Neighbor) { n.Password = secret }, "10.0.1.2"},
		{"password over IPv6", password, func(n *Neighbor) { over6(n); n.Password = secret }, "fd00:1::2"},
		{"TTL security", ttlSecurity, func(n *Neighbor) { n.TTLSecurity = 1 }, "10.0.1.2"},
		{"TTL security over IPv6", ttlSecurity, func(n *Neighbor) { over6(n); n.TTLSecurity = 1 }, "fd00:1::2"},
		{"TTL security of the router alone", ttlSecurity, func(*Neighbor) {}, "10.0.1.2"},
		{"passive", "", func(n *Neighbor) { n.Passive = true }, "10.0.1.2"},
		{"passive over IPv6", "", func(n *Neighbor) { over6(n); n.Passive = true }, "fd00:1::2"},
		{"passive on a source, with password and TTL security", password + ttlSecurity, func(n *Neighbor) {
			n.Passive, n.Password, n.TTLSecurity, n.Source = true, secret, 1, netip.MustParseAddr("10.0.1.2")
		}, "10.0.1.2"},
		{"source", " neighbor 10.0.1.22 peer-group NODES\n", func(n *Neighbor) { n.Source = netip.MustParseAddr("10.0.1.22") }, "10.0.1.22"},
		{"multihop to a loopback address", " neighbor NODES ebgp-multihop 3\n neighbor NODES update-source 10.255.1.1\n", func(n *Neighbor) {
			n.Address, n.Multihop = netip.MustParseAddr("10.255.1.1"), 3
		}, "10.0.1.2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: test.extra, address: "10.255.1.1"})
			run(t, "ip", "addr", "add", "10.0.1.22/24", "dev", "r1")
			run(t, "ip", "route", "add", "10.255.1.1/32", "via", "10.0.1.1")
			s := startSpeaker(t)
			n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"), route(vip6, "fd00:1::2"))
			test.change(&n)
			reconcile(t, s, state(n))
			eventually(t, "both prefixes in FRR", func() bool {
				return len(r.paths("ipv4", vip4)) == 1 && len(r.paths("ipv6", vip6)) == 1
			})
			if p := r.peer(test.peer); p.State != "Established" {
				t.Errorf("FRR's session with %s: %+v", test.peer, p)
			}
			if st := s.Status()[0]; !st.Established || st.LastError != "" {
				t.Errorf("status: %+v", st)
			}
			conn := s.list()[0].link.router
			if local := conn.LocalAddr().(*net.TCPAddr).AddrPort(); n.Passive != (local.Port() == bgpPort) {
				t.Errorf("our end is %s", local)
			}
			want := 255
			if n.Multihop > 0 {
				want = n.Multihop
			}
			if got := sentTTL(t, conn, n.Address.Is6()); got != want {
				t.Errorf("packets are sent with a TTL of %d, want %d", got, want)
			}
		})
	}
}

func sentTTL(t *testing.T, conn *net.TCPConn, six bool) int {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ttl := 0
	controlErr := raw.Control(func(fd uintptr) {
		if six {
			ttl, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS)
		} else {
			ttl, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL)
		}
	})
	if controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return ttl
}

func TestIBGPWithAPassword(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65010, remote: 65010, extra: " neighbor NODES password " + string(secret) + "\n"})
	s := startSpeaker(t)
	n := neighbor(1, 65010, 65010, route(vip4, "10.0.1.2"))
	n.Password = secret
	reconcile(t, s, state(n))
	eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
}

// What does not fit is dropped by a kernel without a word, on one side or the
// other: the words are ours, and the right configuration mends it.
func TestTransportThatDoesNotFitIsSaidInWords(t *testing.T) {
	password := " neighbor NODES password " + string(secret) + "\n"
	for _, test := range []struct {
		name        string
		extra       string
		wrong, mend func(*Neighbor)
		want        string
	}{
		{"another password", password, func(n *Neighbor) { n.Password = "Tr0ub4dor&3" }, func(n *Neighbor) { n.Password = secret }, "does it have the same password (TCP-MD5)?"},
		{"a password that the router lacks", "", func(n *Neighbor) { n.Password = secret }, func(n *Neighbor) { n.Password = "" }, "does it have the same password (TCP-MD5)?"},
		{"no password", password, func(*Neighbor) {}, func(n *Neighbor) { n.Password = secret }, "does it ask for a password (TCP-MD5)?"},
		{
			"another password, passive", password, func(n *Neighbor) { n.Passive, n.Password = true, "Tr0ub4dor&3" },
			func(n *Neighbor) { n.Password = secret }, "this neighbor is passive, so it has to: is the router up, and does it have the same password",
		},
		{"TTL security that the router lacks", "", func(n *Neighbor) { n.TTLSecurity = 1 }, func(n *Neighbor) { n.TTLSecurity = 0 }, "within 1 hop, and with TTL security on"},
		{
			"source of another node", "", func(n *Neighbor) { n.Source = netip.MustParseAddr("10.0.99.99") },
			func(n *Neighbor) { n.Source = netip.Addr{} }, "source 10.0.99.99 is not an address of this node",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: test.extra})
			s := startSpeaker(t)
			n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
			test.wrong(&n)
			reconcile(t, s, state(n))
			st := awaitStatus(t, s, "tor1", "the reason", func(st SessionStatus) bool { return strings.Contains(st.LastError, test.want) })
			if st.Established || strings.Contains(st.LastError, string(n.Password)) && n.Password != "" {
				t.Errorf("status: %+v", st)
			}
			test.mend(&n)
			reconcile(t, s, state(n))
			eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
		})
	}
}

func TestOnlyWhatBGPAsksForResetsTheSession(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: " neighbor NODES ttl-security hops 1\n"})
	s := startSpeaker(t)
	n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
	reconcile(t, s, state(n))
	eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
	before := r.peer("10.0.1.2")
	med := uint32(100)
	for _, change := range []func(){
		func() { n.ConnectRetry = 5 * time.Second },
		func() { n.TTLSecurity = 1 },
		func() { n.TTLSecurity = 3 },
		func() { n.Passive = true },
		func() { n.Routes[0].Communities = []uint32{65000<<16 | 7} },
		func() { n.Passive = false },
		func() { n.Routes[0].MED = &med },
	} {
		change()
		reconcile(t, s, state(n))
		med++
	}
	eventually(t, "the last attributes in FRR", func() bool {
		p := r.paths("ipv4", vip4)
		return len(p) == 1 && p[0].MED != nil && *p[0].MED >= 100 && p[0].Community.String == "65000:7"
	})
	if after := r.peer("10.0.1.2"); after.Established != before.Established || after.Dropped != before.Dropped {
		t.Errorf("the session before %+v, after %+v", before, after)
	}
	n.HoldTime = 6 * time.Second
	reconcile(t, s, state(n))
	eventually(t, "a new session for a new hold time", func() bool {
		p := r.peer("10.0.1.2")
		return p.State == "Established" && p.Established == before.Established+1
	})
}

func TestANewPasswordOnBothSidesResetsNothing(t *testing.T) {
	var ports guard.Ports
	at := newFakeRouter(t, nil)
	n := at.neighbor("one", route(vip4, "10.0.1.2"))
	_ = at.listener.Close() // the port is what was wanted
	us := guard.Terms{Router: netip.MustParseAddr("127.0.0.1"), Password: secret}
	door, err := ports.Listen(n.endpoint(), us)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	s := startSpeaker(t)
	n.Password = secret
	reconcile(t, s, state(n))
	var p *peer
	select {
	case conn := <-door.Came():
		t.Cleanup(func() { _ = conn.Close() })
		p = &peer{t: t, conn: conn, buf: make([]byte, maxMessage)}
	case <-time.After(20 * time.Second):
		t.Fatal("not within 20s: a connection")
	}
	p.send(bothFamilies())
	p.await(typeOpen)
	p.send(appendMessage(nil, typeKeepalive))
	p.awaitPrefixes([]string{vip4}, nil)

	us.Password = "another"
	if err := us.Change(p.conn.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	n.Password = us.Password
	n.Routes = []Route{route(vip6, "fd00:1::2")}
	reconcile(t, s, state(n))
	p.awaitPrefixes([]string{vip6}, []string{vip4})
	if st := s.Status()[0]; !st.Established || st.Flaps != 0 {
		t.Errorf("status: %+v", st)
	}
}

func TestAPassiveSessionIsBackAfterTheRouter(t *testing.T) {
	r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010})
	s := startSpeaker(t)
	n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
	n.Passive = true
	reconcile(t, s, state(n))
	eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
	r.kill("bgpd")
	awaitStatus(t, s, "tor1", "loss noticed", func(st SessionStatus) bool { return !st.Established })
	r.startDaemon("bgpd")
	eventually(t, "the prefix in FRR again", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
	reconcile(t, s, state())
	if conn, err := net.Dial("tcp", "10.0.1.2:179"); err == nil {
		_ = conn.Close()
		t.Error("somebody listens for a neighbor that is gone")
	}
}

func TestFRRNoticesNothingOfASuccessionOfAnyTransport(t *testing.T) {
	for _, test := range []struct {
		name   string
		extra  string
		change func(*Neighbor)
	}{
		{"password and TTL security", " neighbor NODES password " + string(secret) + "\n neighbor NODES ttl-security hops 1\n", func(n *Neighbor) {
			n.Password, n.TTLSecurity = secret, 1
		}},
		{"passive, with a password", " neighbor NODES password " + string(secret) + "\n", func(n *Neighbor) { n.Password, n.Passive = secret, true }},
		{"source and multihop", " neighbor NODES ebgp-multihop 2\n", func(n *Neighbor) { n.Source, n.Multihop = netip.MustParseAddr("10.0.1.2"), 2 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := startRouter(t, routerConfig{index: 1, asn: 65000, remote: 65010, extra: test.extra})
			n := neighbor(1, 65000, 65010, route(vip4, "10.0.1.2"))
			test.change(&n)
			sessions := detached(t, state(n), func(*Speaker) {
				eventually(t, "the prefix in FRR", func() bool { return len(r.paths("ipv4", vip4)) == 1 })
			})
			before := r.peer("10.0.1.2")
			s := successor(t, state(n), sessions)
			awaitStatus(t, s, "tor1", "established", established)
			med := uint32(9)
			n.Routes[0].MED = &med
			reconcile(t, s, state(n))
			eventually(t, "the new MED in FRR", func() bool {
				p := r.paths("ipv4", vip4)
				return len(p) == 1 && p[0].MED != nil && *p[0].MED == 9
			})
			if after := r.peer("10.0.1.2"); after.State != "Established" || after.Established != before.Established || after.Dropped != before.Dropped {
				t.Errorf("the session before %+v, after %+v", before, after)
			}
		})
	}
}
