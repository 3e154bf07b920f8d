package l4

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 16
	// datagramSize holds the largest there is: nothing is cut off.
	datagramSize = 64 << 10
	addressSize  = unix.SizeofSockaddrInet6
	controlSize  = 40 // of one IPV6_PKTINFO, the larger one
)

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	unix.Msghdr
	n uint32
	_ uint32
}

// address is where a datagram came from, as the kernel writes it: a family's
// sockaddr, and zeros.
type address [addressSize]byte

func (a *address) size() uint32 {
	if *(*uint16)(unsafe.Pointer(a)) == unix.AF_INET {
		return unix.SizeofSockaddrInet4
	}
	return unix.SizeofSockaddrInet6
}

// addrPort is the address, IPv4 as such.
func (a *address) addrPort() netip.AddrPort {
	port := uint16(a[2])<<8 | uint16(a[3]) // in both at the same place
	if a.size() == unix.SizeofSockaddrInet4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[8:24])).Unmap(), port)
}

// control is an IP_PKTINFO or IPV6_PKTINFO message, aligned as the kernel
// wants it; all zeros: none.
type control [controlSize / 8]uint64

func (c *control) size() int { return int((c[0] + 7) &^ 7) }

// batch is the room for datagrams that are received at a time. Nothing in it
// moves, and its memory is touched only as far as it is used.
type batch struct {
	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	from     [batchSize]address
	controls [batchSize]control
	bytes    [batchSize][datagramSize]byte
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.messages {
		b.vectors[i].Base = &b.bytes[i][0]
		b.messages[i].Iov = &b.vectors[i]
		b.messages[i].SetIovlen(1)
	}
	return b
}

// receive takes what waits, without waiting for it. Whether the senders are
// wanted is told by named.
func (b *batch) receive(fd int, named bool) (int, unix.Errno) {
	for i := range b.messages {
		m := &b.messages[i]
		b.vectors[i].SetLen(datagramSize)
		m.Name, m.Namelen, m.Control = nil, 0, nil
		m.SetControllen(0)
		if named {
			b.from[i], b.controls[i] = address{}, control{}
			m.Name, m.Namelen = &b.from[i][0], addressSize
			m.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
			m.SetControllen(controlSize)
		}
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages)), batchSize, unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// datagram is the i-th one received.
func (b *batch) datagram(i int) []byte { return b.bytes[i][:b.messages[i].n] }

// reply sends the first n on to one client, and returns how many the system
// took.
func (b *batch) reply(fd, n int, to *address, as *control) int {
	for i := range n {
		m := &b.messages[i]
		b.vectors[i].SetLen(int(m.n))
		m.Name, m.Namelen = &to[0], to.size()
		m.Control = nil
		m.SetControllen(0)
		if size := as.size(); size > 0 {
			m.Control = (*byte)(unsafe.Pointer(as))
			m.SetControllen(size)
		}
	}
	sent := 0
	for sent < n {
		k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[sent])), uintptr(n-sent), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			break
		}
		sent += int(k)
	}
	return sent
}

// echo sends the i-th one back to whom it is from. The others stay as they are.
func (b *batch) echo(fd, i int, to *flowKey) {
	one := message{n: b.messages[i].n}
	one.Iov = &b.vectors[i]
	one.SetIovlen(1)
	b.vectors[i].SetLen(int(one.n))
	one.Name, one.Namelen = &to.client[0], to.client.size()
	if size := to.local.size(); size > 0 {
		one.Control = (*byte)(unsafe.Pointer(&to.local))
		one.SetControllen(size)
	}
	// What is lost is a probe that failed.
	_, _, _ = unix.RawSyscall6(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&one.Msghdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
}

// answer is the control message that makes an answer go out from where the
// received datagram came to; none if the kernel did not say.
func (c *control) answer() control {
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	data := unsafe.Pointer(&c[unix.SizeofCmsghdr/8])
	var out control
	o := (*unix.Cmsghdr)(unsafe.Pointer(&out))
	place := unsafe.Pointer(&out[unix.SizeofCmsghdr/8])
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
		// The route chooses the interface.
		(*unix.Inet4Pktinfo)(place).Spec_dst = (*unix.Inet4Pktinfo)(data).Addr
		o.SetLen(unix.SizeofCmsghdr + unix.SizeofInet4Pktinfo)
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
		info := *(*unix.Inet6Pktinfo)(data)
		if info.Addr[0] != 0xfe || info.Addr[1]&0xc0 != 0x80 { // link-local ones need it
			info.Ifindex = 0
		}
		*(*unix.Inet6Pktinfo)(place) = info
		o.SetLen(unix.SizeofCmsghdr + unix.SizeofInet6Pktinfo)
	default:
		return out
	}
	o.Level, o.Type = h.Level, h.Type
	return out
}

// sendDatagram sends b on a connected socket, without waiting. b may be empty,
// but not nil.
func sendDatagram(fd int, b []byte) unix.Errno {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}
