package l4

import (
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/clock"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// packets is one UDP socket and its flows. What is not marked otherwise belongs
// to the goroutine of run.
type packets struct {
	d       *Datagrams
	address netip.AddrPort
	fd      int
	epfd    int
	wakefd  int

	holds   int  // acceptors that are not stopped; guarded by d.mu
	running bool // guarded by d.mu

	mu     sync.Mutex
	posted []func() // guarded by mu
	ended  bool     // guarded by mu

	owner  *listener.Listener // of new flows; nil: there are none
	deaf   bool               // another process reads what clients send
	table  map[flowKey]*flow
	slots  []*flow // by what epoll says; 0 is wakefd, 1 is fd
	free   []int
	oldest flow // head of the list of flows, the longest idle one first
	idle   time.Duration
	now    time.Time
	clock  time.Duration // now, as the pools count
	in     *batch

	accessed *accesslog.Buffer // nil: nothing is logged
	flushed  time.Time
}

const (
	wakeSlot   = 0
	socketSlot = 1
	firstSlot  = 2
	maxBatches = 4 // of one socket at a time
)

func newPackets(d *Datagrams, fd int, address netip.AddrPort) (*packets, error) {
	p := &packets{d: d, address: address, fd: -1, epfd: -1, wakefd: -1, table: make(map[flowKey]*flow), slots: make([]*flow, firstSlot), in: newBatch()}
	p.oldest.prev, p.oldest.next = &p.oldest, &p.oldest
	if d.access != nil {
		p.accessed = d.access.Buffer()
	}
	var err error
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	for slot, fd := range []int{wakeSlot: p.wakefd, socketSlot: fd} {
		if err := p.watch(fd, slot); err != nil {
			p.close()
			return nil, err
		}
	}
	p.fd = fd
	return p, nil
}

func (p *packets) watch(fd, slot int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(slot)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &ev))
}

// listen begins or ends to read what clients send.
func (p *packets) listen(on bool) {
	if p.deaf != on {
		return
	}
	p.deaf = !on
	if on {
		if err := p.watch(p.fd, socketSlot); err != nil {
			p.d.log.Error("a socket cannot be read any more", "address", p.address, "error", err)
		}
		return
	}
	_ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, p.fd, nil)
}

