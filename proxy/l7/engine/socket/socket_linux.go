// Package socket is what the engines on the kernel share: TCP sockets by raw,
// non-blocking system calls.
package socket

import (
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// New returns a TCP socket of address's family, non-blocking, close-on-exec,
// without Nagle's delay, and kept alive.
func New(address netip.AddrPort) (int, error) {
	family := unix.AF_INET6
	if address.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	NoDelay(fd)
	KeepAlive(fd)
	return fd, nil
}

// What KeepAlive sets. A peer that is gone without a word is found out after
// silentFor, whether something is unacknowledged or not; without it, that takes
// 15 minutes (tcp_retries2) or 2 hours. A receiver whose window stays shut for
// that long counts as gone, too (tcp(7), TCP_USER_TIMEOUT).
const (
	probeAfter = 60 // seconds without anything from the peer
	probeEvery = 15 // seconds
	silentFor  = 5 * time.Minute
)

// KeepAlive has the kernel find out that a connection's peer is gone. Set on a
// listening socket, it holds for all that it accepts, which saves the calls for
// each.
func KeepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, probeAfter)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, probeEvery)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silentFor/time.Millisecond))
}

// NoDelay switches Nagle's delay off: what is sent is whole messages.
func NoDelay(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// ResetOnClose makes closing fd reset the connection, and drop what the
// kernel has not sent.
func ResetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// Error takes the error that is pending on fd; nil without one.
func Error(fd int) error {
	soerr, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && soerr != 0 {
		err = unix.Errno(soerr)
	}
	return err
}

// Sockaddr converts an address for package unix.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
}

// AddrPort converts an address of a TCP socket.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Peer is the address that fd is connected to; the zero value if it is not.
func Peer(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return AddrPort(sa)
}

// Local is the address of fd's near end; the zero value if there is none.
func Local(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return AddrPort(sa)
}

// Send and Recv are raw: they never block, so Go's scheduler need not know,
// which saves more than a microsecond each on slow machines.

// Send sends what the kernel takes of b, which must not be empty.
func Send(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// Recv receives what has arrived into b, which must not be empty; 0 is the
// peer's FIN.
func Recv(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
