package listener

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBindAnAddressThatIsNotHere(t *testing.T) {
	for _, a := range []string{"198.51.100.77:0", "[2001:db8::77]:0"} {
		s, err := Bind(netip.MustParseAddrPort(a))
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			t.Errorf("Bind(%s) = %v: freebind must not need the address", a, err)
			continue
		}
		if s.Address().Port() == 0 {
			t.Errorf("Address of %s = %v, want the port that was chosen", a, s.Address())
		}
		_ = s.Close()
	}
}

func TestBothFamiliesOfOnePort(t *testing.T) {
	four, err := Bind(netip.MustParseAddrPort("0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = four.Close() }()
	six, err := Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), four.Address().Port()))
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Skip("no IPv6")
	}
	if err != nil {
		t.Fatalf("[::] beside 0.0.0.0: %v", err)
	}
	_ = six.Close()
}

func TestAcceptQueued(t *testing.T) {
	s, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if fd, ok := s.AcceptQueued(); ok {
		t.Fatalf("accepted %d of an empty queue", fd)
	}
	for range 3 {
		c, err := net.Dial("tcp", s.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	n := 0
	for fd, ok := s.AcceptQueued(); ok; fd, ok = s.AcceptQueued() {
		_ = unix.Close(fd)
		n++
	}
	if n != 3 {
		t.Errorf("%d connections were queued, want 3", n)
	}
	_ = s.Close()
	if _, err := s.Dup(); !errors.Is(err, errClosed) {
		t.Errorf("Dup of a closed socket = %v", err)
	}
}
