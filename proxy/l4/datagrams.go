package l4

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// DefaultFlows is how many flows a socket has at most, unless its owner says
// otherwise.
const DefaultFlows = 65536

// Datagrams serves the flows of UDP listeners. A flow is what one client's
// address and port exchange with one server, by a socket of their own. It ends
// when nothing came either way for as long as the site of its listener says: that
// of the moment, or the last one if the listener went. Make one with
// [NewDatagrams].
//
// Each socket has a goroutine, which waits for all its flows at once, so that a
// flow costs little more than its socket.
type Datagrams struct {
	log    *slog.Logger
	access *accesslog.Log // nil: none
	most   int            // flows of one socket

	// Probes are the ports that the node's own probes come from: they get back
	// what they sent, and are no flows; nil: there are none. Set it before the
	// first Acceptor.
	Probes *listener.Probes

	lookEvery time.Duration // how often at most a flow looks whether its server is well

	// Forwarded counts datagrams passed on, both ways; Dropped those that
	// were not: a limit is reached, no server took them, a socket was full, or
	// the VIP drains. Evicted counts the flows that made room for others.
	Forwarded, Dropped, Evicted atomic.Uint64

	open    atomic.Int64
	empty   chan struct{} // told when open falls to 0
	running sync.WaitGroup

	mu      sync.Mutex
	sockets map[netip.AddrPort]*packets // by the address bound to
}

// NewDatagrams returns a Datagrams without flows. Each socket has at most so
// many; beyond, the longest idle one ends. Listeners that log do so to access;
// nil: none does.
func NewDatagrams(log *slog.Logger, access *accesslog.Log, flows int) *Datagrams {
	return &Datagrams{log: log, access: access, most: flows, lookEvery: time.Second, empty: make(chan struct{}, 1), sockets: make(map[netip.AddrPort]*packets)}
}

// PacketAcceptor makes new flows of one socket for one listener.
type PacketAcceptor struct {
	packets *packets
	owner   *listener.Listener
	started bool
}

// Acceptor returns an acceptor for fd, a socket bound to address (see
// listener.BindUDP), which it owns, for l. It does nothing until Start, and
// must be stopped in any case. Where the flows of an acceptor that was stopped
// live on at the same address, they and the new ones share the socket that is
// there.
func (d *Datagrams) Acceptor(fd int, address netip.AddrPort, l *listener.Listener) (*PacketAcceptor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.sockets[address]
	if p == nil {
		var err error
		if p, err = newPackets(d, fd, address); err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
		d.sockets[address] = p
	} else {
		_ = unix.Close(fd)
	}
	p.holds++
	return &PacketAcceptor{packets: p, owner: l}, nil
}

// Dup returns a descriptor of the socket at address, if flows live on there;
// binding another one would fail.
func (d *Datagrams) Dup(address netip.AddrPort) (fd int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.sockets[address]
	if p == nil {
		return -1, false
	}
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, err == nil
}

// Start begins to take new flows. It returns at once.
func (a *PacketAcceptor) Start() {
	a.started = true
	p := a.packets
	p.post(func() { p.owner, p.idle = a.owner, a.owner.Site().Stream.Idle; p.listen(true) })
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if !p.running {
		p.running = true
		p.d.running.Go(p.run)
	}
}

// Stop ends it: when it returns, no flow begins any more. Those that there are
// go on, both ways, until they are idle.
func (a *PacketAcceptor) Stop() { a.stop(false) }

// Yield is Stop where another process has the socket, too: all that clients send
// is that one's from here on. The flows that there are carry what their servers
// still answer, until they are idle.
func (a *PacketAcceptor) Yield() { a.stop(true) }

func (a *PacketAcceptor) stop(yield bool) {
	p := a.packets
	if a.started {
		done := make(chan struct{})
		if p.post(func() { p.owner = nil; p.listen(!yield); close(done) }) {
			<-done
		}
	}
	p.d.mu.Lock()
	p.holds--
	unused := p.holds == 0 && !p.running
	if unused {
		delete(p.d.sockets, p.address)
	}
	p.d.mu.Unlock()
	if unused {
		p.close()
		return
	}
	p.post(func() {}) // to look whether it is over
}

// Open is the number of flows.
func (d *Datagrams) Open() int { return int(d.open.Load()) }

// OpenSince is the number of flows that began before a time.
func (d *Datagrams) OpenSince(before time.Time) int {
	_, older := d.visit(func(p *packets) (int, int) { return p.count(before) })
	return older
}

// Drain waits until all flows have ended or ctx ends, ends the rest, and
// returns how many: all of them, and those that began before a given time. It
// returns when the goroutines of all sockets have ended. Acceptors must be
// stopped before.
func (d *Datagrams) Drain(ctx context.Context, since time.Time) (cut, older int) {
	for d.open.Load() > 0 {
		select {
		case <-d.empty:
			continue
		case <-ctx.Done():
		}
		cut, older = d.visit(func(p *packets) (cut, older int) {
			cut, older = p.count(since)
			for p.oldest.next != &p.oldest {
				p.end(p.oldest.next, cutOff)
			}
			return cut, older
		})
		break
	}
	d.running.Wait()
	return cut, older
}

// visit calls look on the goroutine of every socket, and adds up the answers.
func (d *Datagrams) visit(look func(*packets) (int, int)) (a, b int) {
	d.mu.Lock()
	var all []*packets
	for _, p := range d.sockets {
		if p.running {
			all = append(all, p)
		}
	}
	d.mu.Unlock()
	type answer struct{ a, b int }
	answers := make(chan answer, len(all))
	waiting := 0
	for _, p := range all {
		if p.post(func() {
			a, b := look(p)
			answers <- answer{a, b}
		}) {
			waiting++
		}
	}
	for range waiting {
		n := <-answers
		a, b = a+n.a, b+n.b
	}
	return a, b
}
