package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// setMarks marks packets as network control (CS6: RFC 4594 3.2).
func setMarks(fd int, six bool) error {
	const cs6 = 0xc0
	if six {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, cs6)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, cs6)
}

// set makes a socket send the TTL of the terms, and ask for theirs.
func (t Terms) set(fd int, six bool) error {
	return errors.Join(setSent(fd, six, t.sent()), setRequired(fd, six, t.required()))
}

func setSent(fd int, six bool, ttl int) error {
	if six {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl)
}

// setRequired has the kernel drop what comes with a lower TTL.
func setRequired(fd int, six bool, ttl int) error {
	var err error
	if six {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, ttl)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl)
	}
	if err != nil {
		return fmt.Errorf("ask for a TTL of %d: %w", ttl, err)
	}
	return nil
}

// setKey gives a socket the password that segments of peer are signed with, or
// takes it away.
func setKey(fd int, peer netip.Addr, p Password) error {
	if len(p) > MaxPassword {
		return fmt.Errorf("the password has %d octets, TCP-MD5 takes %d", len(p), MaxPassword)
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(p))}
	copy(sig.Key[:], p)
	// A sockaddr_in or sockaddr_in6, in which the family comes before Data.
	if peer.Is4() {
		sig.Addr.Family = unix.AF_INET
		a := peer.As4()
		fill(sig.Addr.Data[2:], a[:])
	} else {
		sig.Addr.Family = unix.AF_INET6
		a := peer.As16()
		fill(sig.Addr.Data[6:], a[:])
	}
	err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
	if p == "" && errors.Is(err, unix.ENOENT) {
		return nil // there was none
	}
	if errors.Is(err, unix.ENOPROTOOPT) && p == "" {
		return nil // a kernel without TCP-MD5
	}
	if err != nil {
		return fmt.Errorf("set the password of %s (TCP-MD5): %w", peer, err)
	}
	return nil
}

// fill copies octets to where the kernel's type may have signed ones.
func fill[T ~int8 | ~uint8](to []T, from []byte) {
	for i, b := range from {
		to[i] = T(b)
	}
}

// Unacknowledged is how many octets the router's TCP has not acknowledged yet.
func Unacknowledged(conn *net.TCPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	err = control(raw, func(fd int) error {
		var err error
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n, err
}
