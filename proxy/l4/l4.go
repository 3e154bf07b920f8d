// Package l4 forwards TCP connections and UDP datagrams between clients and the
// servers of a pool, without looking into them, or, to find the pool, only into
// the first message of TLS.
//
// A connection is a small state machine, the relay, on the event loops of
// package engine. Small messages are copied through the loop's buffer. A
// direction that moves a lot is handed to the engine to splice, if it can. UDP
// is [Datagrams].
package l4

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/secure"
	"github.com/pharos-lb/pharos/proxy/listener"
)

// openingTimeout bounds how long a client may take to say what has to be known
// before there is a server: a PROXY header, and a ClientHello.
const openingTimeout = 10 * time.Second

// Forwarder serves the connections of TCP listeners. Make one with [New].
type Forwarder struct {
	log        *slog.Logger
	access     *accesslog.Log        // nil: none
	handshakes *secure.Handshakes    // with servers
	crews      map[engine.Loop]*crew // one for each loop; read-only

	open  atomic.Int64
	empty chan struct{} // told when open falls to 0
}

// crew is the relays of one loop. All of it runs on the loop.
type crew struct {
	*Forwarder
	loop   engine.Loop
	tls    *secure.Loop // nil: no server was spoken to by TLS yet
	relays []*relay

	accessed *accesslog.Buffer // nil: nothing is logged
	logTimer engine.Timer
	warned   time.Duration // when a client without a PROXY header was logged last; 0: never
}

// New returns a Forwarder that has no connections, for connections of the
// given loops. Listeners that log do so to access; nil: none does. Close it
// after the loops have ended.
func New(log *slog.Logger, access *accesslog.Log, loops []engine.Loop) *Forwarder {
	f := &Forwarder{
		log: log, access: access, handshakes: secure.NewHandshakes(secure.Limits{}),
		crews: make(map[engine.Loop]*crew, len(loops)), empty: make(chan struct{}, 1),
	}
	for _, l := range loops {
		w := &crew{Forwarder: f, loop: l}
		if access != nil {
			w.accessed = access.Buffer()
			w.logTimer.Fire = w.accessed.Flush
		}
		f.crews[l] = w
	}
	return f
}

// Close ends what may be left of handshakes with servers.
func (f *Forwarder) Close() { f.handshakes.Close() }

// Accept makes the handler of a client's connection that loop has accepted on
// behalf of l: it goes by l's site of this moment to its end. Only on the loop.
func (f *Forwarder) Accept(loop engine.Loop, client engine.Conn, l *listener.Listener) engine.Handler {
	r := f.crews[loop].newRelay(client, l)
	if r.site.Introduces(r.source.Addr()) {
		r.await(awaitHeader)
	} else {
		r.introduced()
	}
	return &r.client
}

func (w *crew) newRelay(client engine.Conn, l *listener.Listener) *relay {
	r := &relay{crew: w, l: l, site: l.Site(), index: len(w.relays), began: time.Now(), start: w.loop.Now()}
	r.client = side{r: r, conn: client}
	r.server.r = r
	r.source = unmapped(client.Peer())
	r.timer.Fire = r.expired
	w.relays = append(w.relays, r)
	w.open.Add(1)
	l.Accepted.Add(1)
	l.Open.Add(1)
	return r
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
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
