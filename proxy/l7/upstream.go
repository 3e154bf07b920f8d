package l7

import (
	"errors"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// upstream is a connection to a server: of one exchange, or idle.
type upstream struct {
	w       *worker
	server  *pool.Server
	conn    engine.Conn
	session *session // nil while idle
	timer   engine.Timer
	in      []byte // the beginning of a head
	opened  bool
	reused  bool // it has carried an exchange before the present one
	gone    bool
	since   time.Duration // idle since
	place   int           // in the idle list
}

// idleServers is the idle connections to one server, the last used at the
// end: the least idle ones are used first, and the rest may time out.
type idleServers struct{ conns []*upstream }

// maxIdle bounds the idle connections to one server, of one loop.
const maxIdle = 256

// takeIdle returns an idle connection to server, which was used within the
// given time (0: any); nil if there is none.
func (w *worker) takeIdle(server *pool.Server, within time.Duration) *upstream {
	list := w.idle[server]
	if list == nil || len(list.conns) == 0 {
		return nil
	}
	u := list.conns[len(list.conns)-1]
	if within > 0 && w.loop.Now()-u.since > within {
		return nil
	}
	u.unlist()
	u.reused = true
	w.loop.Disarm(&u.timer)
	return u
}

// release keeps u for another exchange.
func (w *worker) release(u *upstream) {
	list := w.idle[u.server]
	if list == nil {
		list = &idleServers{}
		w.idle[u.server] = list
	}
	if len(list.conns) >= maxIdle {
		u.drop()
		return
	}
	u.session = nil
	u.in = reclaim(u.in)
	u.since = w.loop.Now()
	u.place = len(list.conns)
	list.conns = append(list.conns, u)
	w.loop.Arm(&u.timer, w.timeouts.Upstream)
	u.conn.Resume()
}

// unlist takes u out of the idle list, wherever it is, and keeps the order.
func (u *upstream) unlist() {
	list := u.w.idle[u.server]
	last := len(list.conns) - 1
	for i := u.place; i < last; i++ {
		list.conns[i] = list.conns[i+1]
		list.conns[i].place = i
	}
	list.conns[last] = nil
	list.conns = list.conns[:last]
	u.place = -1
}

// dial begins a connection to server for s.
func (w *worker) dial(server *pool.Server, s *session) *upstream {
	u := &upstream{w: w, server: server, session: s, place: -1}
	u.timer.Fire = u.expired
	u.conn = w.loop.Dial(server.Address, u)
	w.loop.Arm(&u.timer, w.timeouts.Connect)
	return u
}

// drop closes u, which carries nothing.
func (u *upstream) drop() {
	if u.gone {
		return
	}
	if u.place >= 0 {
		u.unlist()
	}
	// The server may have left the configuration: don't remember it without
	// a connection. (takeIdle leaves an empty list, for release.)
	if list := u.w.idle[u.server]; list != nil && len(list.conns) == 0 {
		delete(u.w.idle, u.server)
	}
	u.gone = true
	u.session = nil
	u.w.loop.Disarm(&u.timer)
	u.conn.Close()
}

// abort resets u: what it carried was not finished.
func (u *upstream) abort() {
	if !u.gone {
		u.conn.Abort()
		u.drop()
	}
}

var errTimeout = errors.New("timeout")

// expired: the connect took too long, or u was idle for long.
func (u *upstream) expired() {
	if u.session == nil {
		u.drop()
		return
	}
	if !u.opened {
		u.conn.Abort()
		u.Closed(errTimeout)
	}
}

// Opened implements [engine.Handler].
func (u *upstream) Opened() {
	u.opened = true
	u.w.loop.Disarm(&u.timer)
	if u.session != nil {
		u.session.connected(u)
	}
}

// Data implements [engine.Handler].
func (u *upstream) Data(b []byte) {
	switch {
	case u.gone:
	case u.session == nil:
		// It speaks without being asked (a 408 before it closes, say): what
		// comes next could be taken for the answer to the next request.
		u.drop()
	default:
		u.session.receive(u, b)
	}
}

// Drained implements [engine.Handler].
func (u *upstream) Drained() {
	if u.session != nil && !u.gone {
		u.session.upstreamDrained()
	}
}

// EOF implements [engine.Handler].
func (u *upstream) EOF() {
	switch {
	case u.gone:
	case u.session == nil:
		u.drop()
	default:
		u.session.upstreamEOF(u)
	}
}

// Closed implements [engine.Handler].
func (u *upstream) Closed(err error) {
	if u.gone {
		return
	}
	s := u.session
	u.drop()
	if s != nil {
		s.upstreamFailed(u, err)
	}
}
