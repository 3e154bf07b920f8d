package l7

import (
	"net/netip"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
)

// This file is how an exchange comes to a server, and to a connection to it.

// freshEnough is how long a kept connection may have been idle to carry a
// request that cannot be sent again: the longer, the likelier the server is
// closing it at this moment.
const freshEnough = time.Second

// tryNext sends the request to the next server that may take it.
func (x *exchange) tryNext() {
	server := x.nextServer()
	if server == nil {
		switch {
		case x.tried == 0 && x.full:
			x.saturated(shed.ServersFull)
		case x.tried == 0:
			x.fail(503, noServer)
		default:
			x.fail(statusOf(x.unmade), x.unmade)
		}
		return
	}
	x.tried++
	x.server, x.outcome = server, pool.Cancelled
	x.terms = x.pool.Terms()
	x.touch()
	x.reach(false)
}

// reach sends the request to x.server: on a connection that there is, unless
// it is to be a fresh one, or on a new one.
//
// What asks to switch protocols goes by HTTP/1.1, also where the pool's
// servers speak HTTP/2, which has no such thing.
func (x *exchange) reach(fresh bool) {
	if x.terms.HTTP2 && x.protocol == nil && !x.plain {
		x.w.multiplexed(x, fresh)
		return
	}
	if !fresh && x.reuse() {
		return
	}
	x.up = x.w.dial(x)
}

// reuse sends the request on an idle connection of HTTP/1.1, if there is one
// that will do.
func (x *exchange) reuse() bool {
	within := freshEnough
	if x.replayable {
		within = 0
	}
	u := x.w.takeIdle(x, within)
	if u == nil {
		return false
	}
	u.x = x
	x.up = u
	x.send()
	return true
}

// opened: a new connection to the server stands.
func (x *exchange) opened() {
	x.send()
	x.goOn()
}

// goOn has the body come, which may be waiting, where the request was sent
// outside of the client's own turn.
func (x *exchange) goOn() {
	if x.active && x.takesBody() {
		x.down.more()
	}
}

func (x *exchange) send() {
	x.touch()
	x.sent = x.moved
	x.server.Connections.Add(1)
	x.up.start(x.request)
	if x.withBody && (x.requestDone || x.bytesIn > 0) {
		x.up.body(x.again, x.requestDone, x.late) // again
	}
}

// connect begins a connection to x's server; only: for HTTP/1.1.
func (w *worker) connect(x *exchange, only bool, h engine.Handler) engine.Conn {
	t, server := x.terms, x.server
	var greeting []byte
	if t.SendProxy > 0 {
		greeting = x.proxyHeader()
	}
	if t.TLS == nil {
		c := w.loop.Dial(server.Address, h)
		c.Send(greeting)
		return c
	}
	return w.tls.DialAfter(greeting, server.Address, server.TLSConfig(t, only), h)
}

// proxyHeader is what tells a server who the client is. Of a copy it tells
// nothing, since it has no connection.
func (x *exchange) proxyHeader() []byte {
	from, to := x.peer, x.localAddress()
	if x.terms.SendProxy == 1 {
		return proxyproto.AppendV1(nil, from, to)
	}
	header, err := proxyproto.AppendV2(nil, proxyproto.Header{Source: from, Destination: to}, proxyproto.Extra{})
	if err != nil {
		x.w.log.Error("a PROXY header cannot be made", "listener", x.l.Name, "error", err)
	}
	return header
}

// localAddress is what the client connected to.
func (x *exchange) localAddress() netip.AddrPort {
	if !x.local.IsValid() && x.front != nil {
		x.local = unmapped(engine.LocalOf(x.front))
	}
	return x.local
}
