package l4

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/policy/balance"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

// flowKey is what tells flows of one socket apart.
type flowKey struct {
	client address
	local  control // where it came to, and answers come from
}

// flow is one client and its server.
type flow struct {
	key     flowKey
	l       *listener.Listener
	site    *site.Site // of l, when the flow began
	client  netip.AddrPort
	place   shed.ClientSlot
	pool    *pool.Pool
	pick    pick
	fd      int // connected to the server; -1: none
	slot    int
	began   time.Time
	active  time.Time
	looked  time.Duration // whether the server is well
	answers bool          // the server has sent something

	serverName        string // of the present server, or the last one
	bytesIn, bytesOut int64

	prev, next *flow // by active
}

// begin makes a flow; nil if there may be none, or no server takes it. A
// datagram never waits: a pool's queue is not for it.
func (p *packets) begin(key flowKey) *flow {
	l := p.owner
	if l == nil {
		return nil
	}
	at := l.Site()
	f := &flow{key: key, l: l, site: at, client: key.client.addrPort(), pool: at.Pool, fd: -1, began: p.now, active: p.now, looked: p.clock}
	l.Accepted.Add(1)
	if !p.admit(f) {
		l.Failed.Add(1)
		l.Requests.Add(1)
		return nil
	}
	if len(p.table) >= p.d.most {
		p.d.Evicted.Add(1)
		p.end(p.oldest.next, evicted)
	}
	l.Open.Add(1)
	f.prev, f.next = p.oldest.prev, &p.oldest
	f.prev.next, p.oldest.prev = f, f
	p.table[key] = f
	p.d.open.Add(1)
	if !p.connect(f, nil) {
		p.end(f, f.pick.why())
		return nil
	}
	return f
}

// admit reports whether f is within all limits, and takes its share of them.
// What it refuses is counted, and not logged: a client would fill the log with
// each datagram.
func (p *packets) admit(f *flow) bool {
	c := f.site.Clients
	if c != nil {
		var ok bool
		if f.place, ok = c.Acquire(f.client.Addr()); !ok {
			return false
		}
	}
	rated := c == nil
	if !rated {
		rated, _ = c.Allow(c.AddressKey(f.client.Addr()), p.clock)
	}
	// No pool: the listener has just changed to something that needs none.
	if rated && f.pool != nil && f.pool.Gate().Admit(nil, p.clock) == shed.Admitted {
		return true
	}
	if c != nil {
		c.Release(f.place)
	}
	return false
}

// connect finds a server for f, any but one.
func (p *packets) connect(f *flow, but *pool.Server) bool {
	f.pick = choose(f.pool, f.client.Addr(), p.clock)
	for f.pick.next() {
		if f.pick.server == but {
			f.pick.end(pool.Cancelled, p.clock)
			continue
		}
		err := p.dial(f, f.pick.server.Address)
		if err == nil {
			f.answers, f.serverName = false, f.pick.server.Name
			f.pick.stands(0, p.clock)
			return true
		}
		p.failed(f, err)
		kind := pool.ConnectFailed
		if call := (*os.SyscallError)(nil); !errors.As(err, &call) || call.Syscall != "connect" {
			kind = pool.Cancelled // for want of our own descriptors
		}
		f.pick.failed(kind, p.clock)
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
		p.d.log.Warn("a server does not take datagrams", "listener", f.l.Name, "pool", f.pool.Name(),
			"server", s.Name, "address", s.Address, "error", err, "not_logged", muted)
	}
}

// hangUp closes the socket to the server, and tells how it went.
func (p *packets) hangUp(f *flow, kind pool.OutcomeKind) {
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
		p.slots[f.slot] = nil
		p.free = append(p.free, f.slot)
		f.fd = -1
	}
	f.pick.end(kind, p.clock)
}

// move takes f to another server, since ICMP says that its own is gone; where
// there is none, f ends.
func (p *packets) move(f *flow, err error) bool {
	p.failed(f, err)
	return p.elsewhere(f, pool.ConnectFailed)
}

// elsewhere is move, with an outcome at the server that f leaves.
func (p *packets) elsewhere(f *flow, kind pool.OutcomeKind) bool {
	was := f.pick.server
	p.hangUp(f, kind)
	if !p.connect(f, was) {
		p.end(f, f.pick.why())
		return false
	}
	return true
}

// fit sees to it that f's server is one that may be used: where no ICMP tells
// of its end, a client that keeps on sending would be lost to it for ever. It
// looks once in lookEvery at most. It reports false if f has ended.
func (p *packets) fit(f *flow) bool {
	if p.clock-f.looked < p.d.lookEvery {
		return true
	}
	f.looked = p.clock
	if t := f.pool.Tier(); t != balance.Primary && t != balance.Backup || f.pick.server.Health().Healthy {
		return true // or nobody is better
	}
	return p.elsewhere(f, pool.Cancelled)
}

// heard notes n datagrams that the server has sent, which are in p.in.
func (p *packets) heard(f *flow, n int) {
	if !f.answers {
		f.answers = true
		f.pool.Stood(f.pick.server, 0, p.clock)
	}
	for i := range n {
		f.bytesOut += int64(len(p.in.datagram(i)))
	}
}

// touch notes that something came.
func (p *packets) touch(f *flow) {
	f.active = p.now
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = p.oldest.prev, &p.oldest
	f.prev.next, p.oldest.prev = f, f
}

// end forgets f. Of its server it says no harm: ICMP would have.
func (p *packets) end(f *flow, why reason) {
	p.hangUp(f, pool.OK)
	f.pool.Leave(p.clock)
	if f.site.Clients != nil {
		f.site.Clients.Release(f.place)
	}
	f.prev.next, f.next.prev = f.next, f.prev
	delete(p.table, f.key)
	if why != noReason {
		f.l.Failed.Add(1)
	}
	f.l.Requests.Add(1)
	f.l.Open.Add(-1)
	p.record(f, why)
	if p.d.open.Add(-1) == 0 {
		select {
		case p.d.empty <- struct{}{}:
		default:
		}
	}
}

// record logs the end of a flow. To have become idle is how flows end.
func (p *packets) record(f *flow, why reason) {
	if p.accessed == nil || !f.site.Stream.Log {
		return
	}
	if p.accessed.Empty() {
		p.flushed = p.now
	}
	p.accessed.Add(&accesslog.Record{
		At: p.now, Listener: f.l.Name, Client: f.client, Protocol: "udp", Pool: f.pool.Name(), Server: f.serverName,
		BytesIn: f.bytesIn, BytesOut: f.bytesOut, Total: p.now.Sub(f.began), Why: why.String(),
	})
}

func (p *packets) count(before time.Time) (all, older int) {
	for f := p.oldest.next; f != &p.oldest; f = f.next {
		if f.began.Before(before) {
			older++
		}
	}
	return len(p.table), older
}
