package bgp

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// setSocketOptions marks packets as network control (CS6), and sends them with
// TTL 255: what a router with TTL security wants to see (RFC 5082 3), and
// what any other takes as well.
func setSocketOptions(network, _ string, c syscall.RawConn) error {
	const (
		ttl = 255
		cs6 = 0xc0 // RFC 4594 3.2
	)
	var err error
	controlErr := c.Control(func(fd uintptr) {
		if network == "tcp6" {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, cs6))
			return
		}
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, cs6))
	})
	return errors.Join(controlErr, err)
}

// unacknowledged is how many octets the peer's TCP has not acknowledged yet.
func unacknowledged(conn *net.TCPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	controlErr := raw.Control(func(fd uintptr) {
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	return n, errors.Join(controlErr, err)
}
