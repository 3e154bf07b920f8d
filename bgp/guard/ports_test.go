package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Loopback addresses stand for us and for routers.
var (
	here   = netip.MustParseAddr("127.0.0.1")
	first  = netip.MustParseAddr("127.0.1.1")
	second = netip.MustParseAddr("127.0.1.2")
)

// freePort is one that nobody listens on.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", netip.AddrPortFrom(here, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// from dials as a router does that has these terms with us.
func from(router netip.Addr, local netip.AddrPort, terms Terms) (*net.TCPConn, error) {
	terms.Router = local.Addr()
	return terms.Dial(context.Background(), local.Port(), router, time.Second)
}

func come(t *testing.T, d *Door) *net.TCPConn {
	t.Helper()
	select {
	case conn := <-d.Came():
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	case <-time.After(20 * time.Second):
		t.Fatal("not within 20s: a connection of the router")
		return nil
	}
}

func openDoor(t *testing.T, p *Ports, local netip.AddrPort, terms Terms) *Door {
	t.Helper()
	d, err := p.Listen(local, terms)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func dialled(t *testing.T, router netip.Addr, local netip.AddrPort, terms Terms) *net.TCPConn {
	t.Helper()
	conn, err := from(router, local, terms)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// talk sends a word each way.
func talk(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := way[0].Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		_ = way[1].SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(way[1], make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEachRouterComesToItsOwnDoor(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	local := freePort(t)
	var p Ports
	one, two := openDoor(t, &p, local, Terms{Router: first}), openDoor(t, &p, local, Terms{Router: second})
	talk(t, dialled(t, second, local, Terms{}), come(t, two))
	talk(t, dialled(t, first, local, Terms{}), come(t, one))
	if _, err := p.Listen(local, Terms{Router: first}); err == nil || !strings.Contains(err.Error(), "somebody waits") {
		t.Errorf("a second door: %v", err)
	}
	// A stranger is sent away, as is a router whose door is closed.
	two.Close()
	for _, stranger := range []netip.Addr{netip.MustParseAddr("127.0.1.3"), second} {
		conn := dialled(t, stranger, local, Terms{})
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s reads: %v", stranger, err)
		}
		_ = conn.Close()
	}
	one.Close()
	one.Close()
	if conn, err := from(first, local, Terms{}); err == nil {
		_ = conn.Close()
		t.Error("the port is open although all doors are closed")
	}
	openDoor(t, &p, local, Terms{Router: first}).Close()
}

func TestARouterThatComesAnewReplacesItsOldConnection(t *testing.T) {
	local := freePort(t)
	var p Ports
	d := openDoor(t, &p, local, Terms{Router: first})
	old := dialled(t, first, local, Terms{})
	fresh := dialled(t, first, local, Terms{})
	_ = old.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the old connection lives")
	}
	talk(t, fresh, come(t, d))
}

func TestOneAddressAndAllAddressesCanBothBeListenedOn(t *testing.T) {
	local := freePort(t)
	var p Ports
	all := openDoor(t, &p, netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port()), Terms{Router: second})
	own := openDoor(t, &p, local, Terms{Router: first})
	talk(t, dialled(t, first, local, Terms{}), come(t, own))
	elsewhere := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), local.Port())
	talk(t, dialled(t, second, elsewhere, Terms{}), come(t, all))
}

func TestPasswords(t *testing.T) {
	const right, wrong, next = Password("right"), Password("wrong"), Password("next")
	local := freePort(t)
	var p Ports
	d := openDoor(t, &p, local, Terms{Router: first, Password: right})
	open := openDoor(t, &p, local, Terms{Router: second})
	for _, password := range []Password{wrong, ""} {
		conn, err := from(first, local, Terms{Password: password})
		if err == nil {
			_ = conn.Close()
			t.Fatalf("connected with the password %q", string(password))
		}
		if !strings.Contains(err.Error(), "TCP-MD5") || strings.Contains(err.Error(), string(wrong)) {
			t.Errorf("the error: %v", err)
		}
	}
	router := dialled(t, first, local, Terms{Password: right})
	ours := come(t, d)
	talk(t, router, ours)
	talk(t, dialled(t, second, local, Terms{}), come(t, open)) // who has none, needs none

	// A password can be changed while the connection stands.
	if err := (Terms{Router: first, Password: next}).Change(ours); err != nil {
		t.Fatal(err)
	}
	if err := (Terms{Router: here, Password: next}).Change(router); err != nil {
		t.Fatal(err)
	}
	talk(t, router, ours)
}

func TestTTLSecurity(t *testing.T) {
	local := freePort(t)
	var p Ports
	d := openDoor(t, &p, local, Terms{Router: first, TTLSecurity: 2})
	talk(t, dialled(t, first, local, Terms{Multihop: 254}), come(t, d))
	if conn, err := from(first, local, Terms{Multihop: 253}); err == nil {
		_ = conn.Close()
		t.Error("a router with a TTL of 253 got through")
	}
	// Beside a router without it, only the connection itself is held to it.
	openDoor(t, &p, local, Terms{Router: second})
	dialled(t, first, local, Terms{Multihop: 253})
	raw, err := come(t, d).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := control(raw, func(fd int) error {
		ttl, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL)
		if ttl != 254 {
			t.Errorf("the connection asks for a TTL of %d", ttl)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestAPasswordIsNeverShown(t *testing.T) {
	terms := Terms{Router: here, Password: "hush"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, terms) + fmt.Sprintf(verb, terms.Password) + fmt.Sprintf(verb, &terms); strings.Contains(text, "hush") || strings.Contains(text, "68757368") {
			t.Errorf("%s shows %s", verb, text)
		}
	}
	if text := fmt.Sprint(Password("")); text != "(none)" {
		t.Errorf("none is shown as %s", text)
	}
}
