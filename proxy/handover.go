package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pharos-lb/pharos/proxy/listener"
)

// An upgrade hands the listening sockets of this process to the next one, in
// three steps:
//
//  1. The old one gives descriptors of its sockets (Sockets), the new one takes
//     them (Inherit) and Applies the same configuration: it accepts beside the
//     old one, from the same queues, so that no connection is refused.
//  2. Only then the old one stops to accept (Retire). It does not close a queue,
//     since the sockets are open in the new one.
//  3. What the old one had accepted ends there.

// Transport says what a socket takes.
type Transport string

// The transports.
const (
	TransportTCP Transport = "tcp" // a listening socket
	TransportUDP Transport = "udp"
)

func transportOf(udp bool) Transport {
	if udp {
		return TransportUDP
	}
	return TransportTCP
}

// adoptSocket makes a socket of a descriptor, which it owns.
func adoptSocket(t Transport, address netip.AddrPort, fd int) (*listener.Socket, error) {
	if t == TransportUDP {
		return listener.AdoptUDP(address, fd)
	}
	return listener.Adopt(address, fd)
}

// ListeningSocket is a socket that clients come to, on its way from one process to the
// next.
type ListeningSocket struct {
	Transport Transport
	Address   netip.AddrPort // that it was configured with: its key
	FD        int            // owned by whoever holds the ListeningSocket
}

// Close closes the descriptor. The socket lives on where it is open elsewhere.
func (s ListeningSocket) Close() error { return unix.Close(s.FD) }

// Sockets returns a further descriptor of each listening socket, for the
// process that will replace this one; the caller closes them. Sockets whose
// port the kernel chose are not among them: nobody can ask for them by address.
func (p *Proxy) Sockets() ([]ListeningSocket, error) {
	if !p.takeRunning() {
		return nil, ErrStopped
	}
	defer func() { <-p.turn }()
	var out []ListeningSocket
	for key, b := range p.state.bindings {
		if key.address.Port() == 0 {
			continue
		}
		fd, err := b.socket.Dup()
		if err != nil {
			for _, s := range out {
				_ = s.Close()
			}
			return nil, fmt.Errorf("hand over the listening socket of %v: %w", key.address, err)
		}
		out = append(out, ListeningSocket{Transport: transportOf(key.udp), Address: key.address, FD: fd})
	}
	return out, nil
}

// Inherit takes listening sockets of the process before, and owns them from
// here on. The next Apply that succeeds listens on those that its configuration
// names, instead of binding their addresses, and closes the others. A socket
// that is not what it is said to be is an error, and then all are closed.
func (p *Proxy) Inherit(ctx context.Context, sockets []ListeningSocket) error {
	if err := p.take(ctx); err != nil {
		closeAll(sockets)
		return fmt.Errorf("inherit listening sockets: %w", err)
	}
	defer func() { <-p.turn }()
	adopted := make(map[bindKey]*listener.Socket, len(sockets))
	var errs []error
	for _, s := range sockets {
		if s.Transport != TransportTCP && s.Transport != TransportUDP {
			// A later version may hand over more: what nobody here asks for is
			// not missed.
			_ = s.Close()
			continue
		}
		socket, err := adoptSocket(s.Transport, s.Address, s.FD)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		key := bindKey{udp: s.Transport == TransportUDP, address: s.Address}
		if twice := adopted[key]; twice != nil {
			_ = twice.Close()
		}
		adopted[key] = socket
	}
	if err := errors.Join(errs...); err != nil {
		for _, s := range adopted {
			_ = s.Close()
		}
		return fmt.Errorf("inherit listening sockets: %w", err)
	}
	p.inherited = adopted
	return nil
}

func closeAll(sockets []ListeningSocket) {
	for _, s := range sockets {
		_ = s.Close()
	}
}

// dropInherited closes what was inherited: Apply holds the sockets that it
// needs, and the rest has no use. The caller holds the turn.
func (p *Proxy) dropInherited() {
	for _, s := range p.inherited {
		_ = s.Close()
	}
	p.inherited = nil
}

// retireQuiet is how long a connection between two requests must have been
// idle before Retire closes it. A client may send its next request just as we
// close: with connections in use that is a lost request, so those are told by
// Connection: close instead, and these are left until that hardly happens.
const retireQuiet = 5 * time.Second

// Retire ends the part of this process after another one has inherited its
// sockets and accepts on them: it stops accepting, and waits until what it had
// accepted has ended, or ctx ends; then it cuts the rest. HTTP clients are sent
// away with their next response. Established TCP connections live on.
// Nothing may be applied after it.
func (p *Proxy) Retire(ctx context.Context) DrainReport {
	if !p.takeRunning() {
		return DrainReport{}
	}
	defer func() { <-p.turn }()
	p.mu.Lock()
	p.state.drain = drainState{begun: true, finished: true, since: time.Now(), inFlight: p.inFlight()}
	drain := p.state.drain
	bindings := p.state.bindings
	p.state.bindings = make(map[bindKey]*binding)
	p.http.Mark()
	for _, l := range p.state.listeners {
		l.SetClosing(true)
	}
	p.mu.Unlock()
	for _, b := range bindings {
		// The queue is not emptied: the successor takes what waits in it.
		b.accept.yield()
		if err := b.socket.Close(); err != nil {
			p.log.Error("closing a listening socket failed", "address", b.socket.Address(), "error", err)
		}
	}
	p.dropInherited()
	p.log.Info("stopped accepting, the successor does", "connections", p.connections())
	p.http.AwaitQuiet(ctx, retireQuiet)
	cut, older := p.finishConnections(ctx)
	report := DrainReport{Finished: max(drain.inFlight-older, 0), Cut: cut}
	p.log.Info("the connections of before the upgrade have ended", "finished", report.Finished, "cut", report.Cut)
	return report
}
