package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// controlPort is where control packets go (RFC 5881 4).
	controlPort = 3784
	// Source ports are from this range, and stay those of a session (RFC 5881 4).
	firstSourcePort, lastSourcePort = 49152, 65535
	// hopLimit is what packets are sent with, and what those must have that are
	// taken: it shows that no router has forwarded them (RFC 5881 5).
	hopLimit = 255
	// networkControl is CS6 (RFC 4594 3.2): a full queue should drop others.
	networkControl = 0xc0
)

// source is where a packet comes from, without a zone's name.
type source struct {
	addr  netip.Addr
	scope uint32 // index of the interface, for link-local addresses
}

// resolve turns a zone into the index of its interface.
func resolve(a netip.Addr) (source, error) {
	out := source{addr: a.WithZone("").Unmap()}
	if zone := a.Zone(); zone != "" {
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			out.scope = uint32(n)
			return out, nil
		}
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return out, fmt.Errorf("find the interface of %s: %w", a, err)
		}
		out.scope = uint32(i.Index)
	}
	return out, nil
}

// sockaddr is where packets to s are sent.
func (s source) sockaddr(port uint16) unix.Sockaddr {
	if s.addr.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: s.addr.As4()}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: s.addr.As16(), ZoneId: s.scope}
}

// rawSockaddr is the same as the kernel has it.
func (s source) rawSockaddr(port uint16, to *unix.RawSockaddrInet6) (length uint32) {
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
	if s.addr.Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(to)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: network, Addr: s.addr.As4()}
		return unix.SizeofSockaddrInet4
	}
	*to = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: network, Addr: s.addr.As16(), Scope_id: s.scope}
	return unix.SizeofSockaddrInet6
}

// openSender opens the socket that one session sends on. It is bound to port,
// or, if that is 0, to one at random. Two processes can share a port while one
// takes over from the other: nothing is received on it.
func openSender(ipv4 bool, port uint16, random *rand.Rand) (fd int, bound uint16, err error) {
	family := unix.AF_INET6
	if ipv4 {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("open a socket to send on: %w", err)
	}
	if ipv4 {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, hopLimit),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, networkControl))
	} else {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hopLimit),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, networkControl))
	}
	if err == nil && port != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	// Nothing is read from it: what somebody sends here should not be kept.
	err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	for try := 0; err == nil; try++ {
		if bound = port; port == 0 {
			bound = uint16(firstSourcePort + random.IntN(lastSourcePort-firstSourcePort+1))
		}
		bindErr := bind(fd, ipv4, bound)
		if bindErr == nil {
			// From here on a successor may share it, but no session of ours got
			// one that was in use.
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			break
		}
		if port != 0 || try == 100 || !errors.Is(bindErr, unix.EADDRINUSE) {
			err = bindErr
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("set up a socket to send on: %w", err)
	}
	return fd, bound, nil
}

func bind(fd int, ipv4 bool, port uint16) error {
	if ipv4 {
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)})
}

// receiver is the socket on which all sessions of a family receive. It does
// not allocate once open.
type receiver struct {
	fd      int
	ipv4    bool
	payload [128]byte
	control [64]byte
	from    unix.RawSockaddrInet6 // large enough for either
	vector  unix.Iovec
	header  unix.Msghdr
}

func openReceiver(ipv4 bool, port uint16) (*receiver, error) {
	family := unix.AF_INET6
	if ipv4 {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket to receive on: %w", err)
	}
	if ipv4 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	} else {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1))
	}
	if err == nil {
		if err = bind(fd, ipv4, port); errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("UDP port %d: %w: does another BFD daemon run on this node?", port, err)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set up a socket to receive on: %w", err)
	}
	r := &receiver{fd: fd, ipv4: ipv4}
	r.vector.Base = &r.payload[0]
	r.vector.SetLen(len(r.payload))
	r.header.Name = (*byte)(unsafe.Pointer(&r.from))
	r.header.Iov = &r.vector
	r.header.SetIovlen(1)
	r.header.Control = &r.control[0]
	return r, nil
}

// receive takes the next packet; ok is false if there is none. The packet is
// valid until the next call. hops is -1 if the kernel did not tell.
func (r *receiver) receive() (packet []byte, from source, hops int, ok bool) {
	r.header.Namelen = uint32(unsafe.Sizeof(r.from))
	r.header.SetControllen(len(r.control))
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.header)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return nil, source{}, 0, false
	}
	if r.ipv4 {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.from))
		from.addr = netip.AddrFrom4(four.Addr)
	} else {
		from.addr = netip.AddrFrom16(r.from.Addr)
		if from.addr.IsLinkLocalUnicast() {
			from.scope = r.from.Scope_id
		}
	}
	return r.payload[:n], from, r.hops(), true
}

// hops reads the one control message that was asked for.
func (r *receiver) hops() int {
	if r.header.Controllen < unix.SizeofCmsghdr+4 {
		return -1
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&r.control[0]))
	ttl := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL
	limit := h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT
	if !ttl && !limit {
		return -1
	}
	return int(*(*int32)(unsafe.Pointer(&r.control[unix.CmsgLen(0)])))
}

func (r *receiver) close() { _ = unix.Close(r.fd) }
