package proxy

import (
	"fmt"
	"net"
	"sync"

	"github.com/pharos-lb/pharos/proxy/l4"
	"github.com/pharos-lb/pharos/proxy/l7"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// newAcceptor makes the acceptor that fits the binding's protocol.
func (p *Proxy) newAcceptor(b *binding) (acceptor, error) {
	switch b.protocol {
	case TCP:
		ln, err := b.socket.Listener()
		if err != nil {
			return nil, err
		}
		return &tcpAcceptor{forward: p.forward, ln: ln, owner: b.owner, group: &p.group}, nil
	case HTTP, HTTPS:
		fd, err := b.socket.Dup()
		if err != nil {
			return nil, err
		}
		return &httpAcceptor{p.http.Acceptor(fd, b.owner)}, nil
	}
	return nil, fmt.Errorf("protocol %q is not supported", b.protocol)
}

// adopt serves a connection that was taken from the binding's queue.
func (p *Proxy) adopt(fd int, b *binding) {
	switch b.protocol {
	case TCP:
		p.forward.Adopt(fd, b.owner)
	case HTTP, HTTPS:
		p.http.Adopt(fd, b.owner)
	}
}

// httpAcceptor accepts on the event loops.
type httpAcceptor struct{ acceptor *l7.Acceptor }

func (a *httpAcceptor) start() { a.acceptor.Start() }
func (a *httpAcceptor) stop()  { a.acceptor.Stop() }

// tcpAcceptor accepts in a goroutine of its own.
type tcpAcceptor struct {
	forward *l4.Forwarder
	ln      *net.TCPListener
	owner   *listener.Listener
	group   *sync.WaitGroup
	ended   chan struct{} // nil: not started
}

func (a *tcpAcceptor) start() {
	a.ended = make(chan struct{})
	a.group.Go(func() {
		defer close(a.ended)
		a.forward.Accept(a.ln, a.owner)
	})
}

func (a *tcpAcceptor) stop() {
	_ = a.ln.Close()
	if a.ended != nil {
		<-a.ended
	}
}
