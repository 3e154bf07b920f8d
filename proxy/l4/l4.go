// Package l4 forwards TCP connections between clients and the servers of a
// pool, without looking into them, or, to find the pool, only into the first
// message of TLS.
//
// A connection is a small state machine, the relay, on the event loops of
// package engine. Small messages are copied through the loop's buffer. A
// direction that moves a lot is handed to the engine to splice, if it can.
package l4

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/listener"
	"github.com/pharos-lb/pharos/proxy/pool"
)

// Timeouts bound the phases of a forwarded connection.
type Timeouts struct {
	Connect time.Duration // to one server
	Idle    time.Duration // nothing moved in either direction; cut between 1 and 1.25 times this
}

// helloTimeout bounds how long a client of TLS may take to say whom it wants.
const helloTimeout = 10 * time.Second

// Forwarder serves the connections of TCP listeners. Make one with [New].
type Forwarder struct {
	log      *slog.Logger
	timeouts Timeouts
	crews    map[engine.Loop]*crew // one for each loop; read-only

	open  atomic.Int64
	empty chan struct{} // told when open falls to 0
}

// crew is the relays of one loop. All of it runs on the loop.
type crew struct {
	*Forwarder
	loop   engine.Loop
	relays []*relay
}

// New returns a Forwarder that has no connections, for connections of the
// given loops. Both timeouts must be above 0.
func New(log *slog.Logger, timeouts Timeouts, loops []engine.Loop) *Forwarder {
	f := &Forwarder{log: log, timeouts: timeouts, crews: make(map[engine.Loop]*crew, len(loops)), empty: make(chan struct{}, 1)}
	for _, l := range loops {
		f.crews[l] = &crew{Forwarder: f, loop: l}
	}
	return f
}

// Accept makes the handler of a client's connection that loop has accepted on
// behalf of l. It connects to a server of l's pool. Only on the loop.
func (f *Forwarder) Accept(loop engine.Loop, client engine.Conn, l *listener.Listener) engine.Handler {
	r := f.crews[loop].newRelay(client, l)
	client.Pause()
	r.client.held = true
	r.choose(l.Site().Pool)
	return &r.client
}

// AcceptTLS is Accept for clients that speak TLS, which goes on to the server
// untouched: route says which pool takes the server name that the client asks
// for, in lower case, or "" if it asks for none; nil refuses it. route is called
// once for each connection, on the loop.
func (f *Forwarder) AcceptTLS(loop engine.Loop, client engine.Conn, l *listener.Listener, route func(name string) *pool.Pool) engine.Handler {
	r := f.crews[loop].newRelay(client, l)
	r.phase, r.hello = awaitHello, &hello{route: route}
	loop.Arm(&r.timer, helloTimeout)
	return &r.client
}

func (w *crew) newRelay(client engine.Conn, l *listener.Listener) *relay {
	r := &relay{crew: w, l: l, index: len(w.relays), began: time.Now()}
	r.client = side{r: r, conn: client}
	r.server.r = r
	r.timer.Fire = r.expired
	w.relays = append(w.relays, r)
	w.open.Add(1)
	l.Accepted.Add(1)
	l.Open.Add(1)
	return r
}

// forget takes out a relay that has ended.
func (w *crew) forget(r *relay) {
	last := len(w.relays) - 1
	w.relays[r.index] = w.relays[last]
	w.relays[r.index].index = r.index
	w.relays[last] = nil
	w.relays = w.relays[:last]
	if w.open.Add(-1) == 0 {
		select {
		case w.empty <- struct{}{}:
		default:
		}
	}
}
