package listener

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Accepted connections inherit what is set on the listening socket: nothing is
// to be set on each.
func TestAcceptedConnectionsAreKeptAlive(t *testing.T) {
	s, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	c, err := net.Dial("tcp", s.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	fd, ok := s.AcceptQueued()
	if !ok {
		t.Fatal("nobody waits")
	}
	defer func() { _ = unix.Close(fd) }()
	for name, row := range map[string]struct{ level, option, want int }{
		"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60},
		"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 300000},
	} {
		if got, err := unix.GetsockoptInt(fd, row.level, row.option); err != nil || got != row.want {
			t.Errorf("%s = %d, %v; want %d", name, got, err, row.want)
		}
	}
}
