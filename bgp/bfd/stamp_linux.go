package bfd

import (
	"encoding/binary"
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// When a packet goes out that the kernel sends ahead, only the kernel knows: the
// thread may sleep. It says so on the socket's error queue (SO_TIMESTAMPING), with
// a number for each packet that asked, from 0 on.

// stamps are of the packets sent ahead on one socket, and asks for them.
type stamps struct {
	ask     [unix.SizeofCmsghdr + 8]byte // the control message of a packet that asks
	on      bool
	next    uint32                 // number of the next packet
	planned [aheadOf * 2]time.Time // by number

	control [256]byte
	header  unix.Msghdr
}

// enable has the socket tell when packets are on their way to the network
// device. Without it they are not counted.
func (s *stamps) enable(fd int) {
	const flags = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
	s.next = 0
	s.on = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 0), // or it would go on counting
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags),
		// The error queue counts as received.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)) == nil
	h := (*unix.Cmsghdr)(unsafe.Pointer(&s.ask[0]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SO_TIMESTAMPING
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(s.ask[unix.CmsgLen(0):], unix.SOF_TIMESTAMPING_TX_SCHED)
}

// sent takes note that a packet, due at a time, was sent.
func (s *stamps) sent(at time.Time) {
	s.planned[s.next%uint32(len(s.planned))] = at
	s.next++
}

// read gives how late the next packet was that the kernel has told of.
func (s *stamps) read(fd int) (late time.Duration, ok bool) {
	for s.on {
		s.header.Control = &s.control[0]
		s.header.SetControllen(len(s.control))
		if _, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.header)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); errno != 0 {
			return 0, false
		}
		stamp, number := parseStamp(s.control[:s.header.Controllen])
		if number >= s.next || s.next-number > uint32(len(s.planned)) || stamp == 0 {
			continue
		}
		// By the wall clock, which may have been set meanwhile.
		late = time.Duration(stamp - s.planned[number%uint32(len(s.planned))].UnixNano())
		if late > -time.Second && late < time.Minute {
			return max(0, late), true
		}
	}
	return 0, false
}

// parseStamp finds the time, in nanoseconds of the Unix epoch, and the packet's
// number in control messages.
func parseStamp(b []byte) (stamp int64, number uint32) {
	number = ^uint32(0)
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			break
		}
		data := b[unix.SizeofCmsghdr:size]
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPING && len(data) >= 16:
			stamp = int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:]))
		case (h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR) && len(data) >= 16:
			number = binary.NativeEndian.Uint32(data[12:]) // ee_data of struct sock_extended_err
		}
		b = b[min(len(b), (size+7)&^7):]
	}
	return stamp, number
}
