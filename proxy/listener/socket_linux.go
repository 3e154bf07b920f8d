package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// backlog asks for as many connections waiting to be accepted as the kernel
// allows (net.core.somaxconn caps it).
const backlog = 65535

// Socket is one listening TCP socket, or one bound UDP socket. It belongs to an
// address, not to a configured listener, so that a listener may be renamed, or
// change what it speaks, without a moment in which connections are refused.
type Socket struct {
	address netip.AddrPort

	mu sync.Mutex
	fd int // -1 once closed
}

// Bind opens a socket that listens on address, non-blocking. The address need
// not be on an interface yet (IP_FREEBIND, ip(7)). Port 0 lets the kernel
// choose; see Address.
func Bind(address netip.AddrPort) (*Socket, error) { return bind(address, unix.SOCK_STREAM) }

// BindUDP opens a UDP socket, as Bind does. It tells which address a datagram
// came to (IP_PKTINFO, ip(7)), so that the answer can be sent from there also
// where the socket is bound to the unspecified one.
func BindUDP(address netip.AddrPort) (*Socket, error) { return bind(address, unix.SOCK_DGRAM) }

func bind(address netip.AddrPort, kind int) (*Socket, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(nil)
	ip := address.Addr().Unmap()
	if ip.Is4() {
		sa = &unix.SockaddrInet4{Port: int(address.Port()), Addr: ip.As4()}
	} else {
		family = unix.AF_INET6
		six := &unix.SockaddrInet6{Port: int(address.Port()), Addr: ip.As16()}
		if zone := ip.Zone(); zone != "" {
			iface, err := net.InterfaceByName(zone)
			if err != nil {
				return nil, fmt.Errorf("zone %q of %v: %w", zone, address, err)
			}
			six.ZoneId = uint32(iface.Index)
		}
		sa = six
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := setUp(fd, family, kind, sa); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	s := &Socket{address: address, fd: fd}
	if address.Port() == 0 {
		bound, err := unix.Getsockname(fd)
		if err != nil {
			_ = unix.Close(fd)
			return nil, os.NewSyscallError("getsockname", err)
		}
		switch b := bound.(type) {
		case *unix.SockaddrInet4:
			s.address = netip.AddrPortFrom(address.Addr(), uint16(b.Port))
		case *unix.SockaddrInet6:
			s.address = netip.AddrPortFrom(address.Addr(), uint16(b.Port))
		}
	}
	return s, nil
}

func setUp(fd, family, kind int, sa unix.Sockaddr) error {
	// Connections in TIME-WAIT from before a restart must not keep the port. With
	// UDP the option would let others take the port over without a word.
	if kind == unix.SOCK_STREAM {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
		}
	}
	// The VIP may be added to lo after the listener is bound. One option
	// serves both families (ip(7); IPV6_FREEBIND is the same field).
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
		return os.NewSyscallError("setsockopt IP_FREEBIND", err)
	}
	if family == unix.AF_INET6 {
		// [::]:80 and 0.0.0.0:80 are two addresses of two listeners.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if kind == unix.SOCK_DGRAM {
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if family == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return os.NewSyscallError("setsockopt PKTINFO", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if kind == unix.SOCK_DGRAM {
		return nil
	}
	socket.KeepAlive(fd) // of all that it accepts
	if err := unix.Listen(fd, backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return nil
}

// Address is the address that the socket is bound to.
func (s *Socket) Address() netip.AddrPort { return s.address }

var errClosed = errors.New("listening socket is closed")

// Dup returns a new descriptor of the same socket, non-blocking and
// close-on-exec; the caller closes it. Closing one descriptor does not stop
// the socket while another is open.
func (s *Socket) Dup() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return -1, errClosed
	}
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	return fd, nil
}

// Close closes this descriptor. The kernel stops listening, and resets what
// nobody has accepted, when the last descriptor of the socket is closed.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return os.NewSyscallError("close", err)
}

// AcceptQueued takes one connection that waits to be accepted, non-blocking
// and close-on-exec; ok is false when none waits. Use it before Close, so
// that nobody who was let in by the kernel is turned away.
func (s *Socket) AcceptQueued() (fd int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.fd >= 0 {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return fd, true
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return -1, false
		}
	}
	return -1, false
}
