package l7

import (
	"time"
)

// idleServers is the idle connections to one server, the last used at the
// end: the least idle ones are used first, and the rest may time out.
type idleServers struct{ conns []*serverConn }

// maxIdle bounds the idle connections to one server, of one loop.
const maxIdle = 256

// takeIdle returns an idle connection that x's request may go on, which was
// used within the given time (0: any); nil if there is none. Those that were
// made by terms of before are closed.
func (w *worker) takeIdle(x *exchange, within time.Duration) *serverConn {
	list := w.idle[x.server]
	if list == nil {
		return nil
	}
	for i := len(list.conns) - 1; i >= 0; i-- {
		u := list.conns[i]
		switch {
		case u.terms != x.terms:
			u.drop()
		case within > 0 && w.loop.Now()-u.since > within:
			return nil
		case u.terms.SendProxy > 0 && u.front != x.front:
			// It speaks for another client.
		default:
			u.unlist()
			u.reused = true
			w.loop.Disarm(&u.timer)
			return u
		}
	}
	return nil
}

// release keeps u for another exchange.
func (w *worker) release(u *serverConn) {
	list := w.idle[u.server]
	if list == nil {
		list = &idleServers{}
		w.idle[u.server] = list
	}
	if len(list.conns) >= maxIdle || u.terms.SendProxy > 0 && u.front == nil {
		u.drop()
		return
	}
	u.x = nil
	u.in = reclaim(u.in)
	u.since = w.loop.Now()
	u.place = len(list.conns)
	list.conns = append(list.conns, u)
	w.loop.Arm(&u.timer, u.terms.Idle)
	u.conn.Resume()
}

// unlist takes u out of the idle list, wherever it is, and keeps the order.
func (u *serverConn) unlist() {
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
