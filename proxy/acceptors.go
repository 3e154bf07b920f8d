package proxy

import (
	"github.com/pharos-lb/pharos/proxy/l4"
	"github.com/pharos-lb/pharos/proxy/l7"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// newAcceptor makes the acceptor that fits the binding's protocol.
func (p *Proxy) newAcceptor(b *binding) (acceptor, error) {
	fd, err := b.socket.Dup()
	if err != nil {
		return nil, err
	}
	switch {
	case b.protocol == UDP:
		a, err := p.datagrams.Acceptor(fd, b.socket.Address(), b.owner)
		if err != nil {
			return nil, err
		}
		return &packetAcceptor{a}, nil
	case b.protocol.web():
		return &loopAcceptor{p.http.AcceptorFor(fd, b.owner.Name, p.sessions(b.owner))}, nil
	}
	return &loopAcceptor{p.http.AcceptorFor(fd, b.owner.Name, p.relay(b.owner))}, nil
}

// adopt serves a connection that was taken from the binding's queue.
func (p *Proxy) adopt(fd int, b *binding) {
	if b.protocol.web() {
		p.http.AdoptFor(fd, p.sessions(b.owner))
		return
	}
	p.http.AdoptFor(fd, p.relay(b.owner))
}

// sessions serves the HTTP connections of l, and probes as if they were such.
func (p *Proxy) sessions(l *listener.Listener) func(engine.Loop, engine.Conn) engine.Handler {
	clients, probes := p.http.Sessions(l), p.http.Sessions(l.Probed())
	return func(loop engine.Loop, c engine.Conn) engine.Handler {
		if p.probes.tcp.Are(c.Peer()) {
			return probes(loop, c)
		}
		return clients(loop, c)
	}
}

// relay forwards the TCP connections of l, and answers probes.
func (p *Proxy) relay(l *listener.Listener) func(engine.Loop, engine.Conn) engine.Handler {
	return func(loop engine.Loop, c engine.Conn) engine.Handler {
		if p.probes.tcp.Are(c.Peer()) {
			return answerProbe(loop, c)
		}
		return p.forward.Accept(loop, c, l)
	}
}

// loopAcceptor accepts on the event loops.
type loopAcceptor struct{ acceptor *l7.Acceptor }

func (a *loopAcceptor) start() { a.acceptor.Start() }
func (a *loopAcceptor) stop()  { a.acceptor.Stop() }
func (a *loopAcceptor) yield() { a.acceptor.Stop() }

// packetAcceptor begins flows of a UDP socket.
type packetAcceptor struct{ acceptor *l4.PacketAcceptor }

func (a *packetAcceptor) start() { a.acceptor.Start() }
func (a *packetAcceptor) stop()  { a.acceptor.Stop() }
func (a *packetAcceptor) yield() { a.acceptor.Yield() }

// bind opens the socket of a listener's address, or takes the one that was
// inherited for it. Where flows of a UDP listener that went live on at the
// address, their socket is taken over. The caller holds the turn.
func (p *Proxy) bind(l *Listener, i int) (*listener.Socket, error) {
	address := l.Addresses[i]
	if s := p.inherited[keyOf(*l, i)]; s != nil {
		fd, err := s.Dup() // the original stays until Apply has succeeded
		if err != nil {
			return nil, err
		}
		return adoptSocket(transportOf(l.Protocol == UDP), address, fd)
	}
	if l.Protocol != UDP {
		return listener.Bind(address)
	}
	if address.Port() != 0 {
		if fd, ok := p.datagrams.Dup(address); ok {
			return listener.AdoptUDP(address, fd)
		}
	}
	return listener.BindUDP(address)
}
