package l4

import (
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// flowKey is what tells flows of one socket apart.
type flowKey struct {
	client address
	local  control // where it came to, and answers come from
}

// flow is one client and its server.
type flow struct {
	key    flowKey
	l      *listener.Listener
	pick   pick
	fd     int // connected to the server
	slot   int
	began  time.Time
	active time.Time

	prev, next *flow // by active
}

// begin makes a flow; nil if there may be none, or no server takes it.
func (p *packets) begin(key flowKey) *flow {
	l := p.owner
	if l == nil {
		return nil
	}
	if len(p.table) >= p.d.limits.Max {
		p.d.Evicted.Add(1)
		p.end(p.oldest.next, false)
	}
	l.Accepted.Add(1)
	l.Open.Add(1)
	f := &flow{key: key, l: l, fd: -1, began: p.now, active: p.now}
	f.prev, f.next = p.oldest.prev, &p.oldest
	f.prev.next, p.oldest.prev = f, f
	p.table[key] = f
	p.d.open.Add(1)
	if !p.connect(f, nil) {
		p.end(f, false)
		return nil
	}
	return f
}

// connect finds a server for f, any but one.
func (p *packets) connect(f *flow, but *pool.Server) bool {
	f.pick = newPick(f.l.Site().Pool)
	for f.pick.next() {
		if f.pick.server == but {
			continue
		}
		err := p.dial(f, f.pick.server.Address)
		if err == nil {
			f.pick.begin()
			return true
		}
		p.failed(f, err)
	}
	return false
}

// dial connects f to a server: the kernel notes the address, and nothing is
// sent.
func (p *packets) dial(f *flow, server netip.AddrPort) error {
	family, sa := unix.AF_INET6, unix.Sockaddr(nil)
	if ip := server.Addr().Unmap(); ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(server.Port()), Addr: ip.As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(server.Port()), Addr: ip.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, sa); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	slot := len(p.slots)
	if n := len(p.free); n > 0 {
		slot, p.free = p.free[n-1], p.free[:n-1]
	} else {
		p.slots = append(p.slots, nil)
	}
	if err := p.watch(fd, slot); err != nil {
		p.free = append(p.free, slot)
		_ = unix.Close(fd)
		return err
	}
	p.slots[slot], f.slot, f.fd = f, slot, fd
	return nil
}

func (p *packets) failed(f *flow, err error) {
	s := f.pick.server
	if muted, log := s.LogFailure(p.now); log {
		p.d.log.Warn("a server does not take datagrams", "listener", f.l.Name, "pool", f.pick.pool.Name(),
			"server", s.Name, "address", s.Address, "error", err, "not_logged", muted)
	}
}

// hangUp closes the socket to the server.
func (p *packets) hangUp(f *flow) {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
		p.slots[f.slot] = nil
		p.free = append(p.free, f.slot)
		f.fd = -1
	}
	f.pick.end()
}

// move takes f to another server, since its own is gone; where there is none,
// f ends.
func (p *packets) move(f *flow, err error) bool {
	p.failed(f, err)
	was := f.pick.server
	p.hangUp(f)
	if !p.connect(f, was) {
		p.end(f, false)
		return false
	}
	return true
}

// touch notes that something came.
func (p *packets) touch(f *flow) {
	f.active = p.now
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = p.oldest.prev, &p.oldest
	f.prev.next, p.oldest.prev = f, f
}

// end forgets f; ok says whether it was over.
func (p *packets) end(f *flow, ok bool) {
	p.hangUp(f)
	f.prev.next, f.next.prev = f.next, f.prev
	delete(p.table, f.key)
	if !ok {
		f.l.Failed.Add(1)
	}
	f.l.Requests.Add(1)
	f.l.Open.Add(-1)
	if p.d.open.Add(-1) == 0 {
		select {
		case p.d.empty <- struct{}{}:
		default:
		}
	}
}

func (p *packets) count(before time.Time) (all, older int) {
	for f := p.oldest.next; f != &p.oldest; f = f.next {
		if f.began.Before(before) {
			older++
		}
	}
	return len(p.table), older
}
