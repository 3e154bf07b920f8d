package proxy

import (
	"fmt"

	"github.com/pharos-lb/pharos/proxy/l7"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// newAcceptor makes the acceptor that fits the binding's protocol.
func (p *Proxy) newAcceptor(b *binding) (acceptor, error) {
	if b.protocol != TCP && b.protocol != HTTP {
		return nil, fmt.Errorf("protocol %q is not supported", b.protocol)
	}
	fd, err := b.socket.Dup()
	if err != nil {
		return nil, err
	}
	if b.protocol == TCP {
		return &loopAcceptor{p.http.AcceptorFor(fd, b.owner.Name, p.relay(b.owner))}, nil
	}
	return &loopAcceptor{p.http.Acceptor(fd, b.owner)}, nil
}

// adopt serves a connection that was taken from the binding's queue.
func (p *Proxy) adopt(fd int, b *binding) {
	switch b.protocol {
	case TCP:
		p.http.AdoptFor(fd, p.relay(b.owner))
	case HTTP:
		p.http.Adopt(fd, b.owner)
	}
}

// relay forwards the TCP connections of l.
func (p *Proxy) relay(l *listener.Listener) func(engine.Loop, engine.Conn) engine.Handler {
	return func(loop engine.Loop, c engine.Conn) engine.Handler { return p.forward.Accept(loop, c, l) }
}

// loopAcceptor accepts on the event loops.
type loopAcceptor struct{ acceptor *l7.Acceptor }

func (a *loopAcceptor) start() { a.acceptor.Start() }
func (a *loopAcceptor) stop()  { a.acceptor.Stop() }
