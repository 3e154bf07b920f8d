package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports are the listening sockets of passive neighbors, one for each local
// address and port that a neighbor waits at. A socket is open while somebody
// waits at it. The zero value has none.
type Ports struct {
	mu   sync.Mutex
	open map[netip.AddrPort]*port
}

// port is one listening socket and who may connect to it.
type port struct {
	listener *net.TCPListener
	done     chan struct{}        // closed when nothing is accepted any more
	doors    map[netip.Addr]*Door // by the router's address; guarded by Ports.mu
}

// pause is how long nothing is accepted after that failed.
const pause = 50 * time.Millisecond

// Door is where one router's connections come in.
type Door struct {
	ports *Ports
	at    netip.AddrPort
	terms Terms
	came  chan *net.TCPConn // of one slot: the router's newest connection
}

// Listen lets the router of the terms connect to a local address and port, from
// now until the door is closed. An unspecified address stands for all of its
// family. Each router has one door for each local address and port.
func (p *Ports) Listen(local netip.AddrPort, t Terms) (*Door, error) {
	d, err := p.enter(local, t)
	if err != nil && d != nil {
		d.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the router on %s: %w", local, err)
	}
	return d, nil
}

// enter returns a door that is to be closed, if any, even with an error.
func (p *Ports) enter(local netip.AddrPort, t Terms) (*Door, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.open[local]
	if at == nil {
		l, err := listen(local)
		if err != nil {
			return nil, err
		}
		at = &port{listener: l, done: make(chan struct{}), doors: map[netip.Addr]*Door{}}
		if p.open == nil {
			p.open = map[netip.AddrPort]*port{}
		}
		p.open[local] = at
		go p.accept(at)
	}
	if _, taken := at.doors[t.Router]; taken {
		return nil, fmt.Errorf("somebody waits for %s there already", t.Router)
	}
	d := &Door{ports: p, at: local, terms: t, came: make(chan *net.TCPConn, 1)}
	at.doors[t.Router] = d
	return d, errors.Join(at.control(func(fd int) error { return setKey(fd, t.Router, t.Password) }), at.restrict())
}

// listen opens a socket. Multipath TCP, which Go would listen for, knows no
// TCP-MD5. SO_REUSEPORT lets one socket have an address that another one has
// among all; and, on an upgrade, the next process open its own in time.
func listen(local netip.AddrPort) (*net.TCPListener, error) {
	c := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			six := network == "tcp6"
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return err
			}
			if err := setSent(fd, six, maxTTL); err != nil {
				return err
			}
			return setMarks(fd, six)
		})
	}}
	c.SetMultipathTCP(false)
	network := "tcp4"
	if local.Addr().Is6() {
		network = "tcp6"
	}
	l, err := c.Listen(context.Background(), network, local.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

func (at *port) control(f func(fd int) error) error {
	raw, err := at.listener.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, f)
}

// restrict has the listening socket ask for the lowest TTL that any router
// needs. What a router's own terms ask beyond it is asked of its connections.
func (at *port) restrict() error {
	least, six := maxTTL, false
	for router, d := range at.doors {
		least, six = min(least, d.terms.required()), router.Is6()
	}
	return at.control(func(fd int) error { return setRequired(fd, six, least) })
}

func (p *Ports) accept(at *port) {
	defer close(at.done)
	for {
		conn, err := at.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(pause) // too few descriptors, most likely
			continue
		}
		p.admit(at, conn)
	}
}

// admit gives a connection to whom it is for. Strangers hear nothing.
func (p *Ports) admit(at *port, conn *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	d := at.doors[remote]
	if d == nil {
		_ = conn.Close()
		return
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error { return d.terms.set(fd, remote.Is6()) })
	}
	if err != nil {
		_ = conn.Close()
		return
	}
	d.drop() // an older one: a router that comes anew has given that up
	d.came <- conn
}

// drop closes the connection that nobody has taken. Ports.mu is held.
func (d *Door) drop() {
	select {
	case conn := <-d.came:
		_ = conn.Close()
	default:
	}
}

// Came has the router's newest connection, if there is one that was not taken
// yet. It is for one reader at a time, and never closed.
func (d *Door) Came() <-chan *net.TCPConn { return d.came }

// Suspicion says, in words for operators, why a router may not have come.
func (d *Door) Suspicion() string { return d.terms.Suspicion() }

// Close lets the router connect no more, and closes a connection that was not
// taken. It returns when nothing of the door runs any more.
func (d *Door) Close() { d.ports.leave(d) }

func (p *Ports) leave(d *Door) {
	p.mu.Lock()
	at := p.open[d.at]
	if at == nil || at.doors[d.terms.Router] != d {
		p.mu.Unlock()
		return
	}
	delete(at.doors, d.terms.Router)
	d.drop()
	if len(at.doors) > 0 {
		// Neither can fail on a socket that has been given more before.
		_ = at.control(func(fd int) error { return setKey(fd, d.terms.Router, "") })
		_ = at.restrict()
		p.mu.Unlock()
		return
	}
	delete(p.open, d.at)
	_ = at.listener.Close()
	p.mu.Unlock()
	<-at.done
}
