package listener

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Adopt makes a Socket of a descriptor that another process opened with Bind
// and passed on. It owns fd, and closes it when it fails: fd must be a TCP
// socket that listens on address.
//
// The queue of connections that wait to be accepted is the socket's, so both
// processes may accept, and nothing is lost when one of them stops.
func Adopt(address netip.AddrPort, fd int) (*Socket, error) {
	if err := checkListening(address, fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Socket{address: address, fd: fd}, nil
}

func checkListening(address netip.AddrPort, fd int) error {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl O_NONBLOCK", err)
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_ACCEPTCONN", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_TYPE", err)
	}
	if listens == 0 || kind != unix.SOCK_STREAM {
		return fmt.Errorf("the socket that was passed for %v does not listen", address)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if got, ok := addrPort(bound); !ok || got != netip.AddrPortFrom(address.Addr().Unmap(), address.Port()) {
		return fmt.Errorf("the socket that was passed for %v listens on %v", address, got)
	}
	return nil
}

// addrPort is a socket's own address in the words of netip, with its zone.
func addrPort(sa unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			iface, err := net.InterfaceByIndex(int(a.ZoneId))
			if err != nil {
				return netip.AddrPort{}, false
			}
			ip = ip.WithZone(iface.Name)
		}
		return netip.AddrPortFrom(ip, uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}
