package l7

import (
	"errors"
	"slices"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/secure"
	"github.com/pharos-lb/pharos/proxy/l7/http2"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// muxes is the HTTP/2 connections of one loop to one server, the oldest first:
// they fill up in this order, so that those that are not needed become idle.
type muxes struct {
	conns []*mux
	// single: the server chose HTTP/1.1 when it was last asked (ALPN), so that
	// each connection will carry one request at a time. ones counts those that
	// there are.
	single bool
	ones   int
	// limit is what the server allowed on the last connection that said so: a
	// new one gets no more before it says so, too.
	limit int
}

// muxesOf returns what there is of a server, which is kept by the connections
// in it.
func (w *worker) muxesOf(server *pool.Server) *muxes {
	all := w.muxes[server]
	if all == nil {
		all = &muxes{limit: maxStreams}
		w.muxes[server] = all
	}
	return all
}

// tidy forgets a server without a connection: it may have left the
// configuration.
func (w *worker) tidy(server *pool.Server) {
	if all := w.muxes[server]; all != nil && len(all.conns) == 0 && all.ones == 0 {
		delete(w.muxes, server)
	}
}

// mux is an HTTP/2 connection to a server, which carries the requests of many
// clients of one loop.
type mux struct {
	w      *worker
	server *pool.Server
	terms  *pool.Terms
	conn   engine.Conn
	h2     *http2.ClientConn // nil until the connection stands
	one    *serverConn       // not nil: the server chose HTTP/1.1, and all that comes is its
	timer  engine.Timer

	streams []*serverStream // with an exchange; while the connection is being made, they wait
	// ceiling is how many of them the server has shown to take, whatever its
	// SETTINGS say: a refusal lowers it to those that there are, and each
	// response raises it by one.
	ceiling int
	limit   int  // that was learnt of its SETTINGS; 0: none
	served  bool // an exchange was completed on it
	leaving bool // it takes no more
	gone    bool
	failure error // why it is gone; nil: it was ours to end

	idle time.Duration // since when, if it is
	last time.Duration // when anything came last

	// Liveness (RFC 9113 section 6.7): what is silent for long is asked.
	moved   time.Duration // when a response moved last
	silence time.Duration // after which to ask
	asked   time.Duration // when it was
	asking  bool
}

const (
	// maxWaiting bounds the requests that wait for one connection to be made,
	// below what a server is taken to allow before it says so.
	maxWaiting = 64
	maxStreams = 128 // of one connection
	// A connection is asked whether it lives after pingAfter of silence, and
	// must answer pingWithin. Servers of gRPC take more than two PINGs in five
	// minutes, with nothing of theirs between, for an attack: after an answer
	// it is not asked again for pingAgain, unless a response moves.
	pingAfter  = 15 * time.Second
	pingAgain  = 6 * time.Minute
	pingWithin = 10 * time.Second
)

var errSilent = errors.New("the server does not answer a PING")

// flushStreams sends what was queued on connections of HTTP/2, unless somebody
// on the stack will.
func (w *worker) flushStreams() {
	if w.depth == 0 {
		w.shared2.Flush()
	}
}

// multiplexed sends x's request on a connection that has room for it, or has a
// new one made.
func (w *worker) multiplexed(x *exchange, fresh bool) {
	if all := w.muxes[x.server]; all != nil && !fresh {
		if all.single && x.reuse() {
			return
		}
		for i := len(all.conns) - 1; i >= 0; i-- {
			if m := all.conns[i]; m.terms != x.terms {
				m.retire()
			}
		}
		for _, m := range all.conns {
			if m.room(all.single) {
				m.take(x)
				return
			}
		}
	}
	all := w.muxesOf(x.server)
	m := &mux{w: w, server: x.server, terms: x.terms, ceiling: all.limit, silence: pingAfter}
	m.timer.Fire = m.expired
	all.conns = append(all.conns, m)
	m.conn = w.connect(x, false, m)
	w.loop.Arm(&m.timer, m.terms.Connect)
	m.take(x)
}

// room reports whether m takes a request now.
func (m *mux) room(single bool) bool {
	switch {
	case m.leaving || m.gone || m.one != nil:
		return false
	case m.h2 != nil:
		return len(m.streams) < m.ceiling && m.h2.Available() > 0
	case single:
		return len(m.streams) == 0
	}
	return len(m.streams) < min(maxWaiting, m.ceiling)
}

// take makes a stream for x's request, which begins at once if the connection
// stands.
func (m *mux) take(x *exchange) {
	s := m.w.takeServerStream()
	s.m, s.x, s.index, s.reused = m, x, len(m.streams), m.served
	if len(m.streams) == 0 {
		m.moved = m.w.loop.Now() // silence counts from here
	}
	m.streams = append(m.streams, s)
	x.up = s
	if m.h2 != nil {
		x.send()
	}
}

// Opened implements [engine.Handler].
func (m *mux) Opened() {
	w := m.w
	if c, ok := m.conn.(*secure.Conn); ok && c.ConnectionState().NegotiatedProtocol != "h2" {
		m.fallBack()
		return
	}
	if all := w.muxes[m.server]; all != nil {
		all.single = false
	}
	config := http2.ClientConfig()
	config.MaxStreams, config.ConnWindow = maxStreams, maxStreams*config.StreamWindow
	m.h2 = http2.NewClientConn(w.shared2, m.conn, &config, (*answers)(m))
	m.idle, m.last, m.moved = w.loop.Now(), w.loop.Now(), w.loop.Now()
	w.depth++
	for _, s := range slices.Clone(m.streams) {
		if s.m == m && s.hs == nil {
			s.x.opened()
		}
	}
	w.depth--
	w.flushStreams()
	m.look()
}

// fallBack: the server speaks HTTP/1.1 (RFC 7301). The first request that
// waits has the connection, the others need their own.
func (m *mux) fallBack() {
	w := m.w
	w.loop.Disarm(&m.timer)
	waiting := slices.Clone(m.streams)
	all := w.muxesOf(m.server)
	all.single = true
	all.ones++ // until the connection's end
	m.unlist()
	for i, s := range waiting {
		x := s.x
		s.detach()
		w.recycle(s)
		if i > 0 {
			x.reach(false)
			x.goOn()
			continue
		}
		u := &serverConn{w: w, server: m.server, terms: m.terms, conn: m.conn, x: x, front: x.front, opened: true, negotiated: true, place: -1}
		u.timer.Fire = u.expired
		m.one, x.up = u, u
		x.opened()
	}
	if m.one == nil { // those who waited have gone
		m.gone = true
		m.conn.Close()
		all.ones--
		w.tidy(m.server)
	}
}

// Data implements [engine.Handler].
func (m *mux) Data(b []byte) {
	switch {
	case m.one != nil:
		m.one.Data(b)
	case !m.gone:
		m.last = m.w.loop.Now()
		m.w.depth++
		err := m.h2.Feed(b, m.w.loop.Now())
		m.w.depth--
		m.learn()
		m.after(err)
	}
}

// Drained implements [engine.Handler].
func (m *mux) Drained() {
	switch {
	case m.one != nil:
		m.one.Drained()
	case !m.gone && m.h2 != nil:
		m.w.depth++
		err := m.h2.Drained(m.w.loop.Now())
		m.w.depth--
		m.after(err)
	}
}

// learn takes over the limit that the server's SETTINGS have set.
func (m *mux) learn() {
	n := max(1, m.h2.MaxStreams())
	if all := m.w.muxes[m.server]; all != nil && m.limit != n {
		m.limit, all.limit = n, n
	}
}

// after looks what is to be done once the connection has been given something.
func (m *mux) after(err *http2.Error) {
	switch {
	case m.gone:
	case err != nil:
		if muted, log := m.server.LogFailure(time.Now()); log {
			m.w.log.Warn("a server broke the protocol", "server", m.server.Name, "address", m.server.Address, "error", err, "not_logged", muted)
		}
		m.leave() // the streams were told, and the GOAWAY is on its way
	case len(m.streams) == 0 && (m.leaving || m.h2.Finished()):
		m.leave()
	}
	m.w.flushStreams()
}

// EOF implements [engine.Handler].
func (m *mux) EOF() {
	if m.one != nil {
		m.one.EOF()
		return
	}
	m.fail(errEOF)
}

// Closed implements [engine.Handler].
func (m *mux) Closed(err error) {
	if m.one != nil {
		m.one.Closed(err)
		return
	}
	m.fail(err)
}

// fail: the connection could not be made, or broke.
func (m *mux) fail(err error) {
	if m.gone {
		return
	}
	w := m.w
	m.failure = err
	m.unlist()
	m.gone = true
	w.loop.Disarm(&m.timer)
	m.conn.Close()
	w.depth++
	if m.h2 != nil {
		m.h2.Closed() // which resets all streams
	}
	for len(m.streams) > 0 {
		m.streams[len(m.streams)-1].failed(err)
	}
	w.depth--
	w.flushStreams()
}

// retire has m take no more requests, and end with those that it has.
func (m *mux) retire() {
	m.leaving = true
	if len(m.streams) == 0 {
		m.leave()
	}
}

// leave ends m, which carries nothing.
func (m *mux) leave() {
	if m.gone {
		return
	}
	m.unlist()
	m.gone = true
	m.w.loop.Disarm(&m.timer)
	if m.h2 != nil {
		m.h2.GoAway()
		m.w.shared2.Flush() // now, since the end of the connection comes next
	}
	m.conn.Close()
	if m.h2 != nil {
		m.h2.Closed()
	}
}

// unlist takes m out of its server's.
func (m *mux) unlist() {
	all := m.w.muxes[m.server]
	if all == nil {
		return
	}
	if i := slices.Index(all.conns, m); i >= 0 {
		all.conns = slices.Delete(all.conns, i, i+1)
	}
	m.w.tidy(m.server)
}

// expired: it is time to look.
func (m *mux) expired() {
	switch {
	case m.gone:
	case m.h2 == nil:
		m.conn.Abort()
		m.fail(errTimeout)
	default:
		m.look()
	}
}

// look ends m if it was idle for long, and asks whether it lives if it was
// silent.
func (m *mux) look() {
	if m.gone {
		return
	}
	w, now, next := m.w, m.w.loop.Now(), pingAgain
	if len(m.streams) == 0 {
		next = m.terms.Idle - (now - m.idle)
		if m.leaving || next <= 0 {
			m.leave()
			return
		}
	}
	if m.asking {
		if _, answered := m.h2.Pinged(); answered {
			m.asking, m.silence = false, max(m.silence, pingAgain)
		} else if now-m.asked >= pingWithin {
			m.conn.Abort()
			m.fail(errSilent)
			return
		}
	}
	switch quiet := now - max(m.moved, m.asked); {
	case m.asking:
		next = min(next, pingWithin-(now-m.asked))
	case quiet >= m.silence:
		m.asking, m.asked = true, now
		m.h2.Ping(now)
		w.flushStreams()
		next = min(next, pingWithin)
	default:
		next = min(next, m.silence-quiet)
	}
	w.loop.Arm(&m.timer, next)
}

// heard: a response moves.
func (m *mux) heard() { m.moved, m.silence = m.w.loop.Now(), pingAfter }
