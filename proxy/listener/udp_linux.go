package listener

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/l7/engine/socket"
)

// AdoptUDP makes a Socket of a descriptor that was opened with BindUDP, here or
// in another process. It owns fd, and closes it when it fails: fd must be a UDP
// socket that is bound to address.
//
// Its queue is the socket's: who reads takes a datagram from all others.
func AdoptUDP(address netip.AddrPort, fd int) (*Socket, error) {
	if err := checkUDP(address, fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Socket{address: address, fd: fd}, nil
}

func checkUDP(address netip.AddrPort, fd int) error {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl O_NONBLOCK", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_TYPE", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	// Zones are compared by nobody: they are of this machine.
	want := netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port())
	if got := socket.AddrPort(bound); kind != unix.SOCK_DGRAM || got != want {
		return fmt.Errorf("the socket that was passed for %v is no UDP socket, or bound to %v", address, got)
	}
	return nil
}