func (p *packets) close() {
	for _, fd := range []int{p.fd, p.epfd, p.wakefd} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// post runs f on the goroutine, soon; false when that has ended.
func (p *packets) post(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.posted = append(p.posted, f)
	_, _ = unix.Write(p.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return true
}

// run serves the socket until it has neither acceptors nor flows.
func (p *packets) run() {
	events := make([]unix.EpollEvent, 128)
	for !p.over() {
		n, err := unix.EpollWait(p.epfd, events, p.patience())
		if err != nil && err != unix.EINTR {
			// Nothing but a broken descriptor of our own does that.
			p.d.log.Error("waiting for datagrams failed", "address", p.address, "error", err)
			p.owner = nil
			for p.oldest.next != &p.oldest {
				p.end(p.oldest.next, cutOff)
			}
		}
		p.tell()
		for i := range max(n, 0) {
			if events[i].Fd == wakeSlot { // first: what came before Start is its acceptor's
				var b [8]byte
				_, _ = unix.Read(p.wakefd, b[:])
				p.runPosted()
			}
		}
		for i := range max(n, 0) {
			p.event(int(events[i].Fd))
		}
		if p.owner != nil {
			p.idle = p.owner.Site().Stream.Idle
		}
		for f := p.oldest.next; f != &p.oldest && p.now.Sub(f.active) >= p.idle; f = p.oldest.next {
			p.end(f, noReason)
		}
		if p.unlogged() && p.now.Sub(p.flushed) >= flushLogEvery {
			p.flush()
		}
	}
	p.runPosted() // whoever posted waits for it
	p.flush()
	p.close()
}

// tell reads the time for what follows.
func (p *packets) tell() { p.now, p.clock = time.Now(), clock.Now() }

// patience is how long nothing is due, in milliseconds.
func (p *packets) patience() int {
	wait := time.Duration(-1)
	if first := p.oldest.next; first != &p.oldest {
		wait = max(time.Until(first.active.Add(p.idle)), 0)
	}
	if p.unlogged() && (wait < 0 || wait > flushLogEvery) {
		wait = flushLogEvery
	}
	if wait < 0 {
		return -1
	}
	return int(wait/time.Millisecond) + 1
}

func (p *packets) unlogged() bool { return p.accessed != nil && !p.accessed.Empty() }

// flush hands over what is to be logged.
func (p *packets) flush() {
	if p.accessed != nil {
		p.accessed.Flush()
		p.flushed = p.now
	}
}

// over reports whether nothing is left to do, now and later.
func (p *packets) over() bool {
	if p.owner != nil || len(p.table) > 0 {
		return false
	}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.holds > 0 {
		return false
	}
	delete(p.d.sockets, p.address)
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	return true
}

// held reports whether there is an acceptor that is not stopped.
func (p *packets) held() bool {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.holds > 0
}

func (p *packets) runPosted() {
	p.mu.Lock()
	posted := p.posted
	p.posted = nil
	p.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

func (p *packets) event(slot int) {
	switch slot {
	case wakeSlot:
	case socketSlot:
		p.fromClients()
	default:
		// A flow that ended in this round is nil; its slot's next owner has
		// nothing to read yet, which is found out.
		if f := p.slots[slot]; f != nil {
			p.fromServer(f)
		}
	}
}

// fromClients passes on what clients have sent.
func (p *packets) fromClients() {
	if p.owner == nil && p.held() {
		return // it changes hands: what comes meanwhile waits
	}
	for range maxBatches {
		n, errno := p.in.receive(p.fd, true)
		if errno != 0 {
			return // none, or not now
		}
		for i := range n {
			key := flowKey{p.in.from[i], p.in.controls[i].answer()}
			f := p.table[key]
			if f == nil {
				if p.d.Probes != nil && p.d.Probes.Are(key.client.addrPort()) {
					p.in.echo(p.fd, i, &key)
					continue
				}
				if f = p.begin(key); f == nil {
					p.d.Dropped.Add(1)
					continue
				}
			}
			p.touch(f)
			p.toServer(f, p.in.datagram(i))
		}
		if n < batchSize {
			return
		}
	}
}

// toServer sends one datagram on. An error that an earlier one has caused (ICMP
// says that nobody listens) costs neither the flow nor this one.
func (p *packets) toServer(f *flow, b []byte) {
	if !p.fit(f) {
		p.d.Dropped.Add(1)
		return
	}
	f.bytesIn += int64(len(b))
	errno := sendDatagram(f.fd, b)
	if gone(errno) {
		if !p.move(f, errno) {
			p.d.Dropped.Add(1)
			return
		}
		errno = sendDatagram(f.fd, b)
	}
	if errno != 0 {
		p.d.Dropped.Add(1) // full, or too long
		return
	}
	p.d.Forwarded.Add(1)
}

// fromServer passes on what the server has answered, from the address that
// the client asked.
func (p *packets) fromServer(f *flow) {
	for range maxBatches {
		n, errno := p.in.receive(f.fd, false)
		if errno != 0 {
			if gone(errno) {
				p.move(f, errno)
			}
			return
		}
		p.touch(f)
		p.heard(f, n)
		sent := p.in.reply(p.fd, n, &f.key.client, &f.key.local)
		p.d.Forwarded.Add(uint64(sent))
		p.d.Dropped.Add(uint64(n - sent))
		if n < batchSize {
			return
		}
	}
}

// gone reports whether an error says that the server cannot be reached, as
// ICMP does.
func gone(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.EPROTO, unix.EACCES, unix.EPERM:
		return true
	}
	return false
}
