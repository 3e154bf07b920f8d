package l4

import (
	"errors"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/secure"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/proxyproto"
)

var errTimeout = errors.New("no answer within the connect timeout")

// connect dials the next server that may take the connection: nothing was
// sent yet, so a dead server costs the client no more than time.
func (r *relay) connect() {
	if !r.pick.next() {
		// Reset: the client must not take this for an empty answer.
		r.cut(r.pick.why())
		return
	}
	t := r.pool.Terms()
	r.dialled = r.crew.loop.Now()
	r.server.conn = r.dial(r.pick.server, t)
	r.crew.loop.Arm(&r.timer, t.Connect)
}

// dial begins a connection to s.
func (r *relay) dial(s *pool.Server, t *pool.Terms) engine.Conn {
	w := r.crew
	var header []byte
	if t.SendProxy > 0 {
		header = r.header(t.SendProxy)
	}
	if t.TLS == nil {
		c := w.loop.Dial(s.Address, &r.server)
		c.Send(header)
		return c
	}
	if w.tls == nil {
		w.tls = secure.NewLoop(w.loop, w.handshakes)
	}
	return w.tls.DialAfter(header, s.Address, s.RelayTLSConfig(t), &r.server)
}

// header is what tells a server who the client is.
func (r *relay) header(version int) []byte {
	if !r.target.IsValid() {
		r.target = unmapped(engine.LocalOf(r.client.conn))
	}
	if version == 1 {
		return proxyproto.AppendV1(nil, r.source, r.target)
	}
	var extra proxyproto.Extra
	if r.name != "" {
		extra.Authority = []byte(r.name)
	}
	b, err := proxyproto.AppendV2(nil, proxyproto.Header{Source: r.source, Destination: r.target}, extra)
	if err != nil { // a name is never so long
		r.crew.log.Error("a PROXY header cannot be made", "listener", r.l.Name, "error", err)
	}
	return b
}

// refused notes why a server did not take the connection, and goes on.
func (r *relay) refused(err error) {
	s, kind := r.pick.server, pool.ConnectFailed
	if err == errTimeout {
		kind = pool.TimedOut
	}
	if muted, log := s.LogFailure(time.Now()); log {
		r.crew.log.Warn("connecting to a server failed", "listener", r.l.Name, "pool", r.pool.Name(),
			"server", s.Name, "address", s.Address, "error", err, "not_logged", muted)
	}
	r.pick.failed(kind, r.crew.loop.Now())
	r.connect()
}

// Opened implements [engine.Handler]: the server's connection stands.
func (s *side) Opened() {
	r := s.r
	now := r.crew.loop.Now()
	r.phase, r.moved = relaying, now
	r.connected = now - r.dialled
	r.serverName = r.pick.server.Name
	r.pick.stands(r.connected, now)
	r.watch()
	if len(r.said) > 0 {
		s.conn.Send(r.said)
	}
	r.said = nil
	s.taken()
}
