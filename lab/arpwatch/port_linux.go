package arpwatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// port is a packet socket on one interface.
type port struct {
	name      string
	file      *os.File
	raw       syscall.RawConn
	questions [][]byte // one for each address

	frame, control []byte
	closed         atomic.Bool
}

// receiveBuffer holds what comes in while this process waits for a busy machine.
const receiveBuffer = 8 << 20

// openPort takes a packet socket (packet(7)), which needs CAP_NET_RAW.
func openPort(name string, c Config) (*port, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	self := c.Self
	if self == nil {
		if self, err = identityOf(ifi); err != nil {
			return nil, err
		}
	}
	p := &port{name: name, frame: make([]byte, 512), control: make([]byte, unix.CmsgSpace(16))}
	for _, a := range c.Addresses {
		if !self.of(a).IsValid() {
			return nil, fmt.Errorf("it has no address to ask for %s from", a)
		}
		p.questions = append(p.questions, Question(*self, a))
	}
	// Bound only once the filter is on: nothing else must come in before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	p.file = os.NewFile(uintptr(fd), "packet socket on "+name)
	if err := p.configure(fd, ifi.Index); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	return p, nil
}

func (p *port) configure(fd, index int) error {
	filter, err := neighborFilter()
	if err != nil {
		return err
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("filter for ARP and neighbor discovery: %w", err)
	}
	// What we and the switch send out by the port says nothing of who is there.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("leave out what goes out: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for time stamps: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return fmt.Errorf("ask for a receive buffer of %d bytes: %w", receiveBuffer, err)
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)) // in network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return fmt.Errorf("bind a packet socket: %w", err)
	}
	return nil
}

// neighborFilter passes ARP, and ICMPv6 of the two types that follow an IPv6
// header at once, as RFC 4861 section 7.1 has them.
func neighborFilter() ([]unix.SockFilter, error) {
	const next, kind = etherLength + 6, etherLength + ipv6Length
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 6},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv6, SkipTrue: 6},
		bpf.LoadAbsolute{Off: next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: kind, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpSolicit, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpAdvertise, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	filter := make([]unix.SockFilter, 0, len(raw))
	for _, r := range raw {
		filter = append(filter, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	return filter, nil
}

// identityOf is the host's own, at an interface.
func identityOf(ifi *net.Interface) (*Identity, error) {
	if len(ifi.HardwareAddr) != 6 {
		return nil, errors.New("it is no Ethernet interface")
	}
	i := &Identity{MAC: MAC(ifi.HardwareAddr)}
	addresses, err := ifi.Addrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		switch own := p.Addr(); {
		case err != nil || own.IsLinkLocalUnicast():
		case own.Is4() && !i.IPv4.IsValid():
			i.IPv4 = own
		case own.Is6() && !i.IPv6.IsValid():
			i.IPv6 = own
		}
	}
	return i, nil
}

// send sends one frame. It never waits: a frame that cannot go out now is lost.
func (p *port) send(frame []byte) error {
	var err error
	control := p.raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), frame) })
	return errors.Join(control, err)
}

// receive waits for a frame and gives it, good until the next call, and when
// the kernel had it. os.ErrClosed: the port was closed.
func (p *port) receive() (frame []byte, at time.Time, err error) {
	for {
		var n, controls int
		var failure error
		if err := p.raw.Read(func(fd uintptr) bool {
			n, controls, _, _, failure = unix.Recvmsg(int(fd), p.frame, p.control, 0)
			return !errors.Is(failure, unix.EAGAIN)
		}); err != nil {
			if p.closed.Load() {
				err = os.ErrClosed
			}
			return nil, time.Time{}, err
		}
		switch {
		case errors.Is(failure, unix.ENETDOWN), errors.Is(failure, unix.EINTR):
			continue // the interface went down: it may come back
		case failure != nil:
			return nil, time.Time{}, failure
		}
		at, err := stamp(p.control[:controls])
		return p.frame[:n], at, err
	}
}

// stamp reads the kernel's time stamp (socket(7), SO_TIMESTAMPNS).
func stamp(control []byte) (time.Time, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, fmt.Errorf("time stamp of a frame: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), nil
		}
	}
	return time.Time{}, errors.New("a frame came without a time stamp")
}

// lost is how many frames the kernel could not keep for us.
func (p *port) lost() (lost int, err error) {
	control := p.raw.Control(func(fd uintptr) {
		var stats *unix.TpacketStats
		if stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			lost = int(stats.Drops)
		}
	})
	return lost, errors.Join(control, err)
}

// close ends receive. Twice is no harm.
func (p *port) close() {
	p.closed.Store(true)
	_ = p.file.Close() // there is nothing unwritten
}
